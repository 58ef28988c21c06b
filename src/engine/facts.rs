//! What a collection holds, and what that takes: of memory, part by part, and of disk, file by file.

use crate::core::metric::Metric;
use crate::core::rows::Dtype;
use crate::engine::base::Exact;
use crate::engine::collection::Collection;
use crate::engine::near::Near;
use crate::engine::seal::{is_of_index, sealed_version};
use crate::engine::settings::VectorShape;
use crate::engine::space::Space;
use crate::engine::spaces::VectorSpace;
use crate::engine::state::State;
use crate::error::Result;
use crate::index::graph::codes::signs::Signs;
use crate::index::graph::distances::Distances;
use crate::store::columns::Kind;
use crate::store::columns::path::Path;
use crate::store::disk::{At, Entry, Mode};
use crate::store::durable::RECORD;

/// Rows that came since the index was built, up to which comparing them all takes less time than is noticed.
const SEAL_ROWS: u64 = 4096;

/// The part of the base, as a divisor, up to which it is left at that.
const SEAL_SHARE: u64 = 16;

/// What a collection holds at one version.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// Points.
    pub n_points: u64,
    /// Data version of the record: it grows with every write.
    pub version: u64,
    /// Tenants that may read at least one point.
    pub n_tenants: u64,
    /// The vectors of a point, as they are numbered in the settings.
    pub vectors: Vec<VectorFacts>,
    /// Payload fields with columns: bytes of each column.
    pub columns: Vec<(Path, Kind, u64)>,
    /// Bytes of all columns, with what fields know beside their columns.
    pub column_bytes: u64,
    /// Bytes of what says which point lies where.
    pub place_bytes: u64,
    /// The index, if one is sealed and could be opened.
    pub index: Option<IndexFacts>,
    /// Files of the folder with their bytes, sorted by name.
    pub files: Vec<(String, u64)>,
}

/// What one vector of all points takes, in memory or mapped from files. Parts that were not built take nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorFacts {
    /// Its name.
    pub name: String,
    /// Elements.
    pub dim: usize,
    /// How it is compared.
    pub metric: Metric,
    /// Element type in which it is kept.
    pub dtype: Dtype,
    /// What a point has of it.
    pub shape: VectorShape,
    /// Rows, or points of another shape than rows, that lie in the index, or were read when the collection was opened; those of places that are free included.
    pub n_base: u64,
    /// Those that came since.
    pub n_recent: u64,
    /// Bytes of the rows of the base.
    pub row_bytes: u64,
    /// Bytes of the lists of the base of a sparse vector.
    pub posting_bytes: u64,
    /// Bytes of the codes that near ways compare, their signs included.
    pub code_bytes: u64,
    /// Bytes of the codes that rule out for exact answers, as their backend keeps them.
    pub exact_code_bytes: u64,
    /// Bytes of the clustering tree, path codes included.
    pub tree_bytes: u64,
    /// Bytes of the graph.
    pub graph_bytes: u64,
    /// Bytes of what came since.
    pub recent_bytes: u64,
}

/// The sealed index, in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexFacts {
    /// The version of the record that it was sealed at.
    pub version: u64,
    /// Points that came or got another vector since.
    pub n_points_since: u64,
    /// Places in it whose point is gone or lies elsewhere since.
    pub n_gone_since: u64,
}

impl VectorFacts {
    fn of(space: &VectorSpace) -> Self {
        let (settings, (n_base, n_recent)) = (space.settings(), space.n_points());
        let facts = Self {
            name: settings.name.clone(),
            dim: settings.dim,
            metric: settings.metric,
            dtype: settings.dtype,
            shape: settings.shape,
            n_base,
            n_recent,
            row_bytes: 0,
            posting_bytes: 0,
            code_bytes: 0,
            exact_code_bytes: 0,
            tree_bytes: 0,
            graph_bytes: 0,
            recent_bytes: 0,
        };
        match space {
            VectorSpace::Dense(space) => facts.with_dense(space),
            VectorSpace::Multi(space) => {
                let (row_bytes, recent_bytes) = space.n_bytes();
                Self { row_bytes, recent_bytes, ..facts }
            }
            VectorSpace::Sparse(space) => Self {
                posting_bytes: space.base().n_bytes(),
                recent_bytes: space.recent_bytes(),
                ..facts
            },
        }
    }

    fn with_dense(self, space: &Space) -> Self {
        let (base, near) = (space.base.as_ref(), space.near());
        let exact_codes = base.map_or(0, |base| match &base.exact {
            Exact::Codes(index) => index.codes().n_bytes(),
            Exact::Raw(_) => 0,
        });
        let codes = near.and_then(|near| near.codes.as_ref());
        let signs = near.and_then(|near| near.signs.as_ref());
        Self {
            row_bytes: base.map_or(0, |base| base.rows().n_bytes()),
            code_bytes: codes.map_or(0, |codes| (codes.n_slots() * codes.row_bytes()) as u64)
                + signs.map_or(0, Signs::n_bytes),
            exact_code_bytes: exact_codes,
            tree_bytes: near.map_or(0, Near::tree_bytes),
            graph_bytes: near.map_or(0, |near| near.graph.n_bytes()),
            recent_bytes: space.recent().n_bytes(),
            ..self
        }
    }

    /// The parts by name.
    pub fn parts(&self) -> [(&'static str, u64); 7] {
        [
            ("rows", self.row_bytes),
            ("postings", self.posting_bytes),
            ("codes", self.code_bytes),
            ("exact_codes", self.exact_code_bytes),
            ("tree", self.tree_bytes),
            ("graph", self.graph_bytes),
            ("recent", self.recent_bytes),
        ]
    }
}

impl Facts {
    /// The parts by name, over all vectors.
    pub fn parts(&self) -> Vec<(&'static str, u64)> {
        let mut all: Vec<(&'static str, u64)> = Vec::new();
        for (name, n_bytes) in self.vectors.iter().flat_map(VectorFacts::parts) {
            match all.iter_mut().find(|part| part.0 == name) {
                Some(part) => part.1 += n_bytes,
                None => all.push((name, n_bytes)),
            }
        }
        all.extend([("columns", self.column_bytes), ("places", self.place_bytes)]);
        all
    }

    /// Bytes of all parts.
    pub fn n_bytes(&self) -> u64 {
        self.parts().iter().map(|part| part.1).sum()
    }

    /// Bytes of the record.
    pub fn record_bytes(&self) -> u64 {
        self.bytes_of_files(|name| name == RECORD)
    }

    /// Bytes of the files of the index, which are mapped.
    pub fn index_file_bytes(&self) -> u64 {
        self.bytes_of_files(is_of_index)
    }

    /// Bytes of all files.
    pub fn file_bytes(&self) -> u64 {
        self.bytes_of_files(|_| true)
    }

    fn bytes_of_files(&self, is_wanted: impl Fn(&str) -> bool) -> u64 {
        self.files.iter().filter(|(name, _)| is_wanted(name)).map(|file| file.1).sum()
    }
}

impl Collection {
    /// What the collection holds, and what that takes.
    ///
    /// # Errors
    /// Those of the record and the disk; as for [`Self::search`], if an earlier write could not be followed.
    pub fn facts(&self) -> Result<Facts> {
        let files = self.files()?;
        let newest = sealed_version(&**self.record.disk(), self.record.folder())?;
        self.read(|state| {
            let tenants = state.view.tenants()?;
            let columns = state.columns.list();
            Ok(Facts {
                n_points: state.n_points(),
                version: state.version,
                n_tenants: tenants.iter().filter(|(_, _, n_points)| *n_points > 0).count() as u64,
                vectors: state.spaces.iter().map(VectorFacts::of).collect(),
                columns: columns
                    .map(|(path, kind, n_bytes)| (path.clone(), kind, n_bytes as u64))
                    .collect(),
                column_bytes: state.columns.n_bytes() as u64,
                place_bytes: state.places.n_bytes(),
                index: newest
                    .filter(|_| {
                        let mut dense = state.spaces.iter().filter_map(VectorSpace::dense);
                        dense.all(|space| space.base.is_none() || space.near().is_some())
                    })
                    .map(|version| index(state, version)),
                files,
            })
        })
    }

    /// Data version of the record: it grows with every write.
    ///
    /// # Errors
    /// As for [`Self::search`], if an earlier write could not be followed.
    pub fn version(&self) -> Result<u64> {
        self.read(|state| Ok(state.version))
    }

    /// Whether so many rows came since the index was built that [`Self::seal`] pays: they are all compared for every query.
    ///
    /// # Errors
    /// As for [`Self::search`], if an earlier write could not be followed.
    pub fn is_seal_due(&self) -> Result<bool> {
        self.read(|state| {
            let is_due = |space: &VectorSpace| {
                let (n_base, n_recent) = space.n_points();
                n_recent > SEAL_ROWS.max(n_base / SEAL_SHARE)
            };
            Ok(state.spaces.iter().any(is_due))
        })
    }

    /// Rows that lie in an index by which near ways go, and points in the lists of sparse vectors.
    ///
    /// # Errors
    /// As for [`Self::search`], if an earlier write could not be followed.
    pub fn n_indexed(&self) -> Result<u64> {
        self.read(|state| {
            let n_indexed = |space: &VectorSpace| match space {
                VectorSpace::Dense(space) if space.near().is_some() => u64::from(space.n_base()),
                VectorSpace::Sparse(space) => space.n_points().0,
                VectorSpace::Dense(_) | VectorSpace::Multi(_) => 0,
            };
            Ok(state.spaces.iter().map(n_indexed).sum())
        })
    }

    /// Files of the folder with their bytes.
    fn files(&self) -> Result<Vec<(String, u64)>> {
        let (disk, folder) = (&**self.record.disk(), self.record.folder());
        let mut files = Vec::new();
        for name in disk.list(folder).at("list", folder)? {
            let path = folder.join(&name);
            if disk.entry(&path).at("look at", &path)? == Some(Entry::File) {
                let file = disk.open(&path, Mode::Read).at("open", &path)?;
                let n_bytes = file.n_bytes().at("look at", &path)?;
                files.push((name, n_bytes));
            }
        }
        Ok(files)
    }
}

fn index(state: &State, version: u64) -> IndexFacts {
    let places = &state.places;
    let n_base = places.n_base();
    let n_left = places.live().range_cardinality(0..n_base);
    IndexFacts {
        version,
        n_points_since: places.live().len() - n_left,
        n_gone_since: places.base().n_points() - n_left,
    }
}
