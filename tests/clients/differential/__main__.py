"""The same random requests to a server and to qdrant-client's local mode, which scores every point.

    python -m differential --url http://127.0.0.1:6333 --seed 1 --steps 3000

Fails if an answer differs. Where the local mode is not as the server whose mode it is, the server's way is demanded: see
differential/different.py.
"""
import argparse
import random
import sys
import warnings

from qdrant_client import QdrantClient
from qdrant_client import models as m

from . import compare, different, worlds
from .legacy import Legacy
from .questions import QUERIES, READS, Questions
from .queries import EVERYTHING
from .refused import refusals
from .suite import Suite
from .writes import Changer

INDEXES = [("word", "keyword"), ("place.geo", "geo"), ("sentence", "text"), ("flag", "bool"), ("key", "uuid"),
           ("tags", "keyword"), ("nested.array[].word", "keyword"), ("nested.array[].number", "integer"),
           ("digit", "integer"), ("digits", "integer"), ("id", "integer"), ("size", "float"), ("when", "datetime")]


def having(local, collection):
    """The ids of the points that have each vector."""
    points, _ = local.scroll(collection, limit=EVERYTHING, with_payload=False, with_vectors=True)
    if collection == worlds.SINGLE:
        return {"": [point.id for point in points if point.vector]}
    return {name: [point.id for point in points if name in point.vector] for name in worlds.NAMES}


def same_state(suite, collection, when=""):
    args = {"collection_name": collection, "limit": EVERYTHING // 2, "with_vectors": True}
    suite.ask(f"all points{when}", "scroll", args, compare.page)
    suite.ask("number of points", "get_collection", {"collection_name": collection},
              lambda a, b: compare.exact(a.points_count, b.points_count))


def fill(suite, r):
    for client in (suite.server, suite.local):
        worlds.create(client)
    for collection, points in worlds.first_points(r):
        for begin in range(0, len(points), 100):
            args = {"collection_name": collection, "points": points[begin:begin + 100], "wait": True}
            suite.ask("upsert", "upsert", args, lambda a, b: None)
        same_state(suite, collection)


def indexed(suite, r, made):
    """Makes or drops an index, which changes no answer. The local mode has none."""
    field, kind = r.choice(INDEXES)
    if (field, kind) in made:
        made.remove((field, kind))
        suite.server.delete_payload_index(worlds.NAMED, field_name=field, wait=True)
    else:
        made.add((field, kind))
        suite.server.create_payload_index(worlds.NAMED, field_name=field, field_schema=kind, wait=True)
    schema = suite.server.get_collection(worlds.NAMED).payload_schema
    shown = {(field, params.data_type.value) for field, params in schema.items()}
    assert shown == made, f"indexes: expected {made}, received {shown}"


def run(suite, r, steps, kinds):
    fill(suite, r)
    changers = {c: Changer(r, c, []) for c in (worlds.NAMED, worlds.SINGLE)}
    known, made = {}, set()
    for step in range(steps):
        collection = worlds.NAMED if r.random() < 0.8 else worlds.SINGLE
        if step % 60 == 30:
            indexed(suite, r, made)
        if step % 12 == 0:
            changer = changers[collection]
            changer.ids = sorted({i for ids in having(suite.local, collection).values() for i in ids}, key=str)
            method, args = changer.any()
            suite.ask(method.replace("_", " "), method, {"collection_name": collection, **args}, lambda a, b: None)
            same_state(suite, collection, f" after {method.replace('_', ' ')}")
            known.pop(collection, None)
            continue
        if collection not in known:
            known[collection] = having(suite.local, collection)
        Questions(r, suite, collection, known[collection]).any(kinds[collection])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--kinds", help="only these, separated by commas")
    args = parser.parse_args()
    warnings.filterwarnings("ignore", message="Payload indexes have no effect")
    r = random.Random(args.seed)
    print(f"differential: seed {args.seed}, {args.steps} steps")
    different.count_only_what_is_there()
    suite = Suite(QdrantClient(url=args.url, timeout=60), QdrantClient(":memory:"))
    named = args.kinds.split(",") if args.kinds else READS + QUERIES
    single = [kind for kind in named if kind != "looked_up"]
    run(suite, r, args.steps, {worlds.NAMED: named, worlds.SINGLE: single})
    different.run(suite, r, args.steps // 100, having(suite.local, worlds.NAMED))
    Legacy(r, suite, args.url).run(args.steps // 20)
    # Last: of a change that it refuses the local mode does a part.
    refusals(suite)
    for collection in (worlds.NAMED, worlds.SINGLE, worlds.OTHER):
        suite.server.delete_collection(collection)
    suite.report()
    sys.exit(1 if suite.mismatched else 0)


if __name__ == "__main__":
    main()
