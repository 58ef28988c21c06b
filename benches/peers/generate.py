#!/usr/bin/env python3
"""Sets of vectors for `collection.py`, made by seed, with exact answers; layout as in `vector_set.py`.

    generate.py mixture N DIM FOLDER [--metric l2|cosine] [--queries 1000] [--seed 1]
    generate.py tenants SET FOLDER [--tenants 1000] [--seed 1]

`mixture` draws rows from clusters whose sizes are skewed (Zipf, exponent 0.8), each of them a stretched blob in a space of 40
directions, of which the first ones matter most, plus a little noise in all others; queries are drawn the same way and held
out. Every row has two whole numbers `u` and `v` in [0, 1,000,000), independent of the place, and a tenant by Zipf (exponent 1,
1,000 of them). Filters, another for every query: ranges of `u` that pass 50, 10, 1 and 0.1 %, a range of each of `u` and `v`
that pass 20 % (4 % together), own tenant. `tenants` gives the rows of another set such tenants, and nothing else.

FOLDER is kept: what is there already, by the same words, isn't made again.
"""

import argparse
import json
import os

import numpy as np

from vector_set import VectorSet

BLOCK = 20_000
LATENT = 40
RANGE = 1_000_000
SHARES = {"f50": 0.5, "f10": 0.1, "f1": 0.01, "f01": 0.001}
RANKS = (1, 10, 50, 100)
# Candidates of the 32-bit pass that are compared again in 64 bits; more than rank 100, so that rounding moves none out.
CANDIDATES = 150


def zipf(random, n, exponent, count):
    weights = 1 / np.arange(1, n + 1) ** exponent
    return random.choice(n, size=count, p=weights / weights.sum())


class Mixture:
    def __init__(self, dim, metric, n_clusters, seed):
        random = np.random.default_rng([seed, 0])
        self.metric, self.seed, self.n_clusters = metric, seed, n_clusters
        stretch = np.arange(1, LATENT + 1) ** -0.1
        self.centers = random.normal(size=(n_clusters, LATENT)) * stretch
        # Each cluster is wide along other directions than its neighbors.
        self.widths = stretch * 0.55 * random.lognormal(0, 0.5, size=(n_clusters, LATENT))
        self.out = random.normal(size=(LATENT, dim)) / LATENT**0.5
        self.noise = 0.02

    def draw(self, stream, count):
        """[count, dim] f32; one stream, one block."""
        random = np.random.default_rng([self.seed, 1, stream])
        cluster = zipf(random, self.n_clusters, 0.8, count)
        latent = self.centers[cluster] + self.widths[cluster] * random.normal(size=(count, LATENT))
        rows = latent @ self.out + self.noise * random.normal(size=(count, self.out.shape[1]))
        if self.metric == "cosine":
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return rows.astype(np.float32)


def lines(path, objects):
    with open(path + ".part", "w", encoding="utf-8") as file:
        for one in objects:
            file.write(json.dumps(one) + "\n")
    os.rename(path + ".part", path)


def write_json(path, value):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=1)
        file.write("\n")


def write_answers(vectors, kind, filters):
    """Exact distances and row numbers of the nearest 100, of all rows where `filters` is None."""
    n_queries, bits = vectors.n_queries, None
    if filters is not None:
        bits = [np.packbits(vectors.attributes.passing(one), bitorder="little") for one in filters]
    near = np.full((n_queries, 0), 0, np.float32)
    slots = np.full((n_queries, 0), 0, np.int64)
    for start in range(0, len(vectors.rows), BLOCK):
        block = np.asarray(vectors.rows[start : start + BLOCK])
        distances = -(vectors.queries @ block.T)
        if vectors.metric == "l2":
            distances = 2 * distances + np.einsum("ij,ij->i", block, block)
        if bits is not None:
            # Blocks start at a whole byte.
            own = [np.unpackbits(one[start // 8 :][: -(-len(block) // 8)], count=len(block), bitorder="little") for one in bits]
            distances[np.array(own) == 0] = np.inf
        count = min(CANDIDATES, len(block))
        best = np.argpartition(distances, count - 1, axis=1)[:, :count]
        near = np.concatenate([near, np.take_along_axis(distances, best, 1)], axis=1)
        slots = np.concatenate([slots, best + start], axis=1)
        kept = np.argsort(near, axis=1)[:, :CANDIDATES]
        near, slots = np.take_along_axis(near, kept, 1), np.take_along_axis(slots, kept, 1)
    ids = np.full((n_queries, RANKS[-1]), -1, np.int32)
    ranks = np.full((n_queries, len(RANKS)), np.inf, np.float32)
    for query in range(n_queries):
        candidates = slots[query][np.isfinite(near[query])]
        exact = vectors.distances(vectors.rows[candidates], vectors.queries[query])
        order = np.argsort(exact, kind="stable")[: RANKS[-1]]
        ids[query, : len(order)] = candidates[order]
        for at, rank in enumerate(RANKS):
            if rank <= len(order):
                ranks[query, at] = exact[order[rank - 1]]
    if bits is not None:
        counts = [int(np.unpackbits(one).sum()) for one in bits]
        lines(f"{vectors.folder}/gt/{kind}.filters.jsonl", ({"filter": one, "matches": n} for one, n in zip(filters, counts)))
    np.save(f"{vectors.folder}/gt/{kind}.ids.npy", ids)
    np.save(f"{vectors.folder}/gt/{kind}.dist.npy", ranks)
    print(f"{vectors.name}: {kind}", flush=True)


def span(random, field, share):
    width = int(share * RANGE)
    start = int(random.integers(0, RANGE - width + 1))
    return {"range": [field, start, start + width - 1]}


def answer_all(vectors, seed, n_tenants, kinds):
    """The kinds that have no answers yet, whose filters are drawn by seed."""
    n_queries = vectors.n_queries
    for kind in kinds:
        if os.path.exists(f"{vectors.folder}/gt/{kind}.dist.npy"):
            continue
        random = np.random.default_rng([seed, 3, len(kind), int(1e6 * SHARES.get(kind, 0))])
        if kind == "all":
            write_answers(vectors, kind, None)
            continue
        if kind == "tenant":
            # Who has more rows asks more often.
            filters = [{"eq": ["tenant", f"t{number}"]} for number in zipf(random, n_tenants, 1.0, n_queries)]
        elif kind == "and4":
            filters = [{"and": [span(random, field, 0.2) for field in "uv"]} for _ in range(n_queries)]
        else:
            filters = [span(random, "u", SHARES[kind]) for _ in range(n_queries)]
        write_answers(vectors, kind, filters)


def mixture(args):
    os.makedirs(f"{args.folder}/gt", exist_ok=True)
    wanted = {"made": [args.n, args.dim, args.metric, args.queries, args.seed, args.tenants]}
    check_same(args.folder, wanted)
    if not os.path.exists(f"{args.folder}/base.jsonl"):
        # A cluster for every 1,000 rows: the largest then hold a few per cent.
        made = Mixture(args.dim, args.metric, max(20, args.n // 1000), args.seed)
        rows = np.lib.format.open_memmap(f"{args.folder}/base.npy", "w+", np.float32, (args.n, args.dim))
        for stream, start in enumerate(range(0, args.n, BLOCK)):
            rows[start : start + BLOCK] = made.draw(stream, min(BLOCK, args.n - start))
        rows.flush()
        # No block has this number.
        np.save(f"{args.folder}/queries.npy", made.draw(2**32, args.queries))
        random = np.random.default_rng([args.seed, 2])
        columns = [random.integers(0, RANGE, args.n).tolist() for _ in "uv"]
        columns.append(zipf(random, args.tenants, 1.0, args.n).tolist())
        lines(f"{args.folder}/base.jsonl", ({"u": u, "v": v, "tenant": f"t{t}"} for u, v, t in zip(*columns)))
    # Squared distances of 32-bit values: a few parts in a million of the distances between rows.
    about = {"metric": args.metric, "tenant": "tenant", "cat": [], "set": [], "num": ["u", "v"]} | wanted
    about |= {"tie": 1e-4} if args.metric == "l2" else {"unit": True}
    write_json(f"{args.folder}/set.json", about)
    answer_all(VectorSet(args.folder, f"{args.folder}/work"), args.seed, args.tenants, ["all", *SHARES, "and4", "tenant"])


def tenants(args):
    os.makedirs(f"{args.folder}/gt", exist_ok=True)
    wanted = {"made": [os.path.basename(os.path.normpath(args.set)), args.tenants, args.seed]}
    check_same(args.folder, wanted)
    for name in ("base.npy", "queries.npy"):
        if not os.path.exists(f"{args.folder}/{name}"):
            os.symlink(os.path.abspath(f"{args.set}/{name}"), f"{args.folder}/{name}")
    n_rows = np.load(f"{args.folder}/base.npy", mmap_mode="r").shape[0]
    if not os.path.exists(f"{args.folder}/base.jsonl"):
        of_rows = zipf(np.random.default_rng([args.seed, 2]), args.tenants, 1.0, n_rows)
        lines(f"{args.folder}/base.jsonl", ({"tenant": f"t{number}"} for number in of_rows))
    with open(f"{args.set}/set.json", encoding="utf-8") as file:
        about = json.load(file)
    about = {key: about[key] for key in ("metric", "tie") if key in about}
    write_json(f"{args.folder}/set.json", about | {"tenant": "tenant", "cat": [], "set": [], "num": []} | wanted)
    answer_all(VectorSet(args.folder, f"{args.folder}/work"), args.seed, args.tenants, ["all", "tenant"])


def check_same(folder, wanted):
    """Refuses to go on with what was made by other words."""
    path = f"{folder}/set.json"
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            made = json.load(file).get("made")
        if made != wanted["made"]:
            raise SystemExit(f"{folder}: expected a set made by {wanted['made']}, received {made}; remove it first")
    else:
        write_json(path, wanted)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("mixture")
    one.add_argument("n", type=int)
    one.add_argument("dim", type=int)
    one.add_argument("folder")
    one.add_argument("--metric", choices=["l2", "cosine"], default="l2")
    one.add_argument("--queries", type=int, default=1000)
    one.set_defaults(run=mixture)
    other = commands.add_parser("tenants")
    other.add_argument("set")
    other.add_argument("folder")
    other.set_defaults(run=tenants)
    for command in (one, other):
        command.add_argument("--tenants", type=int, default=1000)
        command.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
