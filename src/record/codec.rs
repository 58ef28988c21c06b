//! Bytes of a file, decompressed if need be, by content rather than by name.
//!
//! gzip: every member is read. zstd: every frame is read, checksums are checked. Both stop at the
//! expansion limit.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;

use crate::core::limits::{EXPANSION_FLOOR_BYTES, EXPANSION_RATIO};
use crate::record::Problem;

/// How the bytes of a file are wrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip, any number of members.
    Gzip,
    /// zstd, any number of frames.
    Zstd,
}

impl Compression {
    /// By the first bytes of a file.
    pub fn of(head: &[u8]) -> Self {
        match head {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            // A skippable frame may come first.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::None,
        }
    }

    /// File name suffix, with its dot.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Gzip => ".gz",
            Self::Zstd => ".zst",
        }
    }
}

/// Whether the first zstd frame in `head` carries a checksum of its content.
pub fn zstd_has_checksum(head: &[u8]) -> bool {
    head.get(4).is_none_or(|descriptor| descriptor & 0x04 != 0)
}

/// Decompressed bytes of one file, with the position in the compressed one.
pub struct Stream {
    inner: Box<dyn Read + Send>,
    consumed: Arc<AtomicU64>,
    produced: u64,
    compression: Compression,
}

impl Stream {
    /// Opens `path`, whose wrapping is known to be `compression`.
    ///
    /// # Errors
    /// `input_unreadable` if the file cannot be opened.
    pub fn open(path: &Path, compression: Compression) -> Result<Self, Problem> {
        let file = File::open(path).map_err(|error| unreadable(path, &error))?;
        Self::over(file, compression).map_err(|error| unreadable(path, &error))
    }

    /// The standard input, however its first bytes say that it is wrapped.
    ///
    /// # Errors
    /// `input_unreadable`.
    pub fn stdin() -> Result<Self, Problem> {
        let mut head = Vec::new();
        let mut stdin = io::stdin();
        let first = (&mut stdin).take(4).read_to_end(&mut head);
        let stream = first.and_then(|_| {
            let compression = Compression::of(&head);
            Self::over(io::Cursor::new(head).chain(stdin), compression)
        });
        stream.map_err(|error| unreadable(Path::new("standard input"), &error))
    }

    fn over(bytes: impl Read + Send + 'static, compression: Compression) -> io::Result<Self> {
        let consumed = Arc::new(AtomicU64::new(0));
        let counted = Counted { inner: bytes, consumed: Arc::clone(&consumed) };
        let buffered = BufReader::with_capacity(256 << 10, counted);
        let inner: Box<dyn Read + Send> = match compression {
            Compression::None => Box::new(buffered),
            Compression::Gzip => Box::new(MultiGzDecoder::new(buffered)),
            Compression::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(buffered)?),
        };
        Ok(Self { inner, consumed, produced: 0, compression })
    }

    /// Reads some bytes into `buffer`; 0 at the end.
    ///
    /// # Errors
    /// `gzip_truncated`, `gzip_corrupt`, `zstd_truncated`, `zstd_corrupt`, `expansion` or
    /// `input_unreadable`; what was read before stays good.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Problem> {
        let n = loop {
            match self.inner.read(buffer) {
                Ok(n) => break n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.problem(&error)),
            }
        };
        self.produced += n as u64;
        let consumed = self.consumed.load(Ordering::Relaxed);
        if self.compression != Compression::None
            && self.produced > EXPANSION_FLOOR_BYTES
            && self.produced > EXPANSION_RATIO.saturating_mul(consumed)
        {
            let message = format!(
                "{} bytes from {consumed}, limit x{EXPANSION_RATIO} past {EXPANSION_FLOOR_BYTES} bytes",
                self.produced
            );
            return Err(Problem::new("expansion", message));
        }
        Ok(n)
    }

    fn problem(&self, error: &io::Error) -> Problem {
        let at = self.consumed.load(Ordering::Relaxed);
        let cut = error.kind() == io::ErrorKind::UnexpectedEof;
        let code = match (self.compression, cut) {
            (Compression::None, _) => "input_unreadable",
            (Compression::Gzip, true) => "gzip_truncated",
            (Compression::Gzip, false) => "gzip_corrupt",
            (Compression::Zstd, true) => "zstd_truncated",
            (Compression::Zstd, false) => "zstd_corrupt",
        };
        Problem::new(code, format!("{error}, near compressed byte {at}; what came before is kept"))
    }
}

/// The problem of a file that the operating system will not give us.
pub fn unreadable(path: &Path, error: &io::Error) -> Problem {
    Problem::new("input_unreadable", format!("{}: {error}", path.display()))
}

struct Counted<R> {
    inner: R,
    consumed: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.consumed.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

/// The first `want` decompressed bytes of a file, or fewer.
///
/// # Errors
/// As [`Stream::read`].
pub fn head(path: &Path, compression: Compression, want: usize) -> Result<Vec<u8>, Problem> {
    let mut stream = Stream::open(path, compression)?;
    let mut bytes = vec![0; want];
    let mut len = 0;
    while len < want {
        match stream.read(&mut bytes[len..]) {
            Ok(0) => break,
            Ok(n) => len += n,
            // A damaged file still shows its format by what could be read.
            Err(_) if len > 0 => break,
            Err(problem) => return Err(problem),
        }
    }
    bytes.truncate(len);
    Ok(bytes)
}
