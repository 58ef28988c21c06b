//! `nearkin doctor`: what this machine has, what would be used, and why.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::backend::cpu::roofline::{MEMORY_BYTES, Roofline};
use crate::backend::open::{Device, Opened, open};
use crate::cli::{pool, say};
use crate::distance::{Level, features};
use crate::error::Result;

#[derive(Debug, clap::Args)]
pub struct DoctorArgs {
    /// auto, cpu, cuda or wgpu: what is asked for
    #[arg(long, default_value = "auto", value_name = "DEVICE")]
    pub device: Device,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Looks at the machine and prints what it found. A device that was asked for by name and is not there is shown and is an
/// error as well.
pub fn run(args: &DoctorArgs) -> Result<u8> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let all = pool(Some(threads))?;
    let roofs = [
        Roofline::new(pool(Some(1))?, Level::best()),
        Roofline::new(Arc::clone(&all), Level::best()),
    ];
    let opened = open(args.device, &all, 1 << 30, None);
    let found = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "processor": processor(threads, &roofs),
        "memory": memory(roofs),
        "cards": cards(),
        "asked": args.device.to_string(),
        "use": describe(&opened),
    });
    if args.json {
        say(format_args!("{}", serde_json::to_string_pretty(&found).expect("strings and numbers")));
    } else {
        print(&found);
    }
    opened.map(|_| 0)
}

fn processor(threads: usize, [one, all]: &[Roofline; 2]) -> Value {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line =
        |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.split(": ").nth(1));
    let (used, mut unused) = features();
    // The standard library cannot be asked for these yet.
    let amx = ["amx_int8", "amx_bf16"];
    let flags = line("flags").unwrap_or_default();
    unused.extend(amx.into_iter().filter(|name| flags.split(' ').any(|flag| flag == *name)));
    let levels: Vec<&str> = Level::available().iter().map(|level| level.name()).collect();
    json!({
        "name": line("model name").unwrap_or(std::env::consts::ARCH),
        "threads": threads,
        "features": used,
        "features_that_no_loop_uses": unused,
        "levels": levels,
        "used": Level::best().name(),
        "why": why_level(),
        "float_operations_per_second_one_thread": one.peak_floats().round(),
        "float_operations_per_second_all_threads": all.peak_floats().round(),
        "byte_operations_per_second_one_thread": one.peak_bytes().round(),
        "byte_operations_per_second_all_threads": all.peak_bytes().round(),
    })
}

/// Why the loops of the best level are used and no higher ones.
fn why_level() -> String {
    match Level::beyond() {
        Some((above, missing)) => {
            format!("{} needs {}, which this processor lacks", above.name(), missing.join(", "))
        }
        None => "the highest there is for this architecture".to_owned(),
    }
}

fn memory([mut one, mut all]: [Roofline; 2]) -> Value {
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = |name: &str| -> Option<u64> {
        let line = info.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    json!({
        "total_bytes": kib("MemTotal:").map(|kib| kib * 1024),
        "available_bytes": kib("MemAvailable:").map(|kib| kib * 1024),
        "read_bytes_per_second_one_thread": one.read(MEMORY_BYTES).round(),
        "read_bytes_per_second_all_threads": all.read(MEMORY_BYTES).round(),
    })
}

/// Every card that a feature of this build can see, or why there is none.
fn cards() -> Vec<Value> {
    [cuda_cards(), wgpu_cards()].concat()
}

#[cfg(feature = "cuda")]
fn cuda_cards() -> Vec<Value> {
    use crate::backend::Backend;
    match crate::backend::cuda::Cuda::open(0, None) {
        Ok(card) => {
            let (facts, kind) = (card.facts(), "cuda");
            let giga = facts.budget_bytes as f64 / 1e9;
            let line = format!("{}, {giga:.1} GB for rows", facts.name);
            vec![json!({ "kind": kind, "line": line, "budget_bytes": facts.budget_bytes })]
        }
        Err(error) => vec![json!({ "kind": "cuda", "error": error.to_string() })],
    }
}

#[cfg(not(feature = "cuda"))]
fn cuda_cards() -> Vec<Value> {
    let error = "device_unavailable: this build lacks the feature `cuda`";
    vec![json!({ "kind": "cuda", "error": error })]
}

#[cfg(feature = "wgpu")]
fn wgpu_cards() -> Vec<Value> {
    use crate::backend::wgpu::Wgpu;
    let adapters = Wgpu::adapters();
    if adapters.is_empty() {
        let error = Wgpu::open(None, 0).err().map_or(String::new(), |error| error.to_string());
        return vec![json!({ "kind": "wgpu", "error": error })];
    }
    let show = |adapter: &crate::backend::wgpu::AdapterFacts| {
        let software =
            if adapter.is_software { ", software: used only when asked for" } else { "" };
        let line = format!(
            "{}, {}, driver {}, bindings of {} MiB{software}",
            adapter.name,
            adapter.backend,
            adapter.driver,
            adapter.max_binding_bytes >> 20
        );
        json!({
            "kind": "wgpu",
            "line": line,
            "name": adapter.name,
            "interface": adapter.backend,
            "driver": adapter.driver,
            "is_software": adapter.is_software,
            "max_buffer_bytes": adapter.max_buffer_bytes,
            "max_binding_bytes": adapter.max_binding_bytes,
            "subgroup_lanes": adapter.subgroup_lanes,
        })
    };
    adapters.iter().map(show).collect()
}

#[cfg(not(feature = "wgpu"))]
fn wgpu_cards() -> Vec<Value> {
    let error = "device_unavailable: this build lacks the feature `wgpu`";
    vec![json!({ "kind": "wgpu", "error": error })]
}

fn describe(opened: &Result<Opened>) -> Value {
    match opened {
        Ok(opened) => json!({
            "backend": opened.backend.facts().kind.name(),
            "name": opened.backend.facts().name,
            "why": opened.why,
        }),
        Err(error) => json!({ "error": error.to_string() }),
    }
}

fn print(found: &Value) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let processor = &found["processor"];
    say(format_args!("nearkin {}", text(&found["version"])));
    let list = |value: &Value| -> String {
        let all: Vec<String> = value.as_array().into_iter().flatten().map(text).collect();
        if all.is_empty() { "none".to_owned() } else { all.join(" ") }
    };
    let giga = |of: &Value, name: &str, digits: usize| {
        of[name].as_f64().map_or("?".into(), |x| format!("{:.digits$}", x / 1e9))
    };
    say(format_args!("processor  {}, {} threads", text(&processor["name"]), processor["threads"]));
    say(format_args!("features   {}", list(&processor["features"])));
    say(format_args!(
        "           no loop uses: {}",
        list(&processor["features_that_no_loop_uses"])
    ));
    say(format_args!("loops      {}: {}", text(&processor["used"]), text(&processor["why"])));
    for (what, name) in [("f32", "float"), ("int8", "byte")] {
        let rate =
            |threads: &str| giga(processor, &format!("{name}_operations_per_second_{threads}"), 0);
        say(format_args!(
            "{:10} {what} at most {} Gop/s by one thread, {} by all",
            if what == "f32" { "arithmetic" } else { "" },
            rate("one_thread"),
            rate("all_threads")
        ));
    }
    let memory = &found["memory"];
    say(format_args!(
        "memory     {} GB, {} free; read at {} GB/s by one thread, {} by all",
        giga(memory, "total_bytes", 1),
        giga(memory, "available_bytes", 1),
        giga(memory, "read_bytes_per_second_one_thread", 1),
        giga(memory, "read_bytes_per_second_all_threads", 1)
    ));
    for card in found["cards"].as_array().into_iter().flatten() {
        let kind = text(&card["kind"]);
        match card["error"].as_str() {
            Some(error) => say(format_args!("{kind:10} none: {error}")),
            None => say(format_args!("{kind:10} {}", text(&card["line"]))),
        }
    }
    match found["use"]["error"].as_str() {
        Some(error) => say(format_args!("would use  nothing: {error}")),
        None => say(format_args!("would use  {}", text(&found["use"]["why"]))),
    }
}
