//! What the emulator is for: it must find each fault, and let the sound twin pass.

#![allow(clippy::unwrap_used)]

use nearkin_emulator::{Emulator, Schedule};

const SCHEDULES: [Schedule; 5] = [
    Schedule::Forward,
    Schedule::Reverse,
    Schedule::Random(1),
    Schedule::Random(2),
    Schedule::Random(3),
];

const N_BLOCKS: u32 = 5;

/// Runs a kernel of `broken.cu` over `per_thread` words a thread; what it wrote, or what the launch said.
fn run(
    schedule: Schedule,
    kernel: &str,
    is_sound: bool,
    per_thread: u32,
) -> Result<Vec<u32>, String> {
    let device = Emulator::new(schedule, 2, 1 << 20);
    let n = N_BLOCKS * 128 * per_thread;
    let bytes: Vec<u8> = (0..n).flat_map(|i| (i * 7 + 1).to_ne_bytes()).collect();
    let (input, output) =
        (device.allocate(bytes.len()).unwrap(), device.allocate(bytes.len()).unwrap());
    device.copy_in(input, &bytes);
    device.fill(output, 0, bytes.len());
    let mut args = Vec::new();
    args.extend(input.to_ne_bytes());
    args.extend(output.to_ne_bytes());
    args.extend(u32::from(is_sound).to_ne_bytes());
    args.extend(n.to_ne_bytes());
    device.launch(kernel, [N_BLOCKS, 1, 1], [128, 1, 1], 0, &args)?;
    let mut got = vec![0; bytes.len()];
    device.copy_out(output, &mut got);
    Ok(got.chunks(4).map(|word| u32::from_ne_bytes(word.try_into().unwrap())).collect())
}

/// `per_thread` words of each thread, the threads of every block in reverse.
fn reversed(per_thread: u32) -> Vec<u32> {
    let word = |i: u32| {
        let (block, thread, j) = (i / per_thread / 128, i / per_thread % 128, i % per_thread);
        ((block * 128 + 127 - thread) * per_thread + j) * 7 + 1
    };
    (0..N_BLOCKS * 128 * per_thread).map(word).collect()
}

#[test]
fn a_missing_barrier_gives_wrong_answers_under_every_schedule() {
    for schedule in SCHEDULES {
        assert_eq!(run(schedule, "fault_barrier", true, 1).unwrap(), reversed(1), "{schedule:?}");
        assert_ne!(run(schedule, "fault_barrier", false, 1).unwrap(), reversed(1), "{schedule:?}");
    }
}

#[test]
fn a_missing_wait_for_a_copy_gives_wrong_answers_under_every_schedule() {
    for schedule in SCHEDULES {
        assert_eq!(run(schedule, "fault_copy", true, 4).unwrap(), reversed(4), "{schedule:?}");
        assert_ne!(run(schedule, "fault_copy", false, 4).unwrap(), reversed(4), "{schedule:?}");
    }
}

#[test]
fn a_divergent_barrier_is_reported_and_the_device_goes_on() {
    for schedule in SCHEDULES {
        let said = run(schedule, "fault_divergent", false, 1).unwrap_err();
        let expected =
            "of 128 threads 64 wait at a block barrier, 0 at a warp barrier, 64 have ended";
        assert!(said.starts_with("fault_divergent: block ") && said.contains(expected), "{said}");
        assert_eq!(run(schedule, "fault_divergent", true, 1).unwrap(), vec![1; 640]);
    }
}

#[test]
fn a_launch_that_cannot_be_is_refused() {
    let device = Emulator::new(Schedule::Forward, 1, 1 << 20);
    let said = device.launch("nothing", [1, 1, 1], [32, 1, 1], 0, &[0; 8]).unwrap_err();
    assert_eq!(said, "no kernel nothing");
    let said = device.launch("fault_barrier", [1, 1, 1], [64, 1, 1], 0, &[0; 24]).unwrap_err();
    assert_eq!(said, "fault_barrier: 64 threads, built for 128");
    assert!(device.launch("fault_barrier", [0, 1, 1], [128, 1, 1], 0, &[0; 24]).is_err());
    assert!(device.allocate(2 << 20).is_none());
}

/// What only the address sanitizer finds: see `.ci/sanitize`.
#[cfg(feature = "address-sanitizer")]
mod sanitizer {
    use std::process::Command;

    use super::*;

    const FAULTS: [(&str, &str); 5] = [
        ("fault_past_end", "WRITE of size 4"),
        ("fault_past_lent", "use-after-poison"),
        ("fault_before_start", "READ of size 4"),
        ("fault_past_shared", "global-buffer-overflow"),
        ("fault_past_dynamic", "heap-buffer-overflow"),
    ];

    #[test]
    fn every_access_out_of_bounds_stops_the_process_and_no_sound_one_does() {
        for (kernel, what) in FAULTS {
            let ran = |is_sound: bool| {
                let mut command = Command::new(std::env::current_exe().unwrap());
                command.args(["--ignored", "--exact", "sanitizer::one_kernel", "--nocapture"]);
                command.env("KERNEL", kernel).env("IS_SOUND", is_sound.to_string());
                command.output().unwrap()
            };
            let sound = ran(true);
            assert!(sound.status.success(), "{kernel}: {}", String::from_utf8_lossy(&sound.stderr));
            let unsound = ran(false);
            let said = String::from_utf8_lossy(&unsound.stderr).into_owned();
            assert!(!unsound.status.success(), "{kernel} passed");
            for part in ["AddressSanitizer", what, "broken.cu"] {
                assert!(said.contains(part), "{kernel}: no {part} in {said}");
            }
        }
    }

    #[test]
    #[ignore = "run by the test above, in a process of its own"]
    fn one_kernel() {
        let kernel = std::env::var("KERNEL").unwrap();
        let is_sound = std::env::var("IS_SOUND").unwrap() == "true";
        let device = Emulator::new(Schedule::Forward, 2, 1 << 20);
        let n_threads = N_BLOCKS * 128;
        let input = device.allocate(4 * n_threads as usize).unwrap();
        // The thread past the end must be there.
        let n = n_threads - u32::from(["fault_past_end", "fault_past_lent"].contains(&&*kernel));
        let is_lent = kernel == "fault_past_lent";
        let output = device.allocate(if is_lent { 4096 } else { 4 * n as usize }).unwrap();
        device.lend(output, 4 * n as usize);
        let mut args: Vec<u8> = [input, output].iter().flat_map(|x| x.to_ne_bytes()).collect();
        args.extend([u32::from(is_sound), n].iter().flat_map(|x| x.to_ne_bytes()));
        device.launch(&kernel, [N_BLOCKS, 1, 1], [128, 1, 1], 512, &args).unwrap();
    }
}

fn byte(words: &[u32], i: usize, is_signed: bool) -> i32 {
    let byte = words[i / 4].to_le_bytes()[i % 4];
    if is_signed { i32::from(byte as i8) } else { i32::from(byte) }
}

#[test]
fn instructions_do_what_the_manual_says() {
    let input: Vec<u32> =
        (0..32 * 8u32).map(|i| (i + 3).wrapping_mul(0x9e37_79b1) ^ i << 7).collect();
    let lane = |lane: usize, i: usize| input[lane * 8 + i];
    for schedule in SCHEDULES {
        let device = Emulator::new(schedule, 1, 1 << 20);
        let (from, to) = (device.allocate(1024).unwrap(), device.allocate(2048).unwrap());
        device.copy_in(from, &input.iter().flat_map(|x| x.to_ne_bytes()).collect::<Vec<u8>>());
        let args: Vec<u8> = [from, to].iter().flat_map(|x| x.to_ne_bytes()).collect();
        device.launch("instructions_s8", [1, 1, 1], [32, 1, 1], 0, &args).unwrap();
        let mut bytes = vec![0; 2048];
        device.copy_out(to, &mut bytes);
        let out: Vec<u32> =
            bytes.chunks(4).map(|word| u32::from_ne_bytes(word.try_into().unwrap())).collect();
        let odd: u32 = (0..32).map(|l| (lane(l, 0) & 1) << l).sum();
        for l in 0..32 {
            let (x, y) = (&input[l * 8..l * 8 + 1], &input[l * 8 + 1..l * 8 + 2]);
            let sum = |of: &dyn Fn(i32, i32) -> i32, is_signed| -> i32 {
                (0..4).map(|i| of(byte(x, i, is_signed), byte(y, i, is_signed))).sum()
            };
            let want = [
                lane(if l < 3 { l } else { l - 3 }, 0),
                lane(if l + 5 > 31 { l } else { l + 5 }, 0),
                lane(lane(l, 1) as usize % 32, 0),
                lane(l ^ 9, 0),
                odd,
                1,
                odd.count_ones(),
                1,
                (sum(&|a, b| a * b, true) - 5) as u32,
                (sum(&|a, b| a * b, false) + 5) as u32,
                sum(&|a, b| (a - b).abs(), false) as u32,
                sum(&|a, b| (a - b).abs(), true) as u32,
            ];
            assert_eq!(out[l * 16..l * 16 + 12], want, "lane {l}, {schedule:?}");
        }
        check_product(&input, &out);
    }
}

/// The matrices are laid out here from the other side: by row and column, as the PTX manual draws them.
fn check_product(input: &[u32], out: &[u32]) {
    // A[row][k] stands with lane 4 (row % 8) + k % 16 / 4, in register row / 8 + 2 (k / 16), at byte k % 4.
    let a = |row: usize, k: usize| {
        let (lane, register) = (4 * (row % 8) + k % 16 / 4, row / 8 + 2 * (k / 16));
        byte(&input[lane * 8 + 2 + register..], k % 4, true)
    };
    // B[k][column] stands with lane 4 column + k % 16 / 4, in register k / 16.
    let b = |k: usize, column: usize| {
        let lane = 4 * column + k % 16 / 4;
        byte(&input[lane * 8 + 6 + k / 16..], k % 4, true)
    };
    for row in 0..16 {
        for column in 0..8 {
            // D[row][column] stands with lane 4 (row % 8) + column / 2, in register 2 (row / 8) + column % 2.
            let register = 2 * (row / 8) + column % 2;
            let got = out[(4 * (row % 8) + column / 2) * 16 + 12 + register] as i32;
            let want: i32 = (0..32).map(|k| a(row, k) * b(k, column)).sum();
            assert_eq!(got, want + register as i32 + 1, "row {row}, column {column}");
        }
    }
}
