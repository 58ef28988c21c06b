"""Lookups of GPTCache with faiss, as its API makes them: what `cargo bench --bench cache` is compared with.

    python3 benches/peers/cache_gptcache.py [N_ENTRIES] [N_LOOKUPS] [--folder FOLDER]

Needs gptcache 0.1.44 with what `requirements-cache.txt` names. Fills GPTCache's SQLite and faiss stores with
N_ENTRIES entries (1,000,000) of 384 elements in FOLDER (a new one by default), unless an earlier run did, and asks `gptcache.adapter.api.get` with vectors that are given: every second one what an
entry was asked in other words (cosine about 0.95), the others nothing that is there. Threads of BLAS and OpenMP are one, as nearkin's lookups take one.
Entries are written to its stores directly, in large transactions: filling through its API would take hours. Prints one JSON object.
"""

import argparse
import json
import os
import sqlite3
import tempfile
import time

for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[threads] = "1"

import faiss  # noqa: E402
import numpy as np  # noqa: E402
from gptcache import Config, cache  # noqa: E402
from gptcache.adapter.api import get, put  # noqa: E402
from gptcache.manager import CacheBase, VectorBase, get_data_manager  # noqa: E402
from gptcache.processor.pre import get_prompt  # noqa: E402
from gptcache.similarity_evaluation import SearchDistanceEvaluation  # noqa: E402

DIM, SUBJECTS, BLOCK = 384, 20_000, 50_000


def rows(n):
    """Unit rows around subjects: two of one subject have a cosine of about 0.64."""
    make = np.random.default_rng(7)
    subjects = make.uniform(-1, 1, (SUBJECTS, DIM)).astype(np.float32)
    for first in range(0, n, BLOCK):
        size = min(BLOCK, n - first)
        own = make.uniform(-1, 1, (size, DIM)).astype(np.float32)
        block = subjects[make.integers(SUBJECTS, size=size)] + np.float32(0.75) * own
        yield first, block / np.linalg.norm(block, axis=1, keepdims=True)


def reworded(row, make):
    noise = make.uniform(-1, 1, DIM).astype(np.float32)
    other = row + 0.33 * noise / np.linalg.norm(noise)
    return other / np.linalg.norm(other)


def fill(folder, manager, n):
    """Fills both stores and writes them down."""
    # One entry through the API makes the tables and shows their form.
    put("first", "answer", cache_obj=cache)
    store = sqlite3.connect(os.path.join(folder, "sqlite.db"))
    store.execute("PRAGMA synchronous = OFF")
    (embedding_type,) = store.execute("SELECT typeof(embedding_data) FROM gptcache_question").fetchone()
    assert embedding_type == "blob", embedding_type
    now = "2026-11-29 12:00:00.000000"
    for first, block in rows(n):
        ids = range(first + 2, first + 2 + len(block))
        questions = [(i, f"what was asked as number {i}", now, now, row.tobytes(), 0) for i, row in zip(ids, block)]
        store.executemany(
            "INSERT INTO gptcache_question (id, question, create_on, last_access, embedding_data, deleted) VALUES (?, ?, ?, ?, ?, ?)",
            questions,
        )
        store.executemany(
            "INSERT INTO gptcache_answer (id, question_id, answer, answer_type) VALUES (?, ?, ?, 0)",
            [(i, i, "a" * 400) for i in ids],
        )
        store.commit()
        manager.v._index.add_with_ids(block, np.array(ids))
    store.close()
    manager.v.flush()


def quantile(ms, share):
    return sorted(ms)[int(share * (len(ms) - 1))] if ms else None


def main():
    args = argparse.ArgumentParser()
    args.add_argument("entries", nargs="?", type=int, default=1_000_000)
    args.add_argument("lookups", nargs="?", type=int, default=60)
    args.add_argument("--folder", help="where both stores are")
    args.add_argument("--budget-s", type=float, default=40.0, help="lookups end after this time")
    args = args.parse_args()
    folder = args.folder or tempfile.mkdtemp(prefix="gptcache-")
    vectors = {"first": np.ones(DIM, dtype=np.float32) / np.sqrt(DIM)}
    manager = get_data_manager(
        CacheBase("sqlite", sql_url=f"sqlite:///{folder}/sqlite.db"),
        VectorBase("faiss", dimension=DIM, index_path=os.path.join(folder, "faiss.index")),
        max_size=2 * args.entries + 10,
    )
    cache.init(
        pre_embedding_func=get_prompt,
        embedding_func=lambda text, **_: vectors[text],
        data_manager=manager,
        # Its number is a squared distance of at most 4: 0.96 of it is a cosine of 0.92.
        similarity_evaluation=SearchDistanceEvaluation(),
        config=Config(similarity_threshold=0.96),
    )
    began = time.perf_counter()
    if manager.v.count() == 0:
        fill(folder, manager, args.entries)
    assert manager.v.count() == args.entries + 1, manager.v.count()
    _, kept = next(rows(args.entries))
    filled_s = time.perf_counter() - began
    make = np.random.default_rng(11)
    hits, misses, n_found, n_asked = [], [], 0, 0
    began = time.perf_counter()
    for n in range(args.lookups):
        is_there = n % 2 == 1
        if is_there:
            vectors[f"q{n}"] = reworded(kept[make.integers(len(kept))], make)
        else:
            row = make.uniform(-1, 1, DIM).astype(np.float32)
            vectors[f"q{n}"] = row / np.linalg.norm(row)
        before = time.perf_counter()
        answer = get(f"q{n}", cache_obj=cache)
        took = (time.perf_counter() - before) * 1e3
        (misses if answer is None else hits).append(took)
        n_asked += is_there
        n_found += is_there and answer is not None
        if time.perf_counter() - began > args.budget_s:
            break
    both = hits + misses
    print(json.dumps({
        "peer": "gptcache 0.1.44, sqlite, faiss IDMap,Flat", "faiss": faiss.__version__, "entries": args.entries,
        "filled_s": round(filled_s, 1), "lookups": len(both),
        "all_ms": {"p50": quantile(both, 0.5), "p99": quantile(both, 0.99)},
        "hit_ms": {"p50": quantile(hits, 0.5)}, "miss_ms": {"p50": quantile(misses, 0.5)},
        "found": n_found / max(1, n_asked),
    }))


if __name__ == "__main__":
    main()
