"""nearkin's command line as a side of `collection.py`."""

import hashlib
import json
import os
import shutil
import subprocess
import time

import numpy as np

from vector_set import K, qdrant


def run(command):
    """Wall seconds of a process and what it said on the standard error; RuntimeError where it failed."""
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    seconds = time.perf_counter() - began
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return seconds, done.stderr


def folder_bytes(folder):
    return sum(os.path.getsize(os.path.join(at, name)) for at, _, names in os.walk(folder) for name in names)


class Nearkin:
    """Collections are made once for each set and binary, in the work folder of the set."""

    def __init__(self, binary, threads):
        self.binary, self.threads = binary, threads
        with open(binary, "rb") as file:
            self.digest = hashlib.file_digest(file, "sha256").hexdigest()[:12]
        self.helps = {}

    def offers(self, command, option):
        """Whether the help of a subcommand names an option."""
        if command not in self.helps:
            told = subprocess.run([self.binary, command, "--help"], capture_output=True, text=True)
            self.helps[command] = told.stdout.split() if told.returncode == 0 else []
        return option in self.helps[command]

    def data(self, vectors):
        return f"{vectors.work}/data-{self.digest}"

    def ingest(self, vectors, data=None):
        """Seconds of `ingest` with all payloads, every filtered field indexed."""
        data = data or self.data(vectors)
        command = [self.binary, "ingest", data, "--collection", "c", "--vectors", f"{vectors.folder}/base.npy"]
        command += ["--metric", vectors.metric, "--payload", vectors.payload_path]
        if vectors.tenant_field:
            command += ["--tenant-field", vectors.tenant_field]
        for name, kind in vectors.indexed():
            command += ["--index-field", f"{name}:{kind}"]
        if self.offers("ingest", "--threads"):
            command += ["--threads", str(self.threads)]
        return run(command)[0]

    def ensure(self, vectors):
        """Ingests the set if this binary has not; a half collection of a run that was stopped is made again."""
        data = self.data(vectors)
        if os.path.exists(f"{data}/ingested.json"):
            return
        shutil.rmtree(data, ignore_errors=True)
        seconds = self.ingest(vectors)
        with open(f"{data}/ingested.json", "w", encoding="utf-8") as file:
            json.dump({"seconds": seconds}, file)

    def bytes_of(self, vectors, stats):
        """Bytes by `stats`, a command with {data} and {collection}, where the binary has it; of the folder otherwise."""
        command = [part.format(data=self.data(vectors), collection="c") for part in stats.split()]
        out = {"folder": folder_bytes(f"{self.data(vectors)}/c")}
        told = subprocess.run([self.binary, *command], capture_output=True, text=True)
        if told.returncode == 0:
            out["stats"] = json.loads(told.stdout)
        return out

    def search(self, vectors, workload, options="", batch=1, passes=1, count=None, data=None):
        """Answers of the last pass [n_queries, 10], the summary that `search` prints, and the seconds of the process."""
        files = self.files(vectors, workload, passes, count)
        out = f"{vectors.work}/answers.jsonl"
        command = [self.binary, "search", data or self.data(vectors), "--collection", "c", "--k", str(K)]
        command += ["--threads", str(self.threads), "--batch", str(batch), "--out", out, "--overwrite", *files]
        seconds, said = run(command + options.split())
        found = np.full((count or vectors.n_queries, K), -1, np.int64)
        with open(out, encoding="utf-8") as file:
            lines = file.readlines()[-len(found) :]
        for row, line in zip(found, lines):
            ids = json.loads(line)["ids"]
            row[: len(ids)] = ids
        return found, json.loads(said.splitlines()[-1]), seconds

    def files(self, vectors, workload, passes, count):
        """Arguments that name the queries, filters and tenants, `passes` times over; the files are made once."""
        count = count or vectors.n_queries
        stem = f"{vectors.work}/{workload.name.replace(' ', '-')}-{count}x{passes}"
        tenants, filters = self.asks(vectors, workload)
        arguments = ["--vectors", f"{stem}.npy"]
        arguments += ["--tenants-from", f"{stem}.tenants"] if tenants else []
        arguments += ["--filters-from", f"{stem}.filters"] if filters else []
        raw = np.load(f"{vectors.folder}/queries.npy", mmap_mode="r")[:count]
        np.save(f"{stem}.npy", np.tile(raw, (passes, 1)))
        for lines, suffix in ((tenants, "tenants"), (filters, "filters")):
            if lines:
                with open(f"{stem}.{suffix}", "w", encoding="utf-8") as file:
                    file.write(("\n".join(lines[:count]) + "\n") * passes)
        return arguments

    @staticmethod
    def asks(vectors, workload):
        """The tenant of each query, where every filter demands one, and what else it demands."""
        if workload.filters is None:
            return None, None
        if not vectors.tenant_field:
            return None, [json.dumps(qdrant(one)) for one in workload.filters]
        tenants, rest = [], []
        for condition in workload.filters:
            parts = condition.get("and", [condition])
            own = [part["eq"][1] for part in parts if part.get("eq", [None])[0] == vectors.tenant_field]
            if len(own) != 1:
                return None, [json.dumps(qdrant(one)) for one in workload.filters]
            others = [part for part in parts if part.get("eq", [None])[0] != vectors.tenant_field]
            tenants.append(str(own[0]))
            rest.append({"and": others} if others else {})
        if not any(rest):
            return tenants, None
        return tenants, [json.dumps(qdrant(one)) for one in rest]
