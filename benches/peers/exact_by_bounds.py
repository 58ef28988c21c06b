"""Exact search by bounds beside faiss IndexFlat, one thread each, in turns within one run.

    exact_by_bounds.py SET_DIR... --nearkin target/release/deps/quant-HASH --out RESULT.json

SET_DIR holds base.npy, queries.npy, set.json and gt/all.dist.npy. Needs numpy and faiss-cpu 1.15.1.
`--nearkin` is the bench binary of `cargo bench --no-default-features --bench quant --no-run`; it is
asked through `--serve`. faiss runs in processes of its own, one per OpenBLAS core type (unset, Haswell,
Zen) and with its BLAS threshold at 1 and at the default of 20; its best of all these counts per batch. Queries per second are
counted by the processor time of each process, so that other work on the machine weighs less; wall time
stands beside it in the result.
"""

import argparse
import json
import os
import subprocess
import sys
import time

K = 10


def load(folder, name, metric):
    import numpy as np

    rows = np.load(os.path.join(folder, name)).astype(np.float32)
    if metric == "cosine":
        rows /= np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True).astype(np.float32)
    return np.ascontiguousarray(rows)


def peer(folder):
    """Answers `BATCH THRESHOLD` with queries per second, until end of file."""
    import faiss

    faiss.omp_set_num_threads(1)
    with open(os.path.join(folder, "set.json"), encoding="utf-8") as file:
        metric = json.load(file)["metric"]
    base, queries = load(folder, "base.npy", metric), load(folder, "queries.npy", metric)
    kind = faiss.IndexFlatIP if metric == "cosine" else faiss.IndexFlatL2
    index = kind(base.shape[1])
    index.add(base)
    print(json.dumps({"faiss": faiss.__version__, "index": kind.__name__}), flush=True)
    for line in sys.stdin:
        batch, threshold = map(int, line.split())
        faiss.cvar.distance_compute_blas_threshold = threshold
        n = min(len(queries), max(256, batch))
        began, cpu_began = time.perf_counter(), time.process_time()
        for start in range(0, n, batch):
            index.search(queries[start : min(n, start + batch)], K)
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu_began
        answer = {"batch": batch, "threshold": threshold, "n_queries": n}
        print(json.dumps(dict(answer, qps=n / seconds, cpu_qps=n / cpu)), flush=True)


class Side:
    """A process that is sent lines and answers each with one JSON object."""

    def __init__(self, name, command, env):
        self.name = name
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, text=True
        )
        self.about = json.loads(self.process.stdout.readline())

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def start_peers(folder):
    sides = []
    for core in ("", "Haswell", "Zen", "SkylakeX"):
        env = dict(os.environ, OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
        env.pop("OPENBLAS_CORETYPE", None)
        if core:
            env["OPENBLAS_CORETYPE"] = core
        command = [sys.executable, os.path.abspath(__file__), "--peer", folder]
        sides.append(Side(f"faiss {core or 'auto'}", command, env))
    return sides


def run_set(folder, args):
    """Every repetition of every side on one set."""
    ours = Side("nearkin", [args.nearkin, "--serve", folder], dict(os.environ))
    result = {"set": os.path.basename(os.path.normpath(folder)), "nearkin": ours.about}
    ways = args.ways.split(",")
    result["recall"] = [ours.ask(f"recall {way}") for way in ways if way in ("bits", "bytes")]
    peers = start_peers(folder) if args.repetitions else []
    result["peers"] = [dict(side.about, side=side.name) for side in peers]
    result["runs"] = []
    for repetition in range(args.repetitions):
        for batch in map(int, args.batches.split(",")):
            for way in ways:
                answer = ours.ask(f"{way} {batch}")
                result["runs"].append(dict(answer, side=f"nearkin {way}", repetition=repetition))
            for side in peers:
                for threshold in (1, 20):
                    answer = side.ask(f"{batch} {threshold}")
                    name = f"{side.name}, threshold {threshold}"
                    result["runs"].append(dict(answer, side=name, repetition=repetition))
    for side in [ours, *peers]:
        side.close()
    return result


def best(runs, batch, prefix):
    """The fastest side whose name begins so, by its best repetition."""
    fitting = [run for run in runs if run["batch"] == batch and run["side"].startswith(prefix)]
    return max(fitting, key=lambda run: run["cpu_qps"]) if fitting else None


def table(result, batches):
    lines = [f"## {result['set']}"]
    for recall in result["recall"]:
        lines.append(f"{recall['way']}: recall@10 {recall['recall']:.5f}, missed {recall['missed']}")
    for batch in batches:
        peer_run = best(result["runs"], batch, "faiss")
        for side in sorted({run["side"] for run in result["runs"] if run["side"][:4] == "near"}):
            run = best(result["runs"], batch, side)
            ratio = run["cpu_qps"] / peer_run["cpu_qps"]
            lines.append(
                f"batch {batch}: {side} {run['cpu_qps']:.0f} q/s, {ratio:.2f} x "
                f"{peer_run['side']} {peer_run['cpu_qps']:.0f} q/s"
            )
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("sets", nargs="*")
    parser.add_argument("--nearkin")
    parser.add_argument("--out")
    parser.add_argument("--batches", default="1,16,256")
    parser.add_argument("--ways", default="bits,scan")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--peer")
    args = parser.parse_args()
    if args.peer:
        return peer(args.peer)
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        model = next((line for line in file if line.startswith("model name")), "").partition(": ")[2]
    results = {"cpu": model.strip(), "k": K, "sets": []}
    for folder in args.sets:
        results["sets"].append(run_set(folder, args))
        if args.repetitions:
            print(table(results["sets"][-1], list(map(int, args.batches.split(",")))))
        with open(args.out, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=1)
            file.write("\n")


if __name__ == "__main__":
    main()
