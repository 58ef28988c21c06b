"""One peer of `collection.py` in a process of its own.

    vector_peers.py SIDE JOB.json

Reads the job, builds or loads its index, says `{"ready_s": .., "built": .., ..}`, and for each line `POINT OUT` of its input answers all queries, writes the
row numbers (int64 [n_queries, k], -1 where there is none) to OUT and says `{"seconds": ..}`. What does not depend on the
queries (bit sets, gathered row numbers, parameters) is made before the clock is read. `call_s` is what as many calls take
that search an index of one row: the price of the way from Python into a library, which the caller takes off.
"""

import json
import os
import sys
import time

import numpy as np


def whole(path, save):
    """Saves aside, so that a run that is stopped leaves no half of an index."""
    save(path + ".part")
    os.rename(path + ".part", path)


class Hnswlib:
    """All queries in one call."""

    def __init__(self, job):
        self.job = job
        rows, kept = np.load(job["rows"], mmap_mode="r"), job.get("keep")
        self.index = self.empty(job, rows.shape[1])
        if kept and os.path.exists(kept):
            self.index.load_index(kept, max_elements=len(rows))
        else:
            self.index.init_index(len(rows), ef_construction=job["ef_construction"], M=job["m"])
            self.index.add_items(rows, num_threads=job["threads"])
            if kept:
                whole(kept, self.index.save_index)
        self.index.set_num_threads(1)

    @staticmethod
    def empty(job, dim):
        import hnswlib

        return hnswlib.Index("ip" if job["metric"] == "cosine" else "l2", dim)

    def about(self):
        return {"index_bytes": self.index.index_file_size()}

    def prepare(self, ef):
        self.index.set_ef(max(ef, self.job["k"]))

    def search(self, queries, k):
        return self.index.knn_query(queries, k, num_threads=1)[0]


class Faiss:
    """All queries in one call."""

    def __init__(self, job):
        import faiss

        self.faiss, kept = faiss, job.get("keep")
        if kept and os.path.exists(kept):
            self.index = faiss.read_index(kept)
        else:
            faiss.omp_set_num_threads(job["threads"])
            rows = np.load(job["rows"], mmap_mode="r")
            self.index = self.empty(job, rows.shape[1])
            for start in range(0, len(rows), 100_000):
                self.index.add(np.ascontiguousarray(rows[start : start + 100_000]))
            if kept:
                whole(kept, lambda path: faiss.write_index(self.index, path))
        faiss.omp_set_num_threads(1)

    def empty(self, job, dim):
        index = self.faiss.IndexHNSWFlat(dim, job["m"], self.kind(job))
        index.hnsw.efConstruction = job["ef_construction"]
        return index

    def kind(self, job):
        return self.faiss.METRIC_INNER_PRODUCT if job["metric"] == "cosine" else self.faiss.METRIC_L2

    def about(self):
        return {}

    def prepare(self, ef):
        self.index.hnsw.efSearch = ef

    def search(self, queries, k):
        return self.index.search(queries, k)[1]


class FaissFiltered(Faiss):
    """Query by query, since each has its own bit set; bit sets and parameters are made beforehand."""

    def __init__(self, job):
        super().__init__(job)
        self.bits, self.which = np.load(job["bits"]), np.load(job["which"])
        self.selectors = [self.faiss.IDSelectorBitmap(bits) for bits in self.bits]
        self.one = self.empty(job, self.index.d)
        self.one.add(np.load(job["queries"])[:1])
        # A selector only borrows its bits.
        self.one_bit = np.array([1], np.uint8)
        self.one_selector = self.faiss.IDSelectorBitmap(self.one_bit)

    def parameters(self, selector):
        return self.faiss.SearchParametersHNSW(sel=selector, efSearch=self.ef)

    def prepare(self, ef):
        self.ef = ef
        parameters = [self.parameters(selector) for selector in self.selectors]
        self.each = [parameters[number] for number in self.which]

    def search(self, queries, k):
        index = self.index
        return np.concatenate(
            [index.search(queries[i : i + 1], k, params=params)[1] for i, params in enumerate(self.each)]
        )

    def call(self, queries, k):
        params = self.parameters(self.one_selector)
        for i in range(len(queries)):
            self.one.search(queries[i : i + 1], k, params=params)


class FaissFlatFiltered(FaissFiltered):
    """A scan of the passing rows in C++; not asked for, but a harder peer."""

    def empty(self, job, dim):
        return self.faiss.IndexFlat(dim, self.kind(job))

    def parameters(self, selector):
        return self.faiss.SearchParameters(sel=selector)


class Usearch:
    """All queries in one call."""

    def __init__(self, job):
        from usearch.index import Index

        rows, kept = np.load(job["rows"], mmap_mode="r"), job.get("keep")
        self.index = Index(
            ndim=rows.shape[1],
            metric="ip" if job["metric"] == "cosine" else "l2sq",
            dtype="f32",
            connectivity=job["m"],
            expansion_add=job["ef_construction"],
        )
        if kept and os.path.exists(kept):
            self.index.load(kept)
        else:
            self.index.add(np.arange(len(rows)), rows, threads=job["threads"])
            if kept:
                whole(kept, self.index.save)

    def about(self):
        return {"index_bytes": self.index.serialized_length}

    def prepare(self, ef):
        self.index.expansion_search = ef

    def search(self, queries, k):
        found = self.index.search(queries, k, threads=1)
        keys = found.keys.astype(np.int64)
        keys[np.arange(k) >= np.asarray(found.counts)[:, None]] = -1
        return keys


class Scan:
    """numpy over the passing rows, query by query. Point 0 gathers them, point 1 compares all rows and leaves out the others;
    which rows pass is known before the clock is read."""

    def __init__(self, job):
        self.metric = job["metric"]
        self.rows = np.array(np.load(job["rows"], mmap_mode="r"))
        self.norms = np.einsum("ij,ij->i", self.rows, self.rows)
        self.bits, self.which = np.load(job["bits"]), np.load(job["which"])

    def about(self):
        return {}

    def prepare(self, point):
        self.scan = self.gathered if point == 0 else self.masked

    def distances(self, rows, norms, query):
        products = rows @ query
        return -products if self.metric == "cosine" else norms - 2 * products

    def gathered(self, query, slots, passing, k):
        near = self.distances(self.rows[slots], self.norms[slots], query)
        if len(near) <= k:
            return slots
        return slots[np.argpartition(near, k - 1)[:k]]

    def masked(self, query, slots, passing, k):
        near = self.distances(self.rows, self.norms, query)
        near[~passing] = np.inf
        return np.argpartition(near, k - 1)[: min(k, len(slots))]

    def timed(self, queries, k):
        found, seconds = np.full((len(queries), k), -1, np.int64), 0.0
        for i, query in enumerate(queries):
            passing = np.unpackbits(self.bits[self.which[i]], count=len(self.rows), bitorder="little").view(bool)
            slots = np.flatnonzero(passing)
            began = time.perf_counter()
            near = self.scan(query, slots, passing, k)
            seconds += time.perf_counter() - began
            found[i, : len(near)] = near
        return found, seconds


class HnswlibPerTenant:
    """One index for every tenant; the queries of a tenant are asked one by one."""

    def __init__(self, job):
        rows, tenants = np.load(job["rows"], mmap_mode="r"), np.load(job["tenants_of_rows"])
        order = np.argsort(tenants, kind="stable")
        self.indices, self.sizes = {}, {}
        for slots in np.split(order, np.flatnonzero(np.diff(tenants[order])) + 1):
            tenant = int(tenants[slots[0]])
            self.indices[tenant] = self.build(job, rows[slots], slots)
            self.sizes[tenant] = len(slots)
        self.asked = np.load(job["tenants_of_queries"])
        self.one = self.build(job, rows[:1], np.array([0]))
        self.k = job["k"]

    @staticmethod
    def build(job, rows, slots):
        index = Hnswlib.empty(job, rows.shape[1])
        index.init_index(len(rows), ef_construction=job["ef_construction"], M=job["m"])
        index.add_items(rows, slots, num_threads=job["threads"])
        index.set_num_threads(1)
        return index

    def about(self):
        total = sum(index.index_file_size() for index in self.indices.values())
        return {"index_bytes": total, "tenants": len(self.indices)}

    def prepare(self, ef):
        for index in self.indices.values():
            index.set_ef(max(ef, self.k))
        self.each = [(self.indices.get(int(t)), min(self.k, self.sizes.get(int(t), 0))) for t in self.asked]

    def search(self, queries, k):
        """Rows of each query; a list, as answers differ in length."""
        return [
            index.knn_query(queries[i], count, num_threads=1)[0][0] if index else ()
            for i, (index, count) in enumerate(self.each)
        ]

    def call(self, queries, k):
        for i, (index, _) in enumerate(self.each):
            if index:
                self.one.knn_query(queries[i], 1, num_threads=1)


SIDES = {
    "hnswlib": Hnswlib,
    "faiss HNSW": Faiss,
    "usearch": Usearch,
    "faiss HNSW + bitmap": FaissFiltered,
    "faiss flat + bitmap": FaissFlatFiltered,
    "numpy scan": Scan,
    "hnswlib per tenant": HnswlibPerTenant,
}


def filled(found, k):
    """[n_queries, k] int64 with -1 where a list is short."""
    out = np.full((len(found), k), -1, np.int64)
    for row, ids in zip(out, found):
        row[: len(ids)] = ids
    return out


def timed(peer, queries, k):
    if hasattr(peer, "timed"):
        return peer.timed(queries, k)
    began = time.perf_counter()
    found = peer.search(queries, k)
    return found, time.perf_counter() - began


def seconds_of_calls(peer, queries, k):
    began = time.perf_counter()
    peer.call(queries, k)
    return time.perf_counter() - began


def say(answer):
    print(json.dumps(answer), flush=True)


def main():
    with open(sys.argv[2], encoding="utf-8") as file:
        job = json.load(file)
    kept = job.get("keep")
    reused = bool(kept) and os.path.exists(kept)
    began = time.perf_counter()
    peer = SIDES[sys.argv[1]](job)
    say({"ready_s": time.perf_counter() - began, "built": not reused, **peer.about()})
    queries, k = np.load(job["queries"]), job["k"]
    for line in sys.stdin:
        point, out = line.rstrip("\n").split(" ", 1)
        peer.prepare(int(point))
        found, seconds = timed(peer, queries, k)
        call_s = min(seconds_of_calls(peer, queries, k) for _ in range(5)) if hasattr(peer, "call") else 0.0
        np.asarray(filled(found, k)).tofile(out)
        say({"seconds": seconds, "call_s": call_s})


if __name__ == "__main__":
    main()
