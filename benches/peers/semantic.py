#!/usr/bin/env python3
"""Times semantic dedup of nearkin and of semhash on the same vectors, one thread each, in alternating runs.

  pip install numpy==2.4.6 semhash==0.5.0 tokenizers==0.23.3
  python3 benches/peers/semantic.py NEARKIN SAMPLE.jsonl RESULT.json --rows rows.npy [--similarity 0.95] [--repeats 3]

The vectors are made once, here, from the shipped table: a second reading of assets/static-256.bin, with another
tokeniser. Then, from the same rows.npy:

* nearkin dedup --method semantic --embed given:rows.npy, one thread: from reading the input to kept records and report.
* semhash: SemHash.from_embeddings (its index) and self_deduplicate(threshold), one thread; reading the JSON lines and
  the .npy is counted too, writing is not (semhash writes nothing).

semhash drops exact duplicates first, as nearkin does. Both use cosine similarity.
"""

import argparse
import json
import os
import platform
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ONE_THREAD = {name: "1" for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")}


def make_rows(sample, rows):
    import numpy as np
    from tokenizers import BertWordPieceTokenizer

    raw = (Path(__file__).resolve().parents[2] / "assets" / "static-256.bin").read_bytes()
    _, n, dim, n_words = struct.unpack("<IIII", raw[8:24])
    factors = np.frombuffer(raw, "<f4", n, 24)
    codes = np.frombuffer(raw, np.int8, n * dim, 24 + 4 * n).reshape(n, dim)
    words = raw[24 + n * (4 + dim):24 + n * (4 + dim) + n_words].decode().split("\n")
    tokenizer = BertWordPieceTokenizer({word: i for i, word in enumerate(words)}, lowercase=True)
    table = codes * factors[:, None]
    out = []
    for line in open(sample, encoding="utf-8"):
        ids = tokenizer.encode(json.loads(line)["text"], add_special_tokens=False).ids
        counts = np.bincount(ids, minlength=1)
        seen = counts.nonzero()[0]
        row = (counts[seen].astype(np.float32) @ table[seen]).astype(np.float32) if len(ids) else np.zeros(dim, np.float32)
        out.append(row / max(float(np.linalg.norm(row)), 1e-30))
    np.save(rows, np.array(out, np.float32))


def semhash_run(sample, rows, similarity):
    import numpy as np
    from semhash import SemHash

    started = time.perf_counter()
    records = [json.loads(line) for line in open(sample, encoding="utf-8")]
    texts = [record["text"] for record in records]
    vectors = np.load(rows)
    loaded = time.perf_counter()
    index = SemHash.from_embeddings(embeddings=vectors, records=texts, model=None)
    indexed = time.perf_counter()
    result = index.self_deduplicate(threshold=similarity)
    ended = time.perf_counter()
    return {
        "seconds": ended - started,
        "load_seconds": loaded - started,
        "index_seconds": indexed - loaded,
        "dedup_seconds": ended - indexed,
        "kept": len(result.selected),
        "dropped": len(texts) - len(result.selected),
    }


def nearkin_run(program, sample, rows, similarity, folder):
    out = Path(folder) / "out"
    shutil.rmtree(out, ignore_errors=True)
    command = [program, "dedup", sample, "--out", str(out), "--method", "semantic", "--embed", f"given:{rows}",
               "--similarity", str(similarity), "--threads", "1"]
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    seconds = time.perf_counter() - started
    report = json.loads((out / "report.json").read_text())
    semantic = report["semantic"]
    return {
        "seconds": seconds,
        "kept": report["totals"]["kept"],
        "dropped": report["totals"]["dropped"],
        "stages": {stage["name"]: stage["seconds"] for stage in report["stages"]},
        "n_cells": semantic["n_cells"],
        "border": semantic["border"],
        "device": semantic["device"],
        "peak_memory_bytes": report["peak_memory_bytes"],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("sample")
    parser.add_argument("result")
    parser.add_argument("--rows", help=".npy with a row for each record", required=True)
    parser.add_argument("--similarity", type=float, default=0.95)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--semhash-once", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    os.environ.update(ONE_THREAD)
    if args.semhash_once:
        print(json.dumps(semhash_run(args.sample, args.rows, args.similarity)))
        return
    if not Path(args.rows).exists():
        make_rows(args.sample, args.rows)
    runs = {"nearkin": [], "semhash": []}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(args.repeats):
            runs["nearkin"].append(nearkin_run(args.program, args.sample, args.rows, args.similarity, folder))
            again = [sys.executable, __file__, args.program, args.sample, args.result, "--rows", args.rows,
                     "--similarity", str(args.similarity), "--semhash-once"]
            ran = subprocess.run(again, check=True, capture_output=True, text=True, env={**os.environ, **ONE_THREAD})
            runs["semhash"].append(json.loads(ran.stdout.splitlines()[-1]))
    best = {name: min(run["seconds"] for run in of) for name, of in runs.items()}
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "")
    result = {"date": time.strftime("%Y-%m-%d"), "cpu": cpu, "python": platform.python_version(), "threads": 1,
              "similarity": args.similarity, "command": "benches/peers/semantic.py", "runs": runs, "best_seconds": best,
              "semhash_over_nearkin": best["semhash"] / best["nearkin"]}
    Path(args.result).write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({"best_seconds": best, "ratio": result["semhash_over_nearkin"]}))


if __name__ == "__main__":
    main()
