//! Lines of a text file, whole and decompressed, with their numbers.

use std::path::Path;

use crate::core::limits::RECORD_BYTES;
use crate::error::{Error, ErrorKind, Result};
use crate::record::Problem;
use crate::record::codec::{Compression, Stream, head};

/// Bytes that are looked at to see how a file is compressed.
const HEAD: usize = 8;

/// Bytes read at once.
const CHUNK: usize = 256 << 10;

/// Calls `take` with every line of a file, counted from 1, without its end; a last line may lack one. gzip and zstd are
/// known by content.
///
/// # Errors
/// `not_found` and what reading the file gives; `line_utf8`, `line_length` over 16 MiB; those of `take`.
pub fn each(path: &Path, take: &mut dyn FnMut(usize, &str) -> Result<()>) -> Result<()> {
    let failed = |problem: Problem| {
        Error::new(
            ErrorKind::BadInput,
            problem.code,
            format!("{}: {}", path.display(), problem.message),
        )
    };
    let first = head(path, Compression::None, HEAD).map_err(failed)?;
    let mut stream = Stream::open(path, Compression::of(&first)).map_err(failed)?;
    let (mut buffer, mut waiting, mut number) = (vec![0; CHUNK], Vec::new(), 0);
    loop {
        let n = stream.read(&mut buffer).map_err(failed)?;
        waiting.extend_from_slice(&buffer[..n]);
        let mut start = 0;
        while let Some(len) = memchr::memchr(b'\n', &waiting[start..]) {
            number += 1;
            one(path, number, &waiting[start..start + len], take)?;
            start += len + 1;
        }
        waiting.drain(..start);
        if waiting.len() > RECORD_BYTES {
            let message =
                format!("{}, line {}: over {RECORD_BYTES} bytes", path.display(), number + 1);
            return Err(Error::new(ErrorKind::Limit, "line_length", message));
        }
        if n == 0 {
            break;
        }
    }
    if waiting.is_empty() { Ok(()) } else { one(path, number + 1, &waiting, take) }
}

fn one(
    path: &Path,
    number: usize,
    bytes: &[u8],
    take: &mut dyn FnMut(usize, &str) -> Result<()>,
) -> Result<()> {
    let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    let line = simdutf8::compat::from_utf8(bytes).map_err(|error| {
        let message = format!(
            "{}, line {number}: no UTF-8 from byte {} on",
            path.display(),
            error.valid_up_to()
        );
        Error::new(ErrorKind::BadInput, "line_utf8", message)
    })?;
    take(number, line)
}
