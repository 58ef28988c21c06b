#!/usr/bin/env python3
"""Exact top-10 of raw 32-bit rows, one thread: our bench and faiss IndexFlatIP at its best, in turns.

  pip install numpy faiss-cpu==1.15.1
  python3 benches/peers/flat_scan.py BENCH RESULT.json [--set ROWS.npy QUERIES.npy] [--dims 96,384,768,1536] [--rounds 3]

BENCH is the binary that `cargo bench --no-default-features --bench backend --no-run` names. Rows of a set are widened and
scaled to norm 1; those of other dims are made by seed, 62,436 of them (how long a product takes does not depend on
what is in the rows). faiss is timed once for each OpenBLAS core type, with its BLAS threshold at 1 and at 20, and the least of all counts per
batch. Both are timed by the processor time of one thread.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
BATCHES = [1, 16, 256, 1000]
N_MADE = 62_436
SEED = 1


def unit(rows):
    import numpy as np

    rows = np.asarray(rows, np.float32)
    return np.ascontiguousarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def prepare(folder, dim, given):
    """Paths of rows and queries of `dim`: those of the given set if they fit, made ones otherwise."""
    import numpy as np

    paths = [folder / f"rows{dim}.npy", folder / f"queries{dim}.npy"]
    if given and np.load(given[0], mmap_mode="r").shape[1] == dim:
        both = [np.load(path) for path in given]
    else:
        rng = np.random.default_rng(SEED)
        both = [rng.standard_normal((n, dim), dtype=np.float32) for n in (N_MADE, max(BATCHES))]
    for path, rows in zip(paths, both):
        np.save(path, unit(rows))
    return paths


def peer(rows, queries, threshold):
    """Prints seconds of the faster of three calls per batch."""
    import faiss
    import numpy as np

    faiss.omp_set_num_threads(1)
    rows, queries = np.load(rows), np.load(queries)
    index = faiss.IndexFlatIP(rows.shape[1])
    index.add(rows)
    faiss.cvar.distance_compute_blas_threshold = threshold
    out = {}
    for batch in BATCHES:
        times = []
        for _ in range(3):
            began = time.process_time()
            index.search(queries[:batch], 10)
            times.append(time.process_time() - began)
        out[batch] = min(times)
    print(json.dumps(out))


def faiss_times(paths):
    out = {}
    for core in ("", "Haswell", "SkylakeX", "Zen"):
        for threshold in (1, 20):
            env = os.environ | ONE_THREAD | ({"OPENBLAS_CORETYPE": core} if core else {})
            command = [sys.executable, __file__, "--peer", *map(str, paths), str(threshold)]
            done = subprocess.run(command, env=env, check=True, capture_output=True, text=True)
            out[f"{core or 'default'} {threshold}"] = {int(k): v for k, v in json.loads(done.stdout).items()}
    return out


def ours(bench, paths, folder):
    env = os.environ | {"BENCH_FULL": "1", "NEARKIN_BENCH_ROWS": str(paths[0]), "NEARKIN_BENCH_QUERIES": str(paths[1])}
    out = folder / "ours.json"
    subprocess.run([bench, "--json", str(out), "flat_scan/dot"], env=env, check=True, capture_output=True)
    return json.loads(out.read_text())


def table(dim, rounds):
    """One line per element type and batch: the least of ours, of faiss, and the share of our roof."""
    ours = {}
    for case in (case for one in rounds for case in one["nearkin"]):
        dtype, batch = case["case"].split("/")[-2:]
        best = min(case["seconds"])
        least = max(case["bytes"] / case["roof_bytes_per_s"], 2 * case["products"] / case["roof_operations_per_s"])
        key = dtype, int(batch)
        ours[key] = max(ours.get(key, (0, 0)), (1 / best, least / best))
    for (dtype, batch), (rate, share) in ours.items():
        peers = {name: min(one["faiss"][name][batch] for one in rounds) for name in rounds[0]["faiss"]}
        name = min(peers, key=peers.get)
        print(f"| {dim} | {dtype} | {batch} | {1e3 / rate:.2f} ms, {100 * share:.0f} % | {peers[name] * 1e3:.2f} ms ({name})"
              f" | {peers[name] * rate:.2f}x |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bench")
    parser.add_argument("result")
    parser.add_argument("--set", nargs=2)
    parser.add_argument("--dims", default="96,384,768,1536")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    result = {"commit": commit, "machine": platform.machine(), "command": "benches/peers/flat_scan.py", "dims": {}}
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for dim in map(int, args.dims.split(",")):
            paths = prepare(folder, dim, args.set)
            rounds = [{"nearkin": ours(args.bench, paths, folder), "faiss": faiss_times(paths)} for _ in range(args.rounds)]
            result["dims"][dim] = rounds
            table(dim, rounds)
    Path(args.result).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    if sys.argv[1] == "--peer":
        peer(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        main()
