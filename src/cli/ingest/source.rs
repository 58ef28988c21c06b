//! Points of whatever was named, one block after the other.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use crate::core::limits::PAYLOAD_TREE_RATIO;
use crate::core::rows::Rows;
use crate::engine::NewPoint;
use crate::error::{Error, ErrorKind, Result};
use crate::record::Problem;

/// Points to store.
pub struct Block {
    /// The number of the first, from 0.
    pub first_row: usize,
    pub points: Vec<NewPoint>,
    /// A row for each.
    pub rows: Rows,
    /// What the rows were in the input, if that is another type.
    pub made_of: Option<&'static str>,
    /// Where ids were read; `None` if they are the numbers of rows.
    pub ids_in: Option<Place>,
    /// Where payloads were read; `None` if there are none.
    pub payloads_in: Option<Place>,
    /// Where vectors were read.
    pub vectors_in: Place,
    /// Bytes of input that the progress counts.
    pub n_bytes: u64,
    /// Bytes of the payloads' texts.
    pub payload_bytes: u64,
}

/// Blocks that were checked, while they fit in memory.
pub struct Held {
    blocks: Option<Vec<Block>>,
    bytes_left: u64,
}

impl Held {
    /// None yet, of about this much memory at most.
    pub fn new(budget_bytes: u64) -> Self {
        Self { blocks: Some(Vec::new()), bytes_left: budget_bytes }
    }

    /// Keeps one more block, or lets go of all if they are too many.
    pub fn keep(&mut self, block: Block) {
        let n_bytes = block.rows.n_bytes() + PAYLOAD_TREE_RATIO * block.payload_bytes;
        match self.bytes_left.checked_sub(n_bytes) {
            Some(left) => self.bytes_left = left,
            None => self.blocks = None,
        }
        if let Some(blocks) = &mut self.blocks {
            blocks.push(block);
        }
    }

    /// All blocks, unless they were too many.
    pub fn into_blocks(self) -> Option<Vec<Block>> {
        self.blocks
    }
}

/// Reads points in order.
pub trait Points: Send {
    /// The next points, or `None` at the end.
    fn next(&mut self) -> Result<Option<Block>>;
}

/// A file, and how its rows are counted.
#[derive(Clone, Debug)]
pub struct Place {
    name: Arc<str>,
    is_of_lines: bool,
}

impl Place {
    /// Rows are lines, from 1.
    pub fn lines(name: &str) -> Self {
        Self { name: name.into(), is_of_lines: true }
    }

    /// Rows are counted from 0.
    pub fn rows(path: &Path) -> Self {
        Self { name: path.display().to_string().into(), is_of_lines: false }
    }

    /// Where row `row` stands.
    pub fn of(&self, row: usize) -> String {
        let name = &self.name;
        if self.is_of_lines {
            format!("{name}, line {}", row + 1)
        } else {
            format!("{name}, row {row}")
        }
    }

    /// An error in row `row`.
    pub fn bad(&self, row: usize, code: &'static str, what: impl fmt::Display) -> Error {
        Error::new(ErrorKind::BadInput, code, format!("{}: {what}", self.of(row)))
    }

    /// A problem of row `row`.
    pub fn problem(&self, row: usize, problem: &Problem) -> Error {
        let is_limit = problem.code == "payload_size";
        let kind = if is_limit { ErrorKind::Limit } else { ErrorKind::BadInput };
        Error::new(kind, problem.code, format!("{}: {}", self.of(row), problem.message))
    }
}

/// Calls `take` with every block, while the next one is read.
///
/// # Errors
/// Those of reading and of `take`; what comes after is not read.
pub fn each_block(
    mut points: Box<dyn Points>,
    take: &mut dyn FnMut(Block) -> Result<()>,
) -> Result<()> {
    std::thread::scope(|scope| {
        let (sender, blocks) = sync_channel(1);
        scope.spawn(move || {
            loop {
                let block = points.next().transpose();
                let is_last = !matches!(block, Some(Ok(_)));
                // Nobody listens any more after an error of `take`.
                if block.is_none_or(|block| sender.send(block).is_err()) || is_last {
                    return;
                }
            }
        });
        blocks.iter().try_for_each(|block| take(block?))
    })
}
