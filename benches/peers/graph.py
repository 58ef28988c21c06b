"""Our graph beside hnswlib, faiss and usearch: recall@10 against queries per second, one thread each.

    cargo bench --no-default-features --bench graph --no-run
    python3 benches/peers/graph.py --nearkin target/release/deps/graph-HASH SET [SET ...] --out RESULT.json

SET is a folder with base.npy, queries.npy, set.json and gt/all.dist.npy; a folder of vectors whose answers lie elsewhere is
written VECTORS:ANSWERS. Needs the packages hnswlib, faiss-cpu, usearch and numpy. Every side is a process of its own,
builds once with M 16 and ef_construction 200, and is then asked for one ef after another, the sides in turn; the best of
the repetitions counts, in processor time, so that other work on the machine weighs little. Peers answer all queries in one
call, ours one by one. A neighbor counts if it is no farther than the tenth of the exact answer.
"""

import argparse
import json
import subprocess
import sys
import time

K = 10
M = 16
EF_CONSTRUCTION = 200
EFS = [10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768]
RECALLS = [0.9, 0.95, 0.99]


def load(folder):
    import numpy

    vectors, _, answers = folder.partition(":")
    answers = answers or vectors
    with open(f"{answers}/set.json", encoding="utf-8") as file:
        metric = json.load(file)["metric"]
    rows, queries = (
        numpy.load(f"{vectors}/{name}.npy").astype("float32") for name in ("base", "queries")
    )
    if metric == "cosine":
        for matrix in (rows, queries):
            matrix /= numpy.linalg.norm(matrix, axis=1, keepdims=True)
    return metric, rows, queries, numpy.load(f"{answers}/gt/all.dist.npy")


class Hnswlib:
    def __init__(self, metric, rows):
        import hnswlib

        self.index = hnswlib.Index("ip" if metric == "cosine" else "l2", rows.shape[1])
        self.index.init_index(len(rows), ef_construction=EF_CONSTRUCTION, M=M)
        self.index.set_num_threads(1)
        self.index.add_items(rows, num_threads=1)

    def search(self, queries, ef):
        self.index.set_ef(max(ef, K))
        return self.index.knn_query(queries, K, num_threads=1)[0]


class Faiss:
    def __init__(self, metric, rows, code=None):
        import faiss

        faiss.omp_set_num_threads(1)
        kind = faiss.METRIC_INNER_PRODUCT if metric == "cosine" else faiss.METRIC_L2
        if code is None:
            self.index = faiss.IndexHNSWFlat(rows.shape[1], M, kind)
        else:
            self.index = faiss.IndexHNSWSQ(rows.shape[1], getattr(faiss.ScalarQuantizer, code), M, kind)
        self.index.hnsw.efConstruction = EF_CONSTRUCTION
        self.index.train(rows)
        self.index.add(rows)

    def search(self, queries, ef):
        self.index.hnsw.efSearch = ef
        return self.index.search(queries, K)[1]


class Usearch:
    def __init__(self, metric, rows, dtype="f32"):
        import numpy
        from usearch.index import Index

        self.index = Index(
            ndim=rows.shape[1],
            metric="ip" if metric == "cosine" else "l2sq",
            dtype=dtype,
            connectivity=M,
            expansion_add=EF_CONSTRUCTION,
        )
        self.index.add(numpy.arange(len(rows)), rows, threads=1)

    def search(self, queries, ef):
        self.index.expansion_search = ef
        return self.index.search(queries, K, threads=1).keys


PEERS = {
    "hnswlib": Hnswlib,
    "faiss": Faiss,
    "faiss-sq8": lambda metric, rows: Faiss(metric, rows, "QT_8bit"),
    "usearch": Usearch,
    "usearch-f16": lambda metric, rows: Usearch(metric, rows, "f16"),
}


def serve_peer(name, folder):
    """A process of one peer: `ef N` gives a line of JSON."""
    import numpy

    metric, rows, queries, truth = load(folder)
    began = time.process_time()
    peer = PEERS[name](metric, rows)
    say({"side": name, "build_s": time.process_time() - began})
    tenth = truth[:, 1] + (0.5 if metric == "l2" else 1e-6)
    for line in sys.stdin:
        ef = int(line.split()[1])
        began = time.process_time()
        found = peer.search(queries, ef)
        seconds = time.process_time() - began
        near = rows[numpy.maximum(found.astype("int64"), 0)]
        if metric == "l2":
            distances = ((near - queries[:, None]) ** 2).sum(axis=2)
        else:
            distances = 1 - (near * queries[:, None]).sum(axis=2)
        hits = (distances <= tenth[:, None]) & (found.astype("int64") >= 0)
        say({"ef": ef, "recall": float(hits.mean()), "qps": len(queries) / seconds})


def say(answer):
    print(json.dumps(answer), flush=True)


class Side:
    def __init__(self, command):
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.about = json.loads(self.process.stdout.readline())

    def ask(self, question):
        self.process.stdin.write(question + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


def qps_at(curve, recall):
    """The best rate at a recall of at least so much, between measured points along the curve; None past its end."""
    frontier = []
    for point in sorted(curve, key=lambda point: -point[1]):
        if not frontier or point[0] > frontier[-1][0]:
            frontier.append(point)
    for low, high in zip(frontier, frontier[1:]):
        if low[0] < recall <= high[0]:
            share = (recall - low[0]) / (high[0] - low[0])
            return low[1] * (high[1] / low[1]) ** share
    return frontier[0][1] if frontier and frontier[0][0] >= recall else None


def run(folder, args):
    vectors, _, answers = folder.partition(":")
    sides = {"nearkin": [args.nearkin, vectors, answers or vectors, "--serve"]}
    for name in args.peers.split(","):
        sides[name] = [sys.executable, __file__, "--peer", name, folder]
    # Built one after another, so that no build disturbs another.
    sides = {name: Side(command) for name, command in sides.items()}
    curves = {name: {} for name in sides}
    for _ in range(args.repetitions):
        for ef in EFS:
            for name, side in sides.items():
                answer = side.ask(f"ef {ef}")
                recall, best = curves[name].get(ef, (0, 0))
                curves[name][ef] = (answer["recall"], max(best, answer["qps"]))
    print(f"## {folder}")
    for name, side in sides.items():
        side.process.stdin.close()
        print(f"{name}: {side.about}")
        print("  " + " ".join(f"{ef}:{r:.4f}/{q:.0f}" for ef, (r, q) in curves[name].items()))
    ratios = {}
    for recall in RECALLS:
        rates = {name: qps_at(list(curve.values()), recall) for name, curve in curves.items()}
        peers = {name: rate for name, rate in rates.items() if rate and name != "nearkin"}
        if rates["nearkin"] and peers:
            best = max(peers, key=peers.get)
            ratios[recall] = rates["nearkin"] / peers[best]
            print(f"recall {recall}: {rates['nearkin']:.0f} q/s, {ratios[recall]:.2f} x {best} {peers[best]:.0f}")
    about = {name: side.about for name, side in sides.items()}
    return {"set": folder, "about": about, "curves": curves, "ratios": ratios}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("sets", nargs="+")
    parser.add_argument("--nearkin")
    parser.add_argument("--out")
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--peer")
    args = parser.parse_args()
    if args.peer:
        return serve_peer(args.peer, args.sets[0])
    results = [run(folder, args) for folder in args.sets]
    if args.out:
        with open(args.out, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=1)
            file.write("\n")


if __name__ == "__main__":
    main()
