//! Pages of one column: sizes from their headers before they are decompressed, counts inside them
//! before they are decoded.

use std::fs::File;
use std::io::Read;
use std::sync::Arc;

use flate2::read::MultiGzDecoder;
use parquet::basic::{Compression, Encoding};
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::Result as ParquetResult;
use parquet::file::metadata::{ColumnChunkMetaData, RowGroupMetaData};
use parquet::file::properties::ReaderProperties;
use parquet::file::serialized_reader::SerializedPageReader;
use parquet::schema::types::ColumnDescPtr;

use super::delta::check_page;
use super::file::read_at;
use super::guard::Fault;
use super::thrift::{PageHeader, Stop, page_header};
use crate::core::limits::{EXPANSION_FLOOR_BYTES, EXPANSION_RATIO};

/// Largest page once decompressed: writers end a page at about 1 MiB, but some only every 1,024
/// rows.
const PAGE_BYTES: u64 = 1 << 30;

/// Bytes first read for a page header, and most: it may hold the smallest and the largest value.
const HEADER_BYTES: (u64, u64) = (1 << 10, 16 << 20);

/// Largest page for which the three meanings of the old LZ4 codec are tried: one of them does not
/// heed the declared size, and reaches 255 times the compressed one.
const OLD_LZ4_BYTES: u64 = 4 << 20;

/// What the page headers of a column say.
#[derive(Debug, Default)]
pub(super) struct ChunkPages {
    /// Bytes of a row in the page with the fewest rows per byte.
    pub widest_row_bytes: u64,
    /// Bytes of the largest page as it is in the file.
    largest_bytes: u64,
    n_values: u64,
}

impl ChunkPages {
    /// Walks the page headers of `chunk`, whose bytes lie inside `file`.
    pub fn scan(file: &File, chunk: &ColumnChunkMetaData) -> Result<Self, Fault> {
        let (mut at, len) = chunk.byte_range();
        let end = at + len;
        let mut pages = Self::default();
        while at < end {
            let (header, header_bytes) = read_header(file, at, end - at)?;
            at += header_bytes;
            check_sizes(&header, end - at)?;
            check_expansion(file, at, &header, chunk.compression())?;
            pages.add(&header);
            at += header.compressed_bytes.unsigned_abs() as u64;
        }
        if pages.n_values > chunk.num_values().unsigned_abs() {
            let declared = chunk.num_values();
            let message = format!("{} values in pages, {declared} declared", pages.n_values);
            return Err(Fault::Corrupt(message));
        }
        Ok(pages)
    }

    fn add(&mut self, header: &PageHeader) {
        self.largest_bytes = self.largest_bytes.max(header.compressed_bytes.unsigned_abs().into());
        if matches!(header.kind, 0 | 3) && header.n_values > 0 {
            let n_values = u64::from(header.n_values.unsigned_abs());
            let bytes = u64::from(header.uncompressed_bytes.unsigned_abs());
            // With shared prefixes, every value may be as long as all suffixes together.
            let shares_prefixes = header.encoding == Encoding::DELTA_BYTE_ARRAY as i32;
            let row_bytes = if shares_prefixes { bytes } else { bytes.div_ceil(n_values) };
            self.widest_row_bytes = self.widest_row_bytes.max(row_bytes);
            self.n_values += n_values;
        }
    }
}

/// The header at byte `at`, and its length.
fn read_header(file: &File, at: u64, limit: u64) -> Result<(PageHeader, u64), Fault> {
    let (mut want, most) = HEADER_BYTES;
    loop {
        let bytes = read_at(file, at, want.min(limit))?;
        match page_header(&bytes) {
            Ok((header, len)) => return Ok((header, len as u64)),
            Err(Stop::Short) if want < limit.min(most) => want *= 4,
            Err(stop) => return Err(stop.into()),
        }
    }
}

fn check_sizes(header: &PageHeader, left: u64) -> Result<(), Fault> {
    let compressed = u64::try_from(header.compressed_bytes);
    let uncompressed = u64::try_from(header.uncompressed_bytes);
    let (Ok(compressed), Ok(uncompressed)) = (compressed, uncompressed) else {
        return Err(Fault::corrupt("a page of fewer than no bytes"));
    };
    if compressed > left || header.n_values < 0 {
        let message = format!("a page of {compressed} bytes where {left} are left");
        return Err(Fault::Corrupt(message));
    }
    let limit = EXPANSION_FLOOR_BYTES.max(compressed * EXPANSION_RATIO).min(PAGE_BYTES);
    if uncompressed > limit {
        let message = format!(
            "a page of {uncompressed} bytes from {compressed}, limit x{EXPANSION_RATIO} and \
             {PAGE_BYTES}"
        );
        return Err(Fault::Expansion(message));
    }
    Ok(())
}

/// gzip and Brotli are decompressed to their end by the decoder, whatever the header says: theirs
/// are counted first. The other codecs stop at the declared size.
fn check_expansion(
    file: &File,
    at: u64,
    header: &PageHeader,
    compression: Compression,
) -> Result<(), Fault> {
    let is_unbounded = matches!(compression, Compression::GZIP(_) | Compression::BROTLI(_));
    if !is_unbounded || header.is_plain || header.kind == 1 {
        return Ok(());
    }
    let compressed = i64::from(header.compressed_bytes);
    let declared = i64::from(header.uncompressed_bytes);
    let levels = i64::from(header.level_bytes[0]) + i64::from(header.level_bytes[1]);
    if header.level_bytes.iter().any(|&n| n < 0) || levels > compressed || levels > declared {
        return Err(Fault::corrupt("levels longer than their page"));
    }
    let [levels, compressed, declared] = [levels, compressed, declared].map(i64::unsigned_abs);
    if declared == levels {
        // Nothing but levels: the rest is not decompressed.
        return Ok(());
    }
    let body = read_at(file, at + levels, compressed - levels)?;
    let n = match compression {
        Compression::GZIP(_) => count(MultiGzDecoder::new(&body[..]), declared)?,
        _ => count(brotli::Decompressor::new(&body[..], 4096), declared)?,
    };
    if n > declared - levels {
        let message = format!("a page decompresses to more than its {declared} bytes");
        return Err(Fault::Expansion(message));
    }
    Ok(())
}

/// Decompressed bytes, counted to just over `limit`.
fn count(stream: impl Read, limit: u64) -> Result<u64, Fault> {
    Ok(std::io::copy(&mut stream.take(limit + 1), &mut std::io::sink())?)
}

/// Pages of a column whose headers have been checked.
pub(super) struct GuardedPages {
    inner: SerializedPageReader<File>,
    column: ColumnDescPtr,
}

impl GuardedPages {
    /// Pages of column `leaf` of `group`.
    pub fn open(
        file: &Arc<File>,
        group: &RowGroupMetaData,
        leaf: usize,
        pages: &ChunkPages,
    ) -> Result<Self, Fault> {
        let chunk = group.column(leaf);
        let properties = ReaderProperties::builder()
            .set_backward_compatible_lz4(pages.largest_bytes <= OLD_LZ4_BYTES)
            .build();
        let inner = SerializedPageReader::new_with_properties(
            Arc::clone(file),
            chunk,
            group.num_rows().unsigned_abs() as usize,
            None,
            Arc::new(properties),
        )?;
        Ok(Self { inner, column: chunk.column_descr_ptr() })
    }
}

impl PageReader for GuardedPages {
    fn get_next_page(&mut self) -> ParquetResult<Option<Page>> {
        while let Some(page) = self.inner.get_next_page()? {
            check_page(&page, &self.column)?;
            // An empty page would be taken for the end of the column.
            if page.is_dictionary_page() || page.num_values() > 0 {
                return Ok(Some(page));
            }
        }
        Ok(None)
    }

    fn peek_next_page(&mut self) -> ParquetResult<Option<PageMetadata>> {
        self.inner.peek_next_page()
    }

    fn skip_next_page(&mut self) -> ParquetResult<()> {
        self.inner.skip_next_page()
    }

    fn at_record_boundary(&mut self) -> ParquetResult<bool> {
        self.inner.at_record_boundary()
    }
}

impl Iterator for GuardedPages {
    type Item = ParquetResult<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, Write};

    use flate2::write::GzEncoder;

    use super::*;

    fn header(uncompressed_bytes: i32, compressed_bytes: i32) -> PageHeader {
        PageHeader { uncompressed_bytes, compressed_bytes, ..PageHeader::default() }
    }

    #[test]
    fn pages_that_grow_too_much_are_refused_by_their_header() {
        assert!(check_sizes(&header(50 << 20, 10), 10).is_ok(), "small pages may be repetitive");
        assert_eq!(check_sizes(&header(70 << 20, 10), 10).unwrap_err().code(), "expansion");
        assert!(check_sizes(&header(70 << 20, 1 << 20), 1 << 20).is_ok());
        for (uncompressed, compressed) in [(-1, 5), (5, -1), (5, 11)] {
            let fault = check_sizes(&header(uncompressed, compressed), 10).unwrap_err();
            assert_eq!(fault.code(), "parquet_corrupt");
        }
    }

    #[test]
    fn gzip_and_brotli_that_grow_past_their_header_are_refused() {
        let zeros = vec![0; 1 << 20];
        let mut gzip = GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(&zeros).unwrap();
        let gzip = gzip.finish().unwrap();
        let mut brotli = brotli::CompressorWriter::new(Vec::new(), 4096, 1, 22);
        brotli.write_all(&zeros).unwrap();
        let brotli = brotli.into_inner();
        for (bytes, codec) in [
            (gzip, Compression::GZIP(Default::default())),
            (brotli, Compression::BROTLI(Default::default())),
        ] {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&bytes).unwrap();
            file.rewind().unwrap();
            let check = |n| check_expansion(&file, 0, &header(n, bytes.len() as i32), codec);
            assert!(check(1 << 20).is_ok());
            assert_eq!(check(1000).unwrap_err().code(), "expansion");
        }
    }
}
