//! The kernels as they are embedded: PTX for compute capability 8.0, one text per operation, made from the `.cu` files by
//! `.ci/kernels --update`, which also checks that the text for 9.0 would differ in its target line alone. The driver compiles them for its card; no toolkit is needed to build or to run.

/// The PTX of one operation.
pub(super) struct Module {
    /// Name of the operation, with which the names of its kernels begin.
    pub stem: &'static str,
    /// The text, for every card from compute capability 8.0 on.
    pub ptx: &'static str,
}

impl Module {
    /// The operation that a kernel belongs to.
    pub(super) fn of(kernel: &str) -> Option<&'static Self> {
        ALL.iter().find(|module| {
            kernel.strip_prefix(module.stem).is_some_and(|rest| rest.starts_with('_'))
        })
    }
}

/// All operations.
pub(super) const ALL: [Module; 7] = [
    Module { stem: "assign", ptx: include_str!("../../../kernels/ptx/assign.compute_80.ptx") },
    Module {
        stem: "distances",
        ptx: include_str!("../../../kernels/ptx/distances.compute_80.ptx"),
    },
    Module {
        stem: "flat_scan",
        ptx: include_str!("../../../kernels/ptx/flat_scan.compute_80.ptx"),
    },
    Module { stem: "gather", ptx: include_str!("../../../kernels/ptx/gather.compute_80.ptx") },
    Module { stem: "minhash", ptx: include_str!("../../../kernels/ptx/minhash.compute_80.ptx") },
    Module { stem: "pairs", ptx: include_str!("../../../kernels/ptx/pairs.compute_80.ptx") },
    Module {
        stem: "rabitq_scan",
        ptx: include_str!("../../../kernels/ptx/rabitq_scan.compute_80.ptx"),
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_holds_entries_of_its_operation_only() {
        for module in &ALL {
            assert!(module.ptx.contains("\n.target sm_80\n"), "{}", module.stem);
            let entries = module.ptx.lines().filter_map(|line| line.split_once(".visible .entry "));
            let names: Vec<&str> = entries.map(|(_, name)| name.trim_end_matches('(')).collect();
            assert!(!names.is_empty());
            for name in names {
                assert_eq!(Module::of(name).map(|found| found.stem), Some(module.stem));
            }
        }
        assert!(Module::of("flatscan_dot_f32").is_none());
    }
}
