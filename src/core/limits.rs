//! Every hard limit, with its reason.

/// Largest record in bytes: a document larger than this is a file by mistake, and one record must fit
/// in memory once per thread.
pub const RECORD_BYTES: usize = 16 << 20;

/// Deepest nesting of a JSON record: what readers downstream accept (Python's and serde's limits are
/// of this order), and what keeps a recursive parser off the end of its stack.
pub const JSON_DEPTH: usize = 128;

/// Stack of a thread that parses: [`JSON_DEPTH`] levels of the parser fit with room to spare, in debug builds
/// too, whose frames are twenty times larger.
pub const PARSER_STACK_BYTES: usize = 16 << 20;

/// Largest ratio of decompressed to compressed bytes: real text stays under 30, zeros reach 32,000.
pub const EXPANSION_RATIO: u64 = 200;

/// Decompressed bytes below which the ratio is not looked at: small files may be very repetitive.
pub const EXPANSION_FLOOR_BYTES: u64 = 64 << 20;

/// Bytes of a quarantined record that are kept verbatim; of a larger one only this head.
pub const QUARANTINE_RAW_BYTES: usize = RECORD_BYTES;

/// Head kept of a record over [`RECORD_BYTES`].
pub const OVERSIZE_HEAD_BYTES: usize = 64 << 10;

/// Records in one job: ranks and ordinals are 32-bit, the last is kept for "none".
pub const RECORDS: u64 = u32::MAX as u64;

/// Signature slots: beyond this the estimator gains less than a thousandth.
pub const N_PERM: usize = 4096;

/// Bytes that a reader hands to a worker at once: fits the second-level cache with what is made of it.
pub const BLOCK_BYTES: usize = 256 << 10;

/// Most bytes of an uncompressed file that are one unit of resume and of `--shard`.
pub const PART_BYTES: u64 = 256 << 20;

/// Fewest bytes of such a unit.
pub const LEAST_PART_BYTES: u64 = 4 << 20;

/// Elements per row. A row of the largest is 64 KiB of f32: one fits a second-level cache many times over.
pub const DIM: usize = 16_384;

/// Neighbors per query that a backend selects at once: beyond this a sort of all distances is as fast.
pub const K: usize = 1024;

/// Largest file of a sentence model's weights: the largest models of this kind have 1.3 GiB, and all of it is read.
pub const MODEL_BYTES: u64 = 4 << 30;

/// Largest other file of such a model: a vocabulary of 250,000 tokens as JSON takes 17 MB.
pub const MODEL_TEXT_BYTES: u64 = 64 << 20;

/// Sections of a sealed file: one for each of [`INDEXED_FIELDS`] and some more; its header of 40 KiB is read at once.
pub const SECTIONS: usize = INDEXED_FIELDS + 64;

/// Bytes of a payload: one is read and written whole.
pub const PAYLOAD_BYTES: usize = 1 << 20;

/// Bytes of the name of a tenant or of a vector: a name, not a text.
pub const NAME_BYTES: usize = 255;

/// Names of vectors in a collection: each is looked at for every point.
pub const VECTOR_NAMES: usize = 64;

/// Values of a sparse vector: more terms than any model gives a text.
pub const SPARSE_VALUES: usize = 1 << 16;

/// Bytes of one vector of a point, of all its rows if it has several: one is read and written whole.
pub const VECTOR_BYTES: usize = 1 << 20;

/// Tenants of one point, which are stored with it: what more may read it is better a tenant of its own.
pub const TENANTS_PER_POINT: usize = 1 << 16;

/// Versions whose changes are remembered: an index that is further behind is built again as fast.
pub const CHANGE_LOG_VERSIONS: u64 = 1 << 20;

/// Points of a commit of a load: at this size the two waits for the disk are below a hundredth of it.
pub const LOAD_COMMIT_POINTS: usize = 10_000;

/// Points that an ingest reads, checks and stores at once; as many as a commit takes.
pub const INGEST_BLOCK_POINTS: usize = LOAD_COMMIT_POINTS;

/// Memory in which an ingest keeps what it has checked: up to here reading it again for storing would be half of the
/// processor's work; beyond, memory matters more.
pub const INGEST_HELD_BYTES: u64 = 512 << 20;

/// Memory of a payload as a tree, in bytes for each byte of its text: measured on payloads of package records.
pub const PAYLOAD_TREE_RATIO: u64 = 4;

/// Memory in which the record keeps pages: reads come from indexes, not from it.
pub const RECORD_CACHE_BYTES: usize = 64 << 20;

/// Bytes of the manifest of a snapshot: a line for each of some thousands of files.
pub const MANIFEST_BYTES: u64 = 1 << 20;

/// Bytes of a path into a payload: longer than any that a person writes.
pub const PATH_BYTES: usize = 1024;

/// Indexed fields of one collection: each takes a part of every write.
pub const INDEXED_FIELDS: usize = 256;

/// Conditions of one filter, nested ones included: each may cost a pass over a column.
pub const FILTER_CONDITIONS: usize = 1024;

/// Deepest nesting of a filter: what recursion over it can rely on.
pub const FILTER_DEPTH: usize = 16;

/// Values, ids or corners in one list of a filter.
pub const FILTER_VALUES: usize = 10_000;

/// Deepest nesting of prefetches: what recursion over a query can rely on.
pub const PREFETCH_DEPTH: usize = 16;

/// Prefetches of one query, nested ones included: each may cost a pass over all that it may find.
pub const PREFETCHES: usize = 64;

/// Examples of one kind of a query: every point that passes is compared with all of them.
pub const EXAMPLES: usize = 1024;

/// Candidates of which some are chosen that are unlike each other: each is compared with all that are chosen, which takes
/// seconds at this size.
pub const CANDIDATES: usize = 4096;

/// Terms of a formula, which is computed for every point that was prefetched.
pub const FORMULA_TERMS: usize = 1024;

/// Deepest nesting of a formula: what recursion over it can rely on.
pub const FORMULA_DEPTH: usize = 64;

/// Children of a node of the clustering tree: six bits of a path code name one.
pub const TREE_FAN_OUT: usize = 64;

/// Levels below the root of the clustering tree: six bits each of 64, and beyond 64^9 rows no set goes.
pub const TREE_LEVELS: usize = 9;

/// Bytes of sets of passing points that a collection remembers: some hundreds of wide filters over a million points, or a
/// hundred thousand small tenants.
pub const KNOWN_SETS_BYTES: u64 = 128 << 20;

/// Largest sealed file that is brought into memory as soon as it is opened: a million rows of a thousand 32-bit floats, with
/// codes and links. Of larger ones a process may need a part only.
pub const BROUGHT_BYTES: u64 = 8 << 30;

/// Deepest nesting of a payload: one that is deeper the parser refuses, so that it could be stored and not read.
pub const PAYLOAD_DEPTH: usize = 127;

/// Observations of one cache entry that count: a curve of two numbers is known by then, and is fitted in a tenth of a
/// millisecond.
pub const OBSERVATIONS: usize = 128;

/// Requests of one category of a stream that is calibrated: each is compared with all before it, which takes a minute at this
/// size.
pub const STREAM_REQUESTS: usize = 50_000;

/// Tokens between the common beginning and the common end of two prompts that are aligned: all of one are compared with all of
/// the other, a millisecond at this size.
pub const ALIGNED_TOKENS: usize = 512;

/// Points of one batch of a change of many: what they hold is in memory at once, and a wait for the disk is a hundredth of it.
pub const BATCH_POINTS: usize = 10_000;

/// Points, values or tenants of one page: it is made whole in memory.
pub const PAGE: usize = 100_000;

/// Keys in one file, revoked ones included: it is read whole whenever it changes.
pub const KEYS: usize = 10_000;

/// Collections that one key names: each is looked at for every request.
pub const KEY_COLLECTIONS: usize = 1000;

/// Share of the workers that a key can be given, in shares of a user who was given none.
pub const KEY_WEIGHT: u32 = 100;

/// Bytes of the file of keys.
pub const KEY_FILE_BYTES: u64 = 16 << 20;

/// Keys that are none, from one address in a second: a person mistypes less often, a program that tries keys is slowed down.
pub const KEY_FAILURES_PER_SECOND: u32 = 10;

/// Addresses whose failures are counted each for itself; beyond, in the second in which they came, they share a count.
pub const FAILING_ADDRESSES: usize = 10_000;

/// Bytes of a text that a cache keeps: what an embedder reads is far less.
pub const CACHE_TEXT_BYTES: usize = 64 << 10;

/// Bytes of an answer that a cache keeps: with its text it is one payload.
pub const CACHE_ANSWER_BYTES: usize = PAYLOAD_BYTES - CACHE_TEXT_BYTES - 64;

/// Bytes of tags and attributes of an answer in a cache: they are in memory, and with names and hashes one vector of the record.
pub const CACHE_LABEL_BYTES: usize = 8 << 10;
