"""Sends recorded requests of real clients again: python tests/clients/replay.py URL

wire/qdrant-client-1.18-congruence-requests.jsonl.gz is a sample, each different request once, of what qdrant-client 1.18 sends in
its own suite; wire/litellm-1.110.2-qdrant-semantic.jsonl is all that LiteLLM sends in a session with its semantic cache. Each is
answered, or refused with a 4xx for one of REFUSED.
"""
import gzip
import json
import pathlib
import random
import re
import sys
from collections import Counter

import httpx

WIRE = pathlib.Path(__file__).parent / "wire"
VECTORS = {"text": {"size": 50, "distance": "Cosine"}, "image": {"size": 100, "distance": "Dot"},
           "code": {"size": 80, "distance": "Euclid"}}
MULTI = {"multivector_config": {"comparator": "max_sim"}}
VECTORS |= {f"multi-{name}": kind | MULTI for name, kind in VECTORS.items()}
SPARSE = ["sparse-text", "sparse-image"]
# The collections that requests name; paths of the recording name none.
NAMED = ["wire", "congruence_test_collection", "congruence_secondary_collection",
         "congruence_secondary_collection_small", "lookup_collection"]
IDS, SHOWN = [*range(401), 9999, "ff6dba9e-e3a2-4418-9920-363731126d22"], 20

# Why a recorded request may be refused, and the pattern that its body then has.
REFUSED = {
    "not_offered": ("shards, names of vectors that come after the collection", ""),
    "vector_name": ("names that were sent to be refused", "why_am_I"),
    "vector_dim": ("texts of 100 values, of a collection that was made anew in between", "text"),
    "vector_names": ("collections without vectors", '"vectors": {}'),
    "config_invalid": ("collections without vectors", "^{}$"),
    "query_type": ("vectors with a NaN, which JSON writes as null", "null"),
    "formula": ("formulas that are no number for a point: the logarithm of 0, a power too large", "formula"),
    "path_invalid": ("keys that are empty", '"key": ""'),
    "alias_not_found": ("aliases that other requests of that suite made", "alias"),
}


def recorded(name):
    opened = gzip.open if name.endswith(".gz") else open
    with opened(WIRE / name, "rt") as lines:
        requests = [json.loads(line) for line in lines]
    for request in requests:
        if isinstance(request["body"], dict):
            # Where the recording left out points.
            request["body"].pop("_truncated_points", None)
    return requests


def dims(body):
    """The sizes of the vectors of a query that says no name."""
    if isinstance(body, dict):
        return set().union(*(dims(value) for key, value in body.items() if key not in ("filter", "payload")), set())
    if isinstance(body, list) and body and all(isinstance(each, (int, float)) for each in body):
        return {len(body)} if len(body) > 1 and isinstance(body[0], float) else set()
    return set().union(*map(dims, body), set()) if isinstance(body, list) else set()


def is_multi(body):
    """Whether a query that says no name is of several rows."""
    query = body.get("query") if isinstance(body, dict) else None
    nearest = query.get("nearest") if isinstance(query, dict) else query
    return isinstance(nearest, list) and bool(nearest) and isinstance(nearest[0], list)


def random_vector(r, kind):
    def row():
        return [r.uniform(-1, 1) for _ in range(kind["size"])]
    return [row() for _ in range(r.randint(1, 3))] if "multivector_config" in kind else row()


def random_points(vectors):
    """Points with the ids that examples have."""
    r = random.Random(1)
    for i, point_id in enumerate(IDS):
        rows = {name: random_vector(r, kind) for name, kind in vectors.items()}
        if "" not in vectors:
            indices = r.sample(range(1000), 60)
            rows |= {name: {"indices": indices, "values": [r.random() for _ in indices]} for name in SPARSE}
        yield {"id": point_id, "vector": rows.get("", rows), "payload": {
            "id": i, "rand_digit": i % 10, "rand_number": i / len(IDS), "id_str": [f"{i % 20:02}"], "two_words": ["cat", "dog"],
            "rand_datetime": f"2000-01-{i % 28 + 1:02}T00:00:00Z", "city": {"name": "Rome", "geo": {"lat": 1.0 * (i % 80), "lon": 2.0}}}}


class Replay:
    """Sends requests, and counts what became of them."""

    def __init__(self, url):
        self.client, self.counts, self.wrong, self.n_made = httpx.Client(base_url=url, timeout=60), Counter(), [], 0
        self.made = {}

    def make(self, collection, vectors):
        if collection in self.made:
            return
        self.made[collection] = vectors
        self.client.delete(f"/collections/{collection}")
        body = {"vectors": vectors.get("", vectors)}
        if "" not in vectors:
            body["sparse_vectors"] = {name: {} for name in SPARSE}
        self.client.put(f"/collections/{collection}", json=body).raise_for_status()
        self.fill(collection, vectors)

    def fill(self, collection, vectors):
        """Puts the points there, as they were."""
        points = list(random_points(vectors))
        self.client.put(f"/collections/{collection}/points", json={"points": points}).raise_for_status()

    def path(self, request):
        """Where a request goes: to the collection that has what it asks about."""
        path, body = request["path"], request["body"]
        if path == "/collections/{c}" and request["method"] in ("PUT", "DELETE"):
            self.n_made += request["method"] == "PUT"
            return f"/collections/wire_{self.n_made}"
        collection = "wire"
        text = json.dumps(body)
        is_unnamed = '"using"' not in text if "/points/query" in path else re.search(r'"vectors?": \[', text) and '"text":' not in text
        if "/points" in path and is_unnamed and (sizes := dims(body)):
            kind = {"size": min(sizes), "distance": "Cosine"} | (MULTI if is_multi(body) else {})
            collection = f"wire_of_{min(sizes)}{'_rows' * is_multi(body)}"
            self.make(collection, {"": kind})
        if any(word in path for word in ("/payload", "/vectors", "/delete", "/batch")) and "/query" not in path:
            self.fill(collection, self.made[collection])
        return path.replace("{c}", collection).replace("{v}", "more")

    def send(self, request, path):
        params = dict(pair.split("=", 1) for pair in request["query"].split("&") if pair)
        return self.client.request(request["method"], path, params=params, json=request["body"])

    def judge(self, of, request, answer):
        code = "answered"
        if answer.status_code >= 400:
            error = answer.json()["status"]["error"]
            code = error.split(":")[0]
            is_right = 400 <= answer.status_code < 500 and code in REFUSED and re.fullmatch(r"[a-z_]+: .+", error)
            is_right = is_right and re.search(REFUSED[code][1], json.dumps(request["body"]))
            if not is_right:
                self.wrong.append((request, answer))
        self.counts[of, code] += 1


def main():
    replay = Replay(sys.argv[1])
    for name in NAMED:
        replay.make(name, VECTORS)
    for request in recorded("qdrant-client-1.18-congruence-requests.jsonl.gz"):
        replay.judge("qdrant-client", request, replay.send(request, replay.path(request)))
    for request in recorded("litellm-1.110.2-qdrant-semantic.jsonl"):
        if request["path"].startswith("/collections"):
            replay.judge("litellm", request, replay.send(request, request["path"]))
    for request, answer in replay.wrong[:SHOWN]:
        print(f"{request['method']} {request['path']} {json.dumps(request['body'])[:600]}\n  {answer.status_code} {answer.text[:400]}")
    for (of, code), count in sorted(replay.counts.items()):
        print(f"  {of}, {code}: {count}")
    n = sum(replay.counts.values())
    print(f"replay: {n - len(replay.wrong)} passed, {len(replay.wrong)} failed")
    sys.exit(1 if replay.wrong or not n else 0)


if __name__ == "__main__":
    main()
