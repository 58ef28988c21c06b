"""text-dedup 0.4.0: its own command, `python -m text_dedup.minhash`, on a local JSONL file.

The click command is called in this process with the arguments that the README's example has,
plus 128 permutations, threshold 0.8 and its fastest hash (xxh3, 32 bits). It reads through
`datasets`, picks its bands itself (9x13) and saves an Arrow data set, not JSONL. Its union-find
is a module global, so the clusters are read from it after the command has returned.
"""

import os

for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
    os.environ[name] = "1"

from text_dedup import minhash

import common


def main():
    run = common.start()
    minhash.main(
        [
            *("--path", "json", "--data_files", run.file, "--split", "train"),
            *("--cache_dir", run.path("cache"), "--output", run.path("kept")),
            *("--column", "text", "--batch_size", "10000", "--num_proc", "1"),
            *("--num_perm", "128", "--threshold", "0.8"),
            *("--hash_func", "xxh3", "--hash_bits", "32"),
        ],
        standalone_mode=False,
    )
    run.work_done()
    with open(run.file, "rb") as lines:
        n_rows = sum(1 for _ in lines)
    roots = [minhash.uf.find(row) for row in range(n_rows)]
    run.report(common.labels_of_roots(roots), written=written(run), bands="9x13 (its own choice)")


def written(run):
    from datasets import load_from_disk

    return len(load_from_disk(run.path("kept")))


if __name__ == "__main__":
    main()
