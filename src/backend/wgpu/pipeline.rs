//! Shader texts, specialised and compiled on first use.
//!
//! A shader is the constants below, `common.wgsl` and the text of one operation, less the blocks whose name is not set.
//! Tile sizes are defined here once: shaders get them as constants, hosts use them to plan launches.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use crate::backend::wgpu::device::Call;
use crate::core::metric::Metric;
use crate::core::rows::Dtype;
use crate::error::Result;

/// Invocations of a workgroup: the least that every adapter of WebGPU offers.
pub(super) const GROUP: u32 = 256;
/// Rows of a block: see `common.wgsl`. Half of a mask word of the host, a whole one of the device.
pub(super) const BLOCK: u32 = 32;
/// Rows of the second side that one workgroup of `pairs` looks at.
pub(super) const STRIPE: u32 = 16;
/// Rows of a list that one workgroup of `rabitq_scan` looks at.
pub(super) const ROWS_PER_ITEM: u32 = 1024;
/// Greatest `k` that leaves room for four pools in 16 KiB of workgroup memory.
pub(super) const K_OF_FOUR: usize = 128;

/// What a shader is bound to, in the order of its bindings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Binding {
    /// The parameters of a launch.
    Params,
    /// Read by the shader.
    Read,
    /// Written by the shader.
    Write,
}

/// An entry point and its bindings.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Shader {
    pub entry: &'static str,
    pub text: &'static str,
    pub bindings: &'static [Binding],
}

/// Queries per workgroup and candidates per query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Pools {
    pub n_queries: u32,
    pub n_places: u32,
}

impl Pools {
    /// One query, `k` up to 1024: 10 KiB.
    pub const ONE: Self = Self { n_queries: 1, n_places: 1024 + GROUP };
    /// Four queries, `k` up to [`K_OF_FOUR`]: 12 KiB.
    pub const FOUR: Self = Self { n_queries: 4, n_places: K_OF_FOUR as u32 + GROUP };
}

/// One specialised shader.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Variant {
    pub shader: &'static Shader,
    pub names: Vec<&'static str>,
    pub pools: Pools,
}

impl Variant {
    /// A shader with some blocks of text.
    pub fn new(shader: &'static Shader, names: &[&'static str]) -> Self {
        Self { shader, names: names.to_vec(), pools: Pools::ONE }
    }

    /// A shader that compares rows.
    pub fn of_rows(shader: &'static Shader, dtype: Dtype, metric: Metric) -> Self {
        let is_product = matches!(metric, Metric::Cosine | Metric::Dot);
        let mut names = vec!["rows", metric.name()];
        names.push(match dtype {
            Dtype::F32 => "f32",
            Dtype::F16 => "f16",
            Dtype::U8 => "u8",
            Dtype::I8 => "i8",
        });
        names.push(if dtype.is_integer() { "integer" } else { "float" });
        names.extend(is_product.then_some("product"));
        Self { shader, names, pools: Pools::ONE }
    }

    /// The same with more blocks.
    pub fn with(mut self, names: &[&'static str]) -> Self {
        self.names.extend(names);
        self
    }

    /// The same with subgroup operations, where the device has them.
    pub fn with_subgroups(self, call: &Call<'_>) -> Self {
        if call.gpu.has_subgroups { self.with(&["subgroups"]) } else { self }
    }

    /// The same with other pools.
    pub fn pools(mut self, pools: Pools) -> Self {
        self.pools = pools;
        if pools == Pools::FOUR {
            self.names.push("four");
        }
        self
    }

    /// The whole text.
    pub fn text(&self) -> String {
        let Pools { n_queries, n_places } = self.pools;
        let mut text = String::new();
        for (name, value) in [
            ("GROUP", GROUP),
            ("BLOCK", BLOCK),
            ("STRIPE", STRIPE),
            ("ROWS_PER_ITEM", ROWS_PER_ITEM),
            ("QUERIES", n_queries),
            ("POOL", n_places),
            ("PER_LANE", n_places.div_ceil(GROUP)),
        ] {
            writeln!(text, "const {name}: u32 = {value}u;").expect("writing to a string");
        }
        for part in [include_str!("../../../shaders/common.wgsl"), self.shader.text] {
            keep_blocks(part, &self.names, &mut text);
        }
        text
    }
}

/// Copies the lines that stand in no block, or in blocks whose names are all set.
fn keep_blocks(part: &str, names: &[&str], out: &mut String) {
    let mut open: Vec<bool> = Vec::new();
    for line in part.lines() {
        if let Some(name) = line.strip_prefix("//#if ") {
            open.push(names.contains(&name));
        } else if line == "//#else" {
            let last = open.last_mut().expect("a shader of ours: else stands in a block");
            *last = !*last;
        } else if line == "//#end" {
            open.pop().expect("a shader of ours: end closes a block");
        } else if open.iter().all(|&is_kept| is_kept) {
            out.push_str(line);
            out.push('\n');
        }
    }
    assert!(open.is_empty(), "a shader of ours: every block is closed");
}

/// A compiled shader.
#[derive(Debug)]
pub(super) struct Pipeline {
    pub pipeline: wgpu::ComputePipeline,
    pub layout: wgpu::BindGroupLayout,
    pub bindings: &'static [Binding],
}

/// The compiled shaders of one device.
#[derive(Debug, Default)]
pub(super) struct Pipelines {
    compiled: Mutex<HashMap<Variant, Arc<Pipeline>>>,
}

impl Pipelines {
    /// The compiled shader, from an earlier call or now.
    pub fn get(&self, call: &Call<'_>, variant: Variant) -> Result<Arc<Pipeline>> {
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pipeline) = compiled.get(&variant) {
            return Ok(Arc::clone(pipeline));
        }
        let pipeline = Arc::new(compile(call, &variant)?);
        compiled.insert(variant, Arc::clone(&pipeline));
        Ok(pipeline)
    }
}

fn compile(call: &Call<'_>, variant: &Variant) -> Result<Pipeline> {
    let (device, shader) = (call.device(), variant.shader);
    let label = Some(shader.entry);
    call.guarded("compile", 0, || {
        let source = wgpu::ShaderSource::Wgsl(variant.text().into());
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor { label, source });
        // An explicit layout: a derived one drops bindings that a variant does not read.
        let entries: Vec<wgpu::BindGroupLayoutEntry> =
            (0..).zip(shader.bindings).map(|(at, &binding)| layout_entry(at, binding)).collect();
        let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label,
            entries: &entries,
        });
        let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label,
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label,
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: label,
            compilation_options: wgpu::PipelineCompilationOptions::default(),
            cache: None,
        });
        Pipeline { pipeline, layout, bindings: shader.bindings }
    })
}

fn layout_entry(binding: u32, kind: Binding) -> wgpu::BindGroupLayoutEntry {
    let ty = match kind {
        Binding::Params => wgpu::BufferBindingType::Uniform,
        Binding::Read => wgpu::BufferBindingType::Storage { read_only: true },
        Binding::Write => wgpu::BufferBindingType::Storage { read_only: false },
    };
    wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None },
        count: None,
    }
}

/// Multiplications of one launch: a tenth of a second for a program on two cores, far less for a card.
pub(super) const MACS_PER_LAUNCH: u64 = 1 << 28;

/// Multiplications of one row with one query.
pub(super) fn row_macs(chunks: u32, dtype: Dtype) -> u64 {
    u64::from(chunks) * (16 / dtype.bytes() as u64)
}

/// Workgroups for so many invocations. Launches are planned to stay below 65,535 of them.
pub(super) fn groups_of(n: usize) -> u32 {
    n.div_ceil(GROUP as usize) as u32
}

/// The key of a distance, as `key_of` of `common.wgsl`.
pub(super) fn key_of(distance: f32) -> u32 {
    let bits = (distance + 0.0).to_bits();
    bits ^ if bits >> 31 == 1 { u32::MAX } else { 1 << 31 }
}

/// The distance of a key.
pub(super) fn distance_of(key: u32) -> f32 {
    f32::from_bits(key ^ if key >> 31 == 1 { 1 << 31 } else { u32::MAX })
}

#[cfg(test)]
mod tests {
    use wgpu::naga;

    use super::*;
    use crate::backend::wgpu::device::WORKGROUP_BYTES;
    use crate::backend::wgpu::{assign, distances, flat_scan, gather, minhash, pairs, rabitq_scan};

    const NAMES: [&str; 18] = [
        "rows",
        "f32",
        "f16",
        "u8",
        "i8",
        "float",
        "integer",
        "product",
        "cosine",
        "dot",
        "l2",
        "l1",
        "lists",
        "selection",
        "subgroups",
        "four",
        "bound",
        "survivors",
    ];

    /// Every variant that some operation asks for.
    fn variants() -> Vec<Variant> {
        let mut all = vec![Variant::new(&minhash::SHADER, &[])];
        for with in [&[][..], &["subgroups"]] {
            let bound = Variant::new(&rabitq_scan::BOUND, &["lists", "selection", "bound"]);
            all.push(bound.with(with));
            all.push(Variant::new(&rabitq_scan::SURVIVORS, &["lists", "survivors"]).with(with));
            for dtype in Dtype::ALL {
                for metric in Metric::ALL {
                    for shader in [&distances::SHADER, &gather::SHADER, &assign::SHADER] {
                        all.push(Variant::of_rows(shader, dtype, metric));
                    }
                    let join = Variant::of_rows(&pairs::SHADER, dtype, metric);
                    all.push(join.with(&["lists"]).with(with));
                    let scan = Variant::of_rows(&flat_scan::SHADER, dtype, metric)
                        .with(&["lists", "selection"])
                        .with(with);
                    all.extend([scan.clone().pools(Pools::ONE), scan.pools(Pools::FOUR)]);
                }
            }
        }
        all
    }

    fn workgroup_bytes(variant: &Variant) -> u32 {
        let module = naga::front::wgsl::parse_str(&variant.text()).unwrap_or_else(|error| {
            panic!("{variant:?}: {}", error.emit_to_string(&variant.text()))
        });
        naga::valid::Validator::new(
            naga::valid::ValidationFlags::all(),
            // The second is `unpack2x16float`, which Vulkan has without any extension.
            naga::valid::Capabilities::SUBGROUP
                | naga::valid::Capabilities::SHADER_FLOAT16_IN_FLOAT32,
        )
        .subgroup_stages(naga::valid::ShaderStages::COMPUTE)
        .subgroup_operations(naga::valid::SubgroupOperationSet::all())
        .validate(&module)
        .unwrap_or_else(|error| panic!("{variant:?}: {error:?}"));
        let mut layouter = naga::proc::Layouter::default();
        layouter.update(module.to_ctx()).unwrap();
        let of_group = |space: naga::AddressSpace| space == naga::AddressSpace::WorkGroup;
        let all = module.global_variables.iter().filter(|(_, one)| of_group(one.space));
        all.map(|(_, one)| layouter[one.ty].size).sum()
    }

    /// Runs without a driver: the front end is a library.
    #[test]
    fn every_variant_is_valid_and_fits_the_workgroup_memory_of_any_adapter() {
        let mut most = HashMap::new();
        for variant in variants() {
            let bytes = workgroup_bytes(&variant);
            assert!(bytes <= WORKGROUP_BYTES, "{variant:?}: {bytes} bytes");
            let known: &mut u32 = most.entry((variant.shader.entry, variant.pools)).or_default();
            *known = bytes.max(*known);
        }
        // As `shaders/README.md` says.
        assert_eq!(most[&("flat_scan", Pools::ONE)], 10_508);
        assert_eq!(most[&("flat_scan", Pools::FOUR)], 12_568);
        assert_eq!(most[&("bound", Pools::ONE)], 10_508);
        assert_eq!(most[&("survivors", Pools::ONE)], 268);
        assert_eq!(most[&("pairs", Pools::ONE)], 268);
        assert_eq!(most[&("distances", Pools::ONE)], 0);
    }

    /// A misspelt name would drop its block in silence.
    #[test]
    fn blocks_of_shaders_have_known_names() {
        for variant in variants() {
            for part in [include_str!("../../../shaders/common.wgsl"), variant.shader.text] {
                for name in part.lines().filter_map(|line| line.strip_prefix("//#if ")) {
                    assert!(NAMES.contains(&name), "{name}");
                }
            }
            assert!(variant.names.iter().all(|name| NAMES.contains(name)), "{variant:?}");
        }
    }

    #[test]
    fn keys_order_as_distances_do() {
        let ordered = [f32::NEG_INFINITY, -3.5, -1e-30, 0.0, 1e-45, 1.0, f32::MAX, f32::INFINITY];
        let keys = ordered.map(key_of);
        assert!(keys.is_sorted_by(|a, b| a < b));
        assert_eq!(keys.map(distance_of), ordered);
        assert_eq!(key_of(-0.0), key_of(0.0));
    }
}
