#!/usr/bin/env python3
"""A collection beside its peers, from the command line, on one thread: recall@10 beside every figure.

    pip install --no-deps -r benches/peers/requirements-vectors.txt
    cargo build --release
    cargo build --release --manifest-path benches/peers/hnsw_rs/Cargo.toml
    python3 benches/peers/collection.py --nearkin target/release/nearkin SET [SET ...] --out RESULT.json --plots DIR [--part PART ...]

SET is a folder as `vector_set.py` says; `generate.py` makes some. Parts:

    ann       unfiltered: hnswlib, faiss HNSW, usearch, hnsw_rs
    filters   about 50, 10, 1 and 0.1 % pass: faiss HNSW with a bit set, numpy over the passing rows (and faiss's flat scan)
    tenants   own tenant only: one hnswlib index per tenant for speed, one shared one for memory
    batches   the same filtered queries in batches of 1,000 and one by one
    half      f50 beside no filter, and two conditions that together pass about 4 %
    build     from nothing to the first answer, beside hnswlib with the same threads
    open      one query: the whole process, with the files in memory and dropped from it

All sides of a part run in turns within one run, one point after another; the best of the repetitions counts, by the wall clock.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import version

import numpy as np

import curves
from graph import qps_at
from nearkin_command import Nearkin, run
from vector_set import K, VectorSet

# What is put on the command line of `nearkin search` for each point of a curve; "" is what a user gets who asks for nothing.
# A point whose option the binary does not offer is left out, and named.
POINTS = {
    "ann": ["", *(f"--ef {ef}" for ef in (10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024))],
    "filters": ["", *(f"--ef {ef}" for ef in (10, 16, 32, 64, 128, 256, 512))],
    "tenants": ["", *(f"--ef {ef}" for ef in (10, 16, 32, 64, 128, 256))],
    "batches": [""],
    "half": ["", *(f"--ef {ef}" for ef in (16, 32, 64, 128, 256, 512)), "--exact"],
    "build": ["--ef 64", ""],
}
# How often our queries are asked in one process, as a new process finds nothing in the caches of the processor and a peer is
# asked again and again. The rate is that of all passes but the first: the difference of two processes, with one and with all.
PASSES = {"ann": 6, "filters": 3, "tenants": 6, "batches": 3, "half": 3}
# A first pass can be slower than the others by this factor; by more only where the machine was busy.
MOST_WARMED = 4
# The command that says how many bytes a collection takes, and the keys that lead to those of the files of its index.
STATS = {"command": "stats {data} --collection {collection}", "keys": ("store", "index_files", "bytes")}

M = 16
EF_CONSTRUCTION = 200
EFS = [10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768]
FILTERED_EFS = [16, 32, 64, 128, 256, 512, 1024, 2048, 4096]
FILTERS = ["f50", "f10", "f1", "f01"]
RECALLS = [0.9, 0.95, 0.99]
# A peer that finds so much is asked for no larger ef.
ENOUGH = 0.998


def one_thread():
    """The environment of a peer that searches on one thread, with the fastest products of OpenBLAS where the processor has them."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    with open("/proc/cpuinfo", encoding="ascii") as file:
        core = {"OPENBLAS_CORETYPE": "SkylakeX"} if "avx512f" in file.read() else {}
    return os.environ | dict.fromkeys(names, "1") | core


class Peer:
    """A process that answers all queries of a workload at a point."""

    def __init__(self, name, command, workload, points, build_threads):
        self.name, self.workload, self.points = name, workload, points
        self.sweep = points in (EFS, FILTERED_EFS)
        self.out = f"{workload.vectors.work}/{name.replace(' ', '-')}.found"
        environment = one_thread() | {"RAYON_NUM_THREADS": str(build_threads)}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.about = self.answer()

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended with code {self.process.wait()}")
        return json.loads(line)

    def ask(self, point):
        self.process.stdin.write(f"{point} {self.out}\n")
        self.process.stdin.flush()
        times = self.answer()
        return np.fromfile(self.out, np.int64).reshape(-1, K), times

    def rate(self, asked):
        """Queries per second, without the price of the calls from Python."""
        least = min(one["seconds"] for one in asked) - min(one.get("call_s", 0) for one in asked)
        return self.workload.vectors.n_queries / least

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Ours:
    """`nearkin search` at a point; a process for every question."""

    name = "nearkin"
    about = {}
    sweep = False

    def __init__(self, nearkin, workload, part, batch=1, points=None):
        self.nearkin, self.workload, self.batch, self.passes = nearkin, workload, batch, PASSES[part]
        self.points = offered(nearkin, POINTS[part]) if points is None else points

    def ask(self, point):
        ask = lambda passes: self.nearkin.search(self.workload.vectors, self.workload, point, self.batch, passes)
        _, first, _ = ask(1)
        found, every, _ = ask(self.passes)
        return found, {"first": first, "every": every}

    def rate(self, asked):
        """Queries per second of all passes but the first; of all, said aloud, where the first took so large a share of the time
        that something else must have run."""
        first, every = (min(one[which]["seconds"] for one in asked) for which in ("first", "every"))
        n_queries = self.workload.vectors.n_queries
        if every - first < (self.passes - 1) * first / MOST_WARMED:
            print(f"{self.workload.name}: first pass {first:.4f} s, {self.passes} passes {every:.4f} s; not quiet", file=sys.stderr)
            return self.passes * n_queries / every
        return (self.passes - 1) * n_queries / (every - first)

    def first_rate(self, asked):
        """Queries per second of a first pass, whose filters nobody asked for before, in a process that nobody asked before."""
        return self.workload.vectors.n_queries / min(one["first"]["seconds"] for one in asked)

    def close(self):
        pass


def offered(nearkin, points):
    """The points whose options `search` has."""
    has = lambda point: all(nearkin.offers("search", word) for word in point.split() if word.startswith("--"))
    return [point for point in points if has(point)]


def say_what_is_left_out(nearkin):
    for part, points in POINTS.items():
        lacking = [point for point in points if point not in offered(nearkin, points)]
        if lacking:
            print(f"{part}: left out, as `search` does not offer them: {', '.join(lacking)}", file=sys.stderr)


def label(point):
    return str(point) or "default"


def measure(sides, repetitions):
    """For each side what it says of itself, and for each point its recall, short answers, rate and every time measured."""
    asked = {side.name: {} for side in sides}
    scores, enough = {side.name: {} for side in sides}, set()
    for repetition in range(repetitions):
        for at in range(max(len(side.points) for side in sides)):
            for side in sides:
                if at >= len(side.points) or (repetition == 0 and side.name in enough):
                    continue
                point = label(side.points[at])
                if repetition > 0 and point not in scores[side.name]:
                    continue
                found, times = side.ask(side.points[at])
                asked[side.name].setdefault(point, []).append(times)
                if repetition == 0:
                    scores[side.name][point] = side.workload.score(found)
                    if side.sweep and scores[side.name][point][0] >= ENOUGH:
                        enough.add(side.name)
    results = {}
    for side in sides:
        side.close()
        points = {}
        for point, times in asked[side.name].items():
            recall, short = scores[side.name][point]
            points[point] = {"recall": recall, "short": short, "qps": side.rate(times), "times": times}
            if isinstance(side, Ours):
                points[point]["first_qps"] = side.first_rate(times)
        results[side.name] = {"about": side.about, "points": points}
    return results


def rates(results, rate="qps"):
    """For each side its rates at the recalls that are compared, read between points along the curve."""
    curve = lambda side: [(point["recall"], point.get(rate, point["qps"])) for point in side["points"].values()]
    return {name: {recall: qps_at(curve(side), recall) for recall in RECALLS} for name, side in results.items()}


def compared(results, counted, rate="qps"):
    """The ratio to the best of the peers that count, for each recall, with the peer's name; None where a side never gets there."""
    every, out = rates(results, rate), {}
    for recall in RECALLS:
        peers = {name: every[name][recall] for name in counted if every[name][recall]}
        ours = every["nearkin"][recall]
        best = max(peers, key=peers.get) if peers else None
        out[recall] = {"ratio": ours / peers[best], "peer": best} if ours and best else None
    return out


def table(title, results, ratios=None):
    """Markdown: every point of every side, and the rates at the recalls that are compared."""
    print(f"\n### {title}\n")
    for name, side in results.items():
        points = [f"{label}: {one['recall']:.4f} {one['qps']:,.0f}/s" for label, one in side["points"].items()]
        short = list(side["points"].values())[-1]["short"]
        print(f"- {name}: " + "; ".join(points) + (f" ({short} short answers at the last)" if short else ""))
    if ratios is None:
        return
    every = rates(results)
    print("\n| recall | " + " | ".join(every) + " | nearkin is |")
    print("|---|" + "---|" * (len(every) + 1))
    for recall in RECALLS:
        cells = [curves.thousands(one[recall]) if one[recall] else "not reached" for one in every.values()]
        ratio = ratios[recall]
        cells.append(f"{ratio['ratio']:.2f}x {ratio['peer']}" if ratio else "-")
        print(f"| {recall} | " + " | ".join(cells) + " |")
    sys.stdout.flush()


class Run:
    """The parts, with what the command line asked for."""

    def __init__(self, args):
        self.args = args
        self.nearkin = Nearkin(args.nearkin, 1)

    def job(self, vectors, workload, name, **more):
        """The path of what a peer is told."""
        job = {"rows": vectors.rows_path, "queries": vectors.queries_path, "metric": vectors.metric, "k": K, "m": M}
        job |= {"ef_construction": EF_CONSTRUCTION, "threads": self.args.build_threads}
        job |= {key: value for key, value in more.items() if not isinstance(value, np.ndarray)}
        arrays = {key: value for key, value in more.items() if isinstance(value, np.ndarray)}
        if workload.bits is not None:
            arrays |= {"bits": workload.bits, "which": workload.which}
        for key, value in arrays.items():
            job[key] = f"{vectors.work}/{key}.npy"
            np.save(job[key], value)
        path = f"{vectors.work}/{name.replace(' ', '-')}.json"
        with open(path, "w", encoding="utf-8") as file:
            json.dump(job, file)
        return path

    def peer(self, name, workload, points, **more):
        vectors = workload.vectors
        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "vector_peers.py")
        command = [sys.executable, script, name, self.job(vectors, workload, name, **more)]
        return Peer(name, command, workload, points, self.args.build_threads)

    def kept(self, vectors, name):
        """Where an index is kept for the next run."""
        return f"{vectors.work}/{name.replace(' ', '-')}.index"

    def wanted(self, names):
        asked = self.args.peers.split(",") if self.args.peers else names
        return [name for name in names if name in asked]

    def picture(self, vectors, part, title, results):
        if not self.args.plots:
            return
        os.makedirs(self.args.plots, exist_ok=True)
        series = []
        for name, side in results.items():
            at = rates(results)[name][0.95]
            note = f"{curves.thousands(at)}/s at recall 0.95" if at else "does not reach recall 0.95"
            points = [(point["recall"], point["qps"]) for point in side["points"].values()]
            series.append({"name": name, "points": points, "note": note})
        n_rows, dim = vectors.rows.shape
        about = f"{vectors.name}: {n_rows:,} x {dim}, {vectors.metric}, k {K}, one thread; up and to the right is better"
        curves.draw(f"{self.args.plots}/{vectors.name}-{part}.svg", title, about, series)

    def ann(self, vectors):
        workload, sides = vectors.workload("all"), []
        for name in self.wanted(["hnswlib", "faiss HNSW", "usearch"]):
            sides.append(self.peer(name, workload, EFS, keep=self.kept(vectors, name)))
        for name in self.wanted(["hnsw_rs"]):
            command = [self.args.hnsw_rs, vectors.rows_path, vectors.queries_path, vectors.metric]
            command += [str(M), str(EF_CONSTRUCTION), str(K)]
            sides.append(Peer(name, command, workload, EFS, self.args.build_threads))
        results = measure([Ours(self.nearkin, workload, "ann"), *sides], self.args.repetitions)
        ratios = compared(results, [side.name for side in sides])
        table(f"{vectors.name}: no filter", results, ratios)
        self.picture(vectors, "ann", "Search without a filter", results)
        return {"all": {"sides": results, "ratios": ratios}}

    def filters(self, vectors):
        out = {}
        for kind in [kind for kind in FILTERS if kind in vectors.kinds()]:
            workload = vectors.workload(kind)
            graph = self.kept(vectors, "faiss HNSW")
            points = {"faiss HNSW + bitmap": FILTERED_EFS, "numpy scan": [0, 1], "faiss flat + bitmap": [0]}
            sides = [
                self.peer(name, workload, points[name], **({"keep": graph} if name == "faiss HNSW + bitmap" else {}))
                for name in self.wanted(list(points))
            ]
            results = measure([Ours(self.nearkin, workload, "filters"), *sides], self.args.repetitions)
            counted = [side.name for side in sides if side.name != "faiss flat + bitmap"]
            ratios = compared(results, counted)
            share = workload.matches.mean() / len(vectors.rows)
            table(f"{vectors.name}: {kind}, {100 * share:.2g} % pass", results, ratios)
            first = compared(results, counted, "first_qps")
            ours = rates(results, "first_qps")["nearkin"]
            say = [f"{ours[at]:,.0f}/s, {one['ratio']:.2f}x at {at}" for at, one in first.items() if one]
            print("\nA first pass of a new process: " + "; ".join(say))
            self.picture(vectors, kind, f"Filters that pass about {100 * share:.2g} %", results)
            distinct = len(workload.bits)
            out[kind] = {"passing": share, "filters": distinct, "sides": results, "ratios": ratios, "first": first}
        return out

    def tenants(self, vectors):
        if "tenant" not in vectors.kinds():
            print(f"\n{vectors.name}: no tenants", file=sys.stderr)
            return {}
        workload = vectors.workload("tenant")
        numbers = {}
        field = vectors.attributes.rows
        of_rows = np.array([numbers.setdefault(row[vectors.tenant_field], len(numbers)) for row in field])
        of_queries = np.array([numbers.get(one["eq"][1], -1) for one in workload.filters])
        name = "hnswlib per tenant"
        each = self.peer(name, workload, EFS, tenants_of_rows=of_rows, tenants_of_queries=of_queries)
        shared = self.peer("hnswlib", workload, EFS, keep=self.kept(vectors, "hnswlib"))
        shared.close()
        results = measure([Ours(self.nearkin, workload, "tenants"), each], self.args.repetitions)
        ratios = compared(results, [name])
        sizes = self.nearkin.bytes_of(vectors, STATS["command"])
        ours, source = sizes["folder"], "folder"
        if "stats" in sizes:
            ours, source = sizes["stats"], "stats"
            for key in STATS["keys"]:
                ours = ours[key]
        table(f"{vectors.name}: {len(numbers)} tenants", results, ratios)
        memory = {"nearkin": ours, "from": source, "shared": shared.about["index_bytes"], "all": sizes}
        memory |= {"per tenant": each.about["index_bytes"], "ratio": ours / shared.about["index_bytes"]}
        print(
            f"\nbytes: nearkin {ours:,} ({source}), one shared hnswlib {memory['shared']:,}, one per tenant "
            f"{memory['per tenant']:,}: {memory['ratio']:.2f}x the shared one"
        )
        self.picture(vectors, "tenants", f"One tenant of {len(numbers):,} per query", results)
        return {"tenants": len(numbers), "sides": results, "ratios": ratios, "memory": memory}

    def batches(self, vectors):
        out = {}
        kinds = [kind for kind in [*FILTERS, "tenant", "tenant_attr"] if kind in vectors.kinds()]
        workloads = [vectors.workload(kind) for kind in kinds]
        workloads += [vectors.shared(kind, 20) for kind in ("f10", "f1") if kind in kinds]
        print(f"\n### {vectors.name}: batches\n\n| workload | one by one | in batches of 1,000 | ratio | recall | aim |\n|---|---|---|---|---|---|")
        for workload in workloads:
            sides = [Ours(self.nearkin, workload, "batches", batch) for batch in (1, 1000)]
            for side, name in zip(sides, ("one by one", "batches of 1,000")):
                side.name = name
            results = measure(sides, self.args.repetitions)
            (one,), (many,) = (side["points"].values() for side in results.values())
            ratio = many["qps"] / one["qps"]
            print(
                f"| {workload.name} | {curves.thousands(one['qps'])} | {curves.thousands(many['qps'])} | {ratio:.2f}x "
                f"| {one['recall']:.4f}, {many['recall']:.4f} | 5x |",
                flush=True,
            )
            out[workload.name] = {"sides": results, "ratio": ratio}
        return out

    def half(self, vectors):
        workloads = [vectors.workload("all")]
        workloads += [vectors.workload("f50")] if "f50" in vectors.kinds() else []
        workloads += [vectors.both_of_two()] if vectors.about.get("cat") or "and4" in vectors.kinds() else []
        sides = []
        for workload in workloads:
            side = Ours(self.nearkin, workload, "half")
            side.name = workload.name
            sides.append(side)
        results = measure(sides, self.args.repetitions)
        table(f"{vectors.name}: half removed, and two conditions", results)
        every = rates(results)
        out = {"sides": results}
        for recall in RECALLS:
            if "f50" in every and every["f50"][recall] and every["all"][recall]:
                out.setdefault("half", {})[recall] = every["f50"][recall] / every["all"][recall]
        if "half" in out:
            print("\nf50 beside no filter: " + ", ".join(f"{ratio:.2f}x at {recall}" for recall, ratio in out["half"].items()))
        if "and4" in results:
            for point, one in results["and4"]["points"].items():
                micros = min(times["every"]["p50_us"] for times in one["times"])
                print(f"and4, {workloads[-1].matches.mean() / len(vectors.rows):.3f} pass, {point}: recall {one['recall']:.4f}, p50 {micros} us")
        return out

    def build(self, vectors):
        """Until the first answer: `ingest` and a search of one query, beside hnswlib's adding of rows that are in memory."""
        workload, data = vectors.workload("all"), f"{vectors.work}/data-build"
        point = offered(self.nearkin, POINTS["build"])[0]
        rounds = []
        for _ in range(self.args.build_repetitions):
            shutil.rmtree(data, ignore_errors=True)
            self.nearkin.threads = self.args.build_threads
            ingest_s = self.nearkin.ingest(vectors, data)
            _, _, first_s = self.nearkin.search(vectors, workload, count=1, data=data)
            self.nearkin.threads = 1
            found, _, _ = self.nearkin.search(vectors, workload, point, data=data)
            peer = self.peer("hnswlib", workload, [64])
            near, _ = peer.ask(64)
            peer.close()
            one = {"ingest_s": ingest_s, "first_search_s": first_s, "recall": workload.score(found)[0], "point": label(point)}
            rounds.append(one | {"hnswlib_s": peer.about["ready_s"], "hnswlib_recall": workload.score(near)[0]})
        shutil.rmtree(data)
        best = lambda *keys: min(sum(one[key] for key in keys) for one in rounds)
        ours, theirs = best("ingest_s", "first_search_s"), best("hnswlib_s")
        print(
            f"\n### {vectors.name}: build, {self.args.build_threads} threads\n\nnearkin {best('ingest_s'):.1f} s of ingest, {ours:.1f} s "
            f"to the first answer (recall {rounds[0]['recall']:.4f} at {label(point)}); hnswlib {theirs:.1f} s (recall "
            f"{rounds[0]['hnswlib_recall']:.4f} at ef 64): {theirs / ours:.2f}x as fast",
            flush=True,
        )
        return {"threads": self.args.build_threads, "rounds": rounds, "ratio": theirs / ours}

    def open(self, vectors):
        """Milliseconds of a process that answers one query."""
        workload, times = vectors.workload("all"), {"warm": [], "dropped": [], "version": [], "said": []}
        self.nearkin.search(vectors, workload, count=1)
        for _ in range(self.args.repetitions):
            _, summary, seconds = self.nearkin.search(vectors, workload, count=1)
            times["warm"].append(seconds)
            times["said"].append({key: value for key, value in summary.items() if "open" in key})
            drop_from_memory(self.nearkin.data(vectors))
            times["dropped"].append(self.nearkin.search(vectors, workload, count=1)[2])
            times["version"].append(run([self.args.nearkin, "--version"])[0])
        best = {key: 1e3 * min(times[key]) for key in ("warm", "dropped", "version")}
        print(
            f"\n### {vectors.name}: open and answer one query, {len(vectors.rows):,} rows\n\n{best['warm']:.1f} ms for the process, "
            f"{best['dropped']:.1f} ms with the files dropped from memory ({best['version']:.1f} ms for `--version`); search says "
            f"{times['said'][-1] or 'nothing of opening'}",
            flush=True,
        )
        return {"rows": len(vectors.rows), "times": times}


def drop_from_memory(folder):
    """Asks the kernel to forget the pages of all files; dirty ones are written first."""
    for at, _, names in os.walk(folder):
        for name in names:
            file = os.open(os.path.join(at, name), os.O_RDONLY)
            os.fsync(file)
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(file)


def machine():
    """Processor and how busy it was, by what the kernel says."""
    with open("/proc/cpuinfo", encoding="ascii") as file:
        facts = dict(line.split(":", 1) for line in file.read().split("\n\n")[0].splitlines() if ":" in line)
    facts = {key.strip(): value.strip() for key, value in facts.items()}
    names = ("model name", "cpu family", "model")
    avx512 = "avx512f" in facts.get("flags", "")
    return {name: facts.get(name) for name in names} | {"cores": os.cpu_count(), "avx512": avx512, "load": os.getloadavg()}


PEERS = ["hnswlib", "faiss HNSW", "usearch", "hnsw_rs", "faiss HNSW + bitmap", "faiss flat + bitmap", "numpy scan"]
PARTS = ["ann", "filters", "tenants", "batches", "half", "build", "open"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    here = os.path.dirname(os.path.abspath(__file__))
    parser.add_argument("sets", nargs="+")
    parser.add_argument("--nearkin", required=True)
    parser.add_argument("--out")
    parser.add_argument("--plots", help="folder of the pictures")
    parser.add_argument("--part", action="append", choices=PARTS, help="may be repeated; all without")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--build-repetitions", type=int, default=1)
    parser.add_argument("--build-threads", type=int, default=1, help="of every side that builds")
    parser.add_argument("--queries", type=int, help="the first so many of each set")
    parser.add_argument("--peers", help="of ann and filters: names, with commas between them; all without")
    parser.add_argument("--hnsw-rs", default=f"{here}/hnsw_rs/target/release/hnsw-rs-peer")
    parser.add_argument("--work", default=f"{here}/work", help="collections, indices and widened rows are kept here")
    args = parser.parse_args()
    unknown = set(args.peers.split(",") if args.peers else []) - set(PEERS)
    if unknown:
        parser.error(f"--peers: expected some of {', '.join(PEERS)}, received {', '.join(sorted(unknown))}")
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    packages = {name: version(name) for name in ("numpy", "hnswlib", "faiss-cpu", "usearch")}
    result = {"commit": commit, "machine": machine(), "packages": packages | {"hnsw_rs": "0.3.5"}, "sets": {}}
    result |= {"m": M, "ef_construction": EF_CONSTRUCTION, "repetitions": args.repetitions, "passes": PASSES}
    session = Run(args)
    say_what_is_left_out(session.nearkin)
    for folder in args.sets:
        vectors = VectorSet(folder, args.work, args.queries)
        session.nearkin.ensure(vectors)
        about = {"rows": vectors.rows.shape, "metric": vectors.metric, "queries": vectors.n_queries, "parts": {}}
        result["sets"][vectors.name] = about
        for part in args.part or PARTS:
            about["parts"][part] = getattr(session, part)(vectors) | {"load": os.getloadavg()}
            if args.out:
                with open(args.out, "w", encoding="utf-8") as file:
                    json.dump(result, file, indent=1)
                    file.write("\n")


if __name__ == "__main__":
    main()
