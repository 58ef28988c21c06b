"""Compares `nearkin dedup` with its peers on one JSONL file, and prints a Markdown table.

    run.py FILE --nearkin target/release/nearkin [--truth TRUTH.npz] [--repetitions 3]
           [--sides nearkin,rensa,...] [--json RESULT.json]

The first call makes a virtual environment beside this file and installs requirements.txt in it.
Every side reads the same FILE in a process of its own, limited to one thread (except
nearkin-2-threads), and the repetitions are interleaved: A B C A B C. CPU seconds are user and
system time of the process and all it waited for. The JSON has every repetition.
"""

import argparse
import datetime
import hashlib
import json
import os
import pathlib
import platform
import shutil
import statistics
import subprocess
import sys
import time
import venv

HERE = pathlib.Path(__file__).resolve().parent
PEERS = {
    "rensa": "rensa_objects.py",
    "data-juicer": "data_juicer_minhash.py",
    "text-dedup": "text_dedup_minhash.py",
    "datatrove": "datatrove_minhash.py",
}
NEARKIN = {
    "nearkin": ["--threads", "1"],
    "nearkin-2-threads": ["--threads", "2"],
    "nearkin-exact": ["--threads", "1", "--method", "exact"],
}
BASE = "nearkin"
ONE_THREAD = {
    name: "1"
    for name in (
        "RAYON_NUM_THREADS",
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "POLARS_MAX_THREADS",
    )
}
QUIET = {
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_DISABLE": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "PIP_NO_INDEX": "1",  # Data-Juicer must fail rather than install something while timed
    "PYTHONWARNINGS": "ignore",
}


def environment(work):
    return {**os.environ, **ONE_THREAD, **QUIET, "HF_HOME": str(work / "hf")}


def install():
    """The Python of a virtual environment that has requirements.txt, made where it is missing."""
    home = HERE / ".venv"
    python = home / "bin" / "python"
    wanted = hashlib.sha256((HERE / "requirements.txt").read_bytes()).hexdigest()
    stamp = home / "requirements.sha256"
    if not (stamp.exists() and stamp.read_text() == wanted):
        print("installing the peers", file=sys.stderr)
        venv.create(home, with_pip=True, clear=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--no-deps"]
        subprocess.run([*pip, "-r", HERE / "requirements.txt"], check=True)
        stamp.write_text(wanted)
    return python


def command(side, args, python, out):
    if side in PEERS:
        return [python, HERE / PEERS[side], args.file, "--out", out]
    return [args.nearkin, "dedup", args.file, "--out", out, "--overwrite", *NEARKIN[side]]


def measure(argv, env, log):
    """Runs `argv` and returns its CPU and wall seconds, peak memory and the load before it.

    A process starts with the peak memory of the one that forked it, so this one stays small:
    no numpy here, and scoring is a process of its own.
    """
    load = os.getloadavg()[0]
    with open(log, "wb") as sink:
        start = time.perf_counter()
        child = subprocess.Popen(
            [str(part) for part in argv], stdout=sink, stderr=subprocess.STDOUT, env=env
        )
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.perf_counter() - start
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        tail = log.read_text(errors="replace")[-2000:]
        raise SystemExit(f"{argv[0]} ended with {child.returncode}; its log ends:\n{tail}")
    return {
        "process_cpu_s": usage.ru_utime + usage.ru_stime,
        "user_s": usage.ru_utime,
        "system_s": usage.ru_stime,
        "wall_s": wall,
        "peak_rss_mb": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6,
        "load_before": load,
    }


def run_side(side, args, python, work):
    """One repetition of one side, with its own account of it, in an empty folder."""
    out = work / side
    shutil.rmtree(out, ignore_errors=True)
    run = measure(command(side, args, python, out), environment(work), work / f"{side}.log")
    if side in PEERS:
        facts = json.loads((out / "clock.json").read_text())
        run.update(facts, cpu_s=facts["clock"]["work"])
    else:
        run["dropped_sha256"] = sha256(out / "dropped.jsonl")
        run["removed"] = count_lines(out / "dropped.jsonl")
        run["cpu_s"] = run["process_cpu_s"]
    return run


def annotated(side, args, python, work):
    """Every row with its cluster, from an untimed nearkin run; None where it wrote no such file."""
    out = work / f"{side}-annotated"
    shutil.rmtree(out, ignore_errors=True)
    argv = [*command(side, args, python, out), "--annotate"]
    measure(argv, environment(work), work / f"{side}-annotated.log")
    rows = out / "kept" / os.path.basename(args.file)
    return rows if rows.exists() and count_lines(rows) == count_lines(args.file) else None


def count_lines(path):
    with open(path, "rb") as lines:
        return sum(1 for _ in lines)


def score(side, args, python, work):
    if side in PEERS:
        what = [work / side / "labels.json"]
    else:
        what = [work / side, "--nearkin"]
        rows = annotated(side, args, python, work)
        what += ["--annotated", rows] if rows else []
    argv = [python, HERE / "score.py", args.truth, *what]
    return json.loads(subprocess.run(argv, check=True, stdout=subprocess.PIPE).stdout)


def said(*argv):
    """First line that a command prints, or None."""
    try:
        out = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return out.strip().split("\n")[0]


def cpu_model():
    fields = {}
    try:
        for line in pathlib.Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines():
            key, _, value = line.partition(":")
            fields[key.strip()] = value.strip()
    except OSError:
        return platform.processor()
    simd = [flag for flag in ("avx2", "avx512f") if flag in fields.get("flags", "").split()]
    return f"{fields.get('model name')} family {fields.get('cpu family')} {' '.join(simd)}".strip()


def machine():
    return {
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
    }


def versions(args, python):
    freeze = subprocess.run([python, "-m", "pip", "freeze"], capture_output=True, text=True)
    git = ["git", "-C", str(HERE)]
    return {
        "packages": freeze.stdout.split(),
        "nearkin": said(args.nearkin, "--version"),
        "rustc": said("rustc", "--version"),
        "commit": said(*git, "rev-parse", "HEAD"),
        "uncommitted": bool(said(*git, "status", "--porcelain")),
    }


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def median(runs, key):
    return statistics.median(run[key] for run in runs)


def cell(value, form):
    return "–" if value is None else format(value, form)


def table(result):
    """The Markdown table of one result, sides in the order they were asked for."""
    megabytes = result["file"]["bytes"] / 1e6
    runs, scores = result["runs"], result["scores"]
    base = median(runs[BASE], "cpu_s") if BASE in runs else None
    rows = [
        "| side | CPU s | MB per CPU-s | CPU, × nearkin | whole process CPU s | wall s | peak RSS MB "
        "| removed | record recall | record precision | pair recall | in-cluster pairs J ≥ t |",
        "|---" * 12 + "|",
    ]
    for side, repetitions in runs.items():
        cpu, found = median(repetitions, "cpu_s"), scores.get(side, {})
        rows.append(
            f"| {side} | {cpu:.2f} | {megabytes / cpu:.1f} | {cell(base and cpu / base, '.1f')} "
            f"| {median(repetitions, 'process_cpu_s'):.2f} | {median(repetitions, 'wall_s'):.2f} "
            f"| {median(repetitions, 'peak_rss_mb'):.0f} | {repetitions[0]['removed']} "
            f"| {cell(found.get('record_recall'), '.4f')} | {cell(found.get('record_precision'), '.4f')} "
            f"| {cell(found.get('pair_recall'), '.4f')} | {cell(found.get('in_cluster'), '.4f')} |"
        )
    return "\n".join(rows)


def band_table(scores):
    """Share of records flagged, by the similarity of their best neighbour."""
    names = list(next(iter(scores.values()))["bands"])
    rows = ["| side | J = " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for side, found in scores.items():
        values = " | ".join(cell(found["bands"][name], ".3f") for name in names)
        rows.append(f"| {side} | {values} |")
    return "\n".join(rows)


def footnotes(result):
    """What the tables have no column for: nearkin's promise, and its second thread."""
    for side, found in result["scores"].items():
        if "promise" in found:
            rows = "annotated rows" if "by_dropped" in found else "dropped.jsonl alone"
            yield f"{side}, clusters from {rows}: {json.dumps(found['promise'])}"
    runs = result["runs"]
    if {BASE, "nearkin-2-threads"} <= runs.keys():
        ratio = median(runs[BASE], "wall_s") / median(runs["nearkin-2-threads"], "wall_s")
        yield f"wall time of one thread / two threads: {ratio:.2f}"


def arguments():
    parser = argparse.ArgumentParser(description="compare nearkin dedup with its peers")
    parser.add_argument("file")
    parser.add_argument("--nearkin", default="target/release/nearkin")
    parser.add_argument("--truth", help="made by truth.py from the same file")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--sides", default=",".join([*NEARKIN, *PEERS]))
    parser.add_argument("--work", type=pathlib.Path, default=HERE / "work")
    parser.add_argument("--json", type=pathlib.Path)
    args = parser.parse_args()
    args.file = os.path.abspath(args.file)
    args.nearkin = os.path.abspath(args.nearkin)
    args.sides = args.sides.split(",")
    unknown = set(args.sides) - NEARKIN.keys() - PEERS.keys()
    if unknown:
        parser.error(f"unknown sides {sorted(unknown)}; there are {[*NEARKIN, *PEERS]}")
    return args


def main():
    args = arguments()
    python = install()
    work = args.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    size = os.path.getsize(args.file)
    # hashing also brings the file into the page cache, the same for every side
    file = {"name": os.path.basename(args.file), "bytes": size, "sha256": sha256(args.file)}
    runs = {side: [] for side in args.sides}
    date = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    for repetition in range(args.repetitions):
        for side in args.sides:
            print(f"repetition {repetition + 1}: {side}", file=sys.stderr, flush=True)
            runs[side].append(run_side(side, args, python, work))
    scores = {side: score(side, args, python, work) for side in args.sides} if args.truth else {}
    result = {
        "date": date,
        "machine": machine(),
        "versions": versions(args, python),
        "file": file,
        "repetitions": args.repetitions,
        "runs": runs,
        "scores": scores,
    }
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")
    print(f"{file['name']}, {size / 1e6:.1f} MB, {args.repetitions} repetitions, medians\n")
    print(table(result))
    if scores:
        print("\n" + band_table(scores))
    for note in footnotes(result):
        print("\n" + note)


if __name__ == "__main__":
    main()
