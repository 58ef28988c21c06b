#![allow(clippy::unwrap_used, dead_code)]
#[path = "it/cache/mod.rs"]
mod cache;
mod support {
    #[path = "/tmp/w/cache/tests/it/support/faulty_disk.rs"]
    pub mod faulty_disk;
}
