//! What can be said of a file of vectors.

use crate::core::rows::Dtype;
use crate::error::{Error, Result};

#[derive(Debug, clap::Args)]
pub struct VectorArgs {
    /// Column of the vectors in Parquet: lists of floats, of UInt8 or of Int8; without, `vector` or the only such column
    #[arg(long, value_name = "F")]
    pub vector_field: Option<String>,

    /// Element type to keep: f32, f16 or u8; without, the input's own (f32 of JSON). Floats are rounded to shorter ones; u8
    /// takes whole numbers from 0 to 255 only
    #[arg(long, value_name = "TYPE", value_parser = storage)]
    pub storage: Option<Dtype>,
}

/// An element type that can be kept, by its name.
pub fn storage(text: &str) -> Result<Dtype> {
    let known = [Dtype::F32, Dtype::F16, Dtype::U8];
    known
        .into_iter()
        .find(|dtype| dtype.name() == text)
        .ok_or_else(|| Error::usage("storage", format!("{text:?}, expected f32, f16 or u8")))
}
