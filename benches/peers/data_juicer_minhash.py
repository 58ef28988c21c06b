"""Data-Juicer 1.6.1: `document_minhash_deduplicator`, 128 permutations, 0.8, space, lower case.

The operator is run as its own `run` does it (hash every sample with `map`, then `process`) on a
data set that `datasets` reads from the JSONL file; what is kept is written as JSONL. Leaving out
the rest of Data-Juicer (its configuration reader, exporter and tracer) is in its favour. The
operator picks its bands itself (9x13). Its union-find is local to `process`, so its maker is
wrapped to keep hold of it; that adds nothing to the work.
"""

import os

for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
    os.environ[name] = "1"

from datasets import load_dataset
from data_juicer.core import data as _  # the operator would import this, and ray, on its own clock
from data_juicer.ops.deduplicator import document_minhash_deduplicator as module

import common


def remember_union_finds():
    """The list to which every union-find that the operator makes from now on is appended."""
    made, original = [], module.UnionFind
    module.UnionFind = lambda: made.append(original()) or made[-1]
    return made


def main():
    run = common.start()
    union_finds = remember_union_finds()
    operator = module.DocumentMinhashDeduplicator(
        tokenization="space",
        lowercase=True,
        num_permutations=128,
        jaccard_threshold=0.8,
        num_proc=1,
    )
    records = load_dataset(
        "json", data_files=run.file, split="train", cache_dir=run.path("cache")
    )
    n_rows = len(records)
    kept, _ = operator.process(records.map(operator.compute_hash))
    kept.to_json(run.path("kept.jsonl"), force_ascii=False)
    run.work_done()
    roots = [union_finds[-1].find(row) for row in range(n_rows)]
    bands = f"{operator.num_bands}x{operator.num_rows_per_band} (its own choice)"
    run.report(common.labels_of_roots(roots), written=len(kept), bands=bands)


if __name__ == "__main__":
    main()
