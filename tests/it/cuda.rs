//! The CUDA backend over the emulator: the same kernels and the same host code as on a card, in three orders of threads. And
//! what a machine without a driver is told.

use std::sync::Arc;

use nearkin::backend::cuda::launcher::{DeviceFacts, Launch, Launcher};
use nearkin::backend::cuda::{Cuda, Options};
use nearkin::backend::plain::Plain;
use nearkin::backend::{Backend, Stream, Tile};
use nearkin::core::allow::Allow;
use nearkin::core::metric::Metric;
use nearkin::core::mix::stream;
use nearkin::core::rows::{Rows, Values};
use nearkin::{Error, ErrorKind, Result};
use nearkin_emulator::{Emulator, Schedule};

use crate::conformance::{self, Effort};

const STREAM: Stream = Stream(0);

/// The emulator behind the seam.
struct Emulated {
    device: Emulator,
    facts: DeviceFacts,
}

impl Emulated {
    fn new(schedule: Schedule, n_threads: u32) -> Arc<Self> {
        let memory_bytes = 1 << 30;
        let device = Emulator::new(schedule, n_threads, memory_bytes);
        let facts = DeviceFacts {
            name: device.name(),
            driver: "none".to_owned(),
            capability: (8, 0),
            n_processors: 2,
            shared_bytes: 163 << 10,
            memory_bytes,
            n_streams: 2,
        };
        Arc::new(Self { device, facts })
    }
}

impl Launcher for Emulated {
    fn facts(&self) -> &DeviceFacts {
        &self.facts
    }

    fn memory(&self) -> Result<(u64, u64)> {
        Ok(self.device.memory())
    }

    fn allocate(&self, n_bytes: u64) -> Result<u64> {
        let refused = || Error::new(ErrorKind::Device, "device_oom", format!("{n_bytes} bytes"));
        self.device.allocate(n_bytes as usize).ok_or_else(refused)
    }

    fn free(&self, address: u64) {
        self.device.free(address);
    }

    fn copy_in(&self, _: Stream, address: u64, bytes: &[u8]) -> Result<()> {
        self.device.copy_in(address, bytes);
        Ok(())
    }

    fn copy_out(&self, _: Stream, address: u64, bytes: &mut [u8]) -> Result<()> {
        self.device.copy_out(address, bytes);
        Ok(())
    }

    fn fill(&self, _: Stream, address: u64, byte: u8, n_bytes: u64) -> Result<()> {
        self.device.fill(address, byte, n_bytes as usize);
        Ok(())
    }

    fn lend(&self, _: Stream, address: u64, n_bytes: u64) -> Result<()> {
        self.device.lend(address, n_bytes as usize);
        Ok(())
    }

    fn launch(&self, _: Stream, launch: &Launch) -> Result<()> {
        let block = [launch.n_threads(), 1, 1];
        self.device
            .launch(launch.kernel(), launch.grid(), block, launch.shared_bytes(), launch.args())
            .map_err(|message| Error::new(ErrorKind::Device, "device_failed", message))
    }

    fn synchronise(&self, _: Stream) -> Result<()> {
        Ok(())
    }
}

fn over(device: &Arc<Emulated>) -> Cuda {
    let options =
        Options { pair_capacity: 16_384, candidate_capacity: 64, ..Options::new(1 << 28) };
    Cuda::over(Arc::clone(device) as Arc<dyn Launcher>, options)
}

fn conforms(schedule: Schedule) {
    let device = Emulated::new(schedule, 1);
    conformance::run(&over(&device), Effort::Small);
    tensor_scans(&over(&device));
    assert_eq!(device.device.memory().0, 1 << 30, "all memory came back");
    let launches = device.device.launches();
    let idle: Vec<String> = nearkin_emulator::kernels()
        .into_iter()
        .filter(|name| !name.starts_with("fault_") && name != "instructions_s8")
        .filter(|name| !launches.contains_key(name))
        .collect();
    assert!(idle.is_empty(), "kernels that the suite never ran: {idle:?}");
}

/// Batches that go to the tensor cores, which the suite's small ones do not: exact lists for L2 and dot.
fn tensor_scans(cuda: &Cuda) {
    let plain = Plain::new(1 << 30);
    for metric in [Metric::L2, Metric::Dot, Metric::Cosine] {
        for is_signed in [true, false] {
            let (rows, queries) = (bytes(300, 70, 5, is_signed), bytes(33, 70, 6, is_signed));
            let placed = cuda.upload(Arc::new(rows.clone()), metric).unwrap();
            let held = plain.upload(Arc::new(rows), metric).unwrap();
            let ranges = [3..130, 140..299];
            let got = cuda.flat_scan(STREAM, &queries, &placed, Allow::Ranges(&ranges), 9).unwrap();
            let want = plain.flat_scan(STREAM, &queries, &held, Allow::Ranges(&ranges), 9).unwrap();
            for (got, want) in got.iter().zip(&want) {
                let near = |i: usize| (got[i].distance - want[i].distance).abs() <= 1e-6;
                assert!(got.len() == want.len() && (0..9).all(near), "{metric}: {got:?}, {want:?}");
                assert!(metric == Metric::Cosine || got == want, "{metric}: {got:?}, {want:?}");
            }
        }
    }
}

#[test]
fn cuda_conforms_with_threads_first_to_last() {
    conforms(Schedule::Forward);
}

#[test]
fn cuda_conforms_with_threads_last_to_first() {
    conforms(Schedule::Reverse);
}

#[test]
fn cuda_conforms_with_threads_in_random_order() {
    println!("seed 7");
    conforms(Schedule::Random(7));
}

fn bytes(n_rows: usize, dim: usize, seed: u64, is_signed: bool) -> Rows {
    let all = (0..(n_rows * dim) as u64).map(|i| (stream(seed, i) % 255) as u8);
    let values = if is_signed {
        Values::I8(all.map(|x| (i32::from(x) - 127) as i8).collect())
    } else {
        Values::U8(all.collect())
    };
    Rows::new(values, dim).unwrap()
}

/// A scan large enough for a sample, for blocks on several threads, and for workers with several chunks.
#[test]
fn a_scan_bounded_by_its_sample_gives_the_exact_list() {
    let device = Emulated::new(Schedule::Random(3), 2);
    let (cuda, plain) = (over(&device), Plain::new(1 << 30));
    let rows = Arc::new(bytes(70_000, 16, 1, true));
    let queries = bytes(20, 16, 2, true);
    let ranges = [100..40_000, 41_003..70_000];
    let placed = cuda.upload(Arc::clone(&rows), Metric::L2).unwrap();
    let held = plain.upload(rows, Metric::L2).unwrap();
    for (n, allow) in [(1, Allow::All), (20, Allow::Ranges(&ranges)), (3, Allow::All)] {
        let queries = queries.slice(0..n);
        let got = cuda.flat_scan(STREAM, &queries, &placed, allow, 10).unwrap();
        assert_eq!(got, plain.flat_scan(STREAM, &queries, &held, allow, 10).unwrap());
    }
    let n: u64 = device.device.launches().values().sum();
    assert_eq!(n, 6, "a sample and a scan for each of three batches");
}

#[test]
fn more_pairs_than_there_is_room_for_are_found_in_parts() {
    let device = Emulated::new(Schedule::Forward, 1);
    let cuda = over(&device);
    for (values, launches) in [
        (Values::I8(vec![3; 400 * 4].into()), "pairs_l2_int8"),
        (Values::F32(vec![3.0; 400 * 4].into()), "pairs_l2_f32"),
    ] {
        let rows = cuda.upload(Arc::new(Rows::new(values, 4).unwrap()), Metric::L2).unwrap();
        let tile = [Tile { a: 0..400, b: 0..400 }];
        let pairs = cuda.pairs(STREAM, &rows, None, &tile, 0.0).unwrap();
        assert_eq!(pairs.len(), 400 * 399 / 2);
        assert!(pairs.windows(2).all(|two| (two[0].a, two[0].b) < (two[1].a, two[1].b)));
        assert!(device.device.launches()[launches] > 4, "{:?}", device.device.launches());
    }
}

#[test]
fn a_device_without_memory_says_so_and_works_again_once_there_is_some() {
    let device = Emulated::new(Schedule::Forward, 1);
    let cuda = over(&device);
    let rows = Arc::new(bytes(100, 8, 1, true));
    let queries = bytes(2, 8, 2, true);
    let placed = cuda.upload(Arc::clone(&rows), Metric::Dot).unwrap();
    let want = cuda.flat_scan(STREAM, &queries, &placed, Allow::All, 3).unwrap();
    for n in 0..12 {
        device.device.refuse_after(n);
        // What waits for the next call is enough for it; more rows are not.
        assert_eq!(cuda.flat_scan(STREAM, &queries, &placed, Allow::All, 3).unwrap(), want);
        match cuda.flat_scan(STREAM, &queries, &placed, Allow::All, 90 + 10 * n as usize) {
            Ok(got) => assert_eq!(got[0].len(), 100.min(90 + 10 * n as usize)),
            Err(error) => {
                assert_eq!((error.kind(), error.code()), (ErrorKind::Device, "device_oom"))
            }
        }
        device.device.refuse_after(u64::MAX / 2);
        assert_eq!(cuda.flat_scan(STREAM, &queries, &placed, Allow::All, 3).unwrap(), want);
    }
    let small = Cuda::over(Arc::clone(&device) as Arc<dyn Launcher>, Options::new(1000));
    let error = small.upload(rows, Metric::Dot).err().unwrap();
    assert_eq!(error.to_string(), "device_oom: 6400 bytes asked, 1000 of 1000 left");
}

#[test]
fn what_another_device_holds_is_refused() {
    let (a, b) = (Emulated::new(Schedule::Forward, 1), Emulated::new(Schedule::Forward, 1));
    let (a, b) = (over(&a), over(&b));
    let rows = Arc::new(bytes(10, 8, 1, true));
    let placed = a.upload(Arc::clone(&rows), Metric::Dot).unwrap();
    let query = bytes(1, 8, 2, true);
    let refused = b.flat_scan(STREAM, &query, &placed, Allow::All, 3).unwrap_err();
    assert_eq!((refused.kind(), refused.code()), (ErrorKind::Usage, "resident"));
    let held = Plain::new(1 << 20).upload(rows, Metric::Dot).unwrap();
    assert_eq!(a.gather(STREAM, &query, &held, &[vec![1]]).unwrap_err().code(), "resident");
    let stream = a.flat_scan(Stream(2), &query, &placed, Allow::All, 3).unwrap_err();
    assert_eq!(stream.to_string(), "stream_range: 2, the device has 2");
}

/// What one call leaves in device memory is never part of another's answer.
#[test]
fn no_answer_holds_what_an_earlier_call_left_behind() {
    let device = Emulated::new(Schedule::Forward, 1);
    let cuda = over(&device);
    let (many, few) = (Arc::new(bytes(500, 8, 1, true)), Arc::new(bytes(3, 8, 2, true)));
    let query = bytes(1, 8, 3, true);
    let many = cuda.upload(many, Metric::L2).unwrap();
    assert_eq!(cuda.flat_scan(STREAM, &query, &many, Allow::All, 400).unwrap()[0].len(), 400);
    drop(many);
    let few = cuda.upload(few, Metric::L2).unwrap();
    for k in [1, 2, 3, 4, 100, 400, 1024] {
        let got = &cuda.flat_scan(STREAM, &query, &few, Allow::All, k).unwrap()[0];
        assert_eq!(got.len(), k.min(3));
        assert!(got.iter().all(|neighbor| neighbor.slot < 3));
    }
}

#[test]
fn a_machine_without_a_driver_is_told_so() {
    match Cuda::open(0, None) {
        Ok(cuda) => conformance::run(&cuda, Effort::Full),
        Err(error) => {
            assert_eq!((error.kind(), error.code()), (ErrorKind::Device, "device_unavailable"));
            assert!(error.to_string().contains("libcuda.so.1"), "{error}");
            conformance::skip("cuda", &error.to_string());
        }
    }
}
