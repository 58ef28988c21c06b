"""All pairs of real rows at or above a cosine: nearkin against a blocked numpy join, one thread each.

Rows: those of an array of real embeddings, widened to f32 and scaled to norm 1, and rows made from them up to 100,000
(a row plus noise of a random length from 0 to 0.8, seeded), all shuffled by seed. The numpy join is
`block @ block.T >= t` and `nonzero` over blocks of the upper triangle, with the block size and OpenBLAS core type that
are fastest here. Both lists are compared: they may differ only where 32-bit sums of numpy cross the threshold.

    python pairs_bounds.py BASE.npy NEARKIN OUT.json [--n 100000] [--repeats 3]
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
SEED = 20261124


def made_rows(base_path, n):
    """Real rows and rows made from them, [n, dim], norm 1."""
    import numpy as np

    base = np.load(base_path).astype(np.float32)
    base /= np.linalg.norm(base, axis=1, keepdims=True)
    base = base[:n]
    rng = np.random.default_rng(SEED)
    source = rng.integers(0, len(base), n - len(base))
    noise = rng.standard_normal((len(source), base.shape[1]), dtype=np.float32)
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    made = base[source] + rng.uniform(0, 0.8, (len(source), 1)).astype(np.float32) * noise
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    rows = np.concatenate([base, made])
    return np.ascontiguousarray(rows[rng.permutation(n)])


def numpy_join(path, threshold, block):
    """Seconds, and pairs [n_pairs, 2], of the upper triangle."""
    import numpy as np

    rows = np.load(path)
    began, found = time.perf_counter(), []
    for i in range(0, len(rows), block):
        for j in range(i, len(rows), block):
            a, b = np.nonzero(rows[i : i + block] @ rows[j : j + block].T >= threshold)
            if i == j:
                a, b = a[a < b], b[a < b]
            found.append(np.stack([a + i, b + j], axis=1))
    seconds = time.perf_counter() - began
    return seconds, np.concatenate(found)


def child(path, threshold, block, core_type, out):
    """`numpy_join` in a process of its own: threads and core type are read once."""
    env = os.environ | ONE_THREAD | ({"OPENBLAS_CORETYPE": core_type} if core_type else {})
    command = [sys.executable, __file__, "--child", path, str(threshold), str(block), out]
    return float(subprocess.run(command, env=env, check=True, capture_output=True).stdout)


def best_numpy(path, folder):
    """The fastest block size and core type on a part of the rows."""
    import numpy as np

    part = str(Path(folder) / "part.npy")
    np.save(part, np.load(path)[:8192])
    tried = {}
    for core_type in ["", "Haswell", "Zen", "SkylakeX"]:
        for block in [1024, 2048, 4096]:
            times = [child(part, 0.95, block, core_type, part + ".out.npy") for _ in range(2)]
            tried[f"{core_type or 'default'} {block}"] = min(times)
    best = min(tried, key=tried.get)
    core_type, block = best.split()
    return "" if core_type == "default" else core_type, int(block), tried


def nearkin_join(binary, path, threshold, out, extra=()):
    """Seconds, reading and writing files included, and what the program says."""
    command = [binary, "pairs", path, "--similarity", str(threshold), "--out", out, "--overwrite"]
    began = time.perf_counter()
    run = subprocess.run([*command, "--threads", "1", *extra], check=True, capture_output=True)
    return time.perf_counter() - began, run.stdout.decode().splitlines()


def differences(path, threshold, theirs, ours):
    """Pairs in one list only, and how far the exact cosine of the farthest of them is from the threshold."""
    import numpy as np

    rows = np.load(path).astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    pairs = [json.loads(line) for line in open(ours)]
    ours = {(pair["a"], pair["b"]) for pair in pairs}
    theirs = set(map(tuple, theirs.tolist()))
    odd = ours ^ theirs
    off = [abs(float(rows[a] @ rows[b]) - threshold) for a, b in odd]
    return {"numpy": len(theirs), "nearkin": len(ours), "in_one_only": len(odd),
            "farthest_from_threshold": max(off, default=0.0)}


def cpu_name():
    for line in open("/proc/cpuinfo"):
        if line.startswith("model name"):
            return line.split(":")[1].strip()
    return platform.processor()


def main():
    import numpy as np

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("base")
    parser.add_argument("binary")
    parser.add_argument("out")
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True)
    result = {"commit": commit.stdout.strip(), "cpu": cpu_name(), "cores": os.cpu_count(),
              "numpy": np.__version__, "n_real": len(np.load(args.base, mmap_mode="r")),
              "n_rows": args.n, "seed": SEED, "threads": 1, "joins": []}
    with tempfile.TemporaryDirectory() as folder:
        path, out = str(Path(folder) / "rows.npy"), str(Path(folder) / "pairs.jsonl")
        np.save(path, made_rows(args.base, args.n))
        core_type, block, result["numpy_tried_s"] = best_numpy(path, folder)
        result["numpy_core_type"], result["numpy_block"] = core_type or "default", block
        for threshold in [0.95, 0.9]:
            ours = [nearkin_join(args.binary, path, threshold, out) for _ in range(args.repeats)]
            theirs = child(path, threshold, block, core_type, out + ".npy")
            # Once more on the other side of the long run: the machine may have changed.
            ours.append(nearkin_join(args.binary, path, threshold, out))
            seconds = [run[0] for run in ours]
            join = {"threshold": threshold, "nearkin_s": seconds, "numpy_s": [theirs],
                    "ratio": theirs / min(seconds), "nearkin_says": ours[-1][1][:-1],
                    "pairs": differences(path, threshold, np.load(out + ".npy"), out)}
            result["joins"].append(join)
            print(json.dumps(join, indent=1), flush=True)
    Path(args.out).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    if sys.argv[1] == "--child":
        import numpy

        seconds, found = numpy_join(sys.argv[2], float(sys.argv[3]), int(sys.argv[4]))
        numpy.save(sys.argv[5], found)
        print(seconds)
    else:
        main()
