"""Names that are there stand in most paths, and what fits the collection in half of the bodies: made-up ones are answered 404
and 400, and of the answers that the description is about little is learnt."""
import json

import schemathesis

NAMES = ["described", "described", "described-named", "described", "described", "absent", "described"]

# What of a made-up body may stay beside what fits, if it is of this type.
KEPT = {"with_payload": bool, "with_vector": bool, "score_threshold": float, "exact": bool, "group_size": bool}

NEAR = [1, 0]
POINT = {"id": 1, "vector": [0.5, 1], "payload": {"n": 1}}
FITTING = {
    "/index": {"field_name": "n", "field_schema": "integer"},
    "/facet": {"key": "n", "limit": 3},
    "/points": {"points": [POINT]},
    "/points/batch": {"operations": [{"upsert": {"points": [POINT]}}, {"delete": {"points": [77]}}]},
    "/points/delete": {"points": [78]},
    "/points/scroll": {"limit": 2},
    "/points/count": {"filter": {"must": [{"key": "n", "range": {"gte": 3}}]}},
    "/points/payload": {"payload": {"a": 1}, "points": [2]},
    "/points/payload/delete": {"keys": ["a"], "points": [2]},
    "/points/payload/clear": {"points": [79]},
    "/points/vectors": {"points": [{"id": 1, "vector": NEAR}]},
    "/points/search": {"vector": NEAR, "limit": 3},
    "/points/search/batch": {"searches": [{"vector": NEAR, "limit": 3}]},
    "/points/search/groups": {"vector": NEAR, "group_by": "n", "limit": 3},
    "/points/search/matrix/pairs": {"sample": 5, "limit": 2},
    "/points/search/matrix/offsets": {"sample": 5, "limit": 2},
    "/points/explain": {"vector": NEAR, "limit": 3},
    "/points/query": {"query": NEAR, "limit": 3},
    "/points/query/batch": {"searches": [{"query": NEAR}, {"query": {"fusion": "rrf"}, "prefetch": {"query": NEAR}}]},
    "/points/query/groups": {"query": NEAR, "group_by": "n"},
    "/points/recommend": {"positive": [1], "limit": 3},
    "/points/recommend/batch": {"searches": [{"positive": [1], "limit": 3}]},
    "/points/recommend/groups": {"positive": [1], "group_by": "n", "limit": 3},
    "/points/discover": {"target": 1, "context": [], "limit": 3},
    "/points/discover/batch": {"searches": [{"target": 1, "limit": 3}]},
}


@schemathesis.hook
def map_path_parameters(context, path_parameters):
    if not path_parameters or "collection" not in path_parameters:
        return path_parameters
    given = str(path_parameters["collection"])
    # Deleting them would leave nothing to ask.
    if context.operation.method.upper() == "DELETE" and context.operation.path == "/collections/{collection}":
        return path_parameters | {"collection": "described-deleted"}
    fitting = {"collection": NAMES[len(given) % len(NAMES)]}
    if "id" in path_parameters and len(given) % 2:
        fitting["id"] = "3"
    return path_parameters | fitting


@schemathesis.hook
def map_body(context, body):
    path = context.operation.path.removeprefix("/collections/{collection}")
    if not isinstance(body, dict) or path not in FITTING or len(json.dumps(body, default=str)) % 2:
        return body
    kept = {key: body[key] for key, kind in KEPT.items() if isinstance(body.get(key), kind)}
    if path == "/points" and context.operation.method.upper() == "POST":
        return kept | {"ids": [1, 2, 900]}
    return kept | FITTING[path]


@schemathesis.hook
def map_query(context, query):
    return {} if query and len(str(query)) % 3 else query
