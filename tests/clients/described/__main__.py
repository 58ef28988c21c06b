"""Asks the server everything that its own description allows, and much that it does not: no answer is a fault of the server, and
none has a status, a type or a form that the description does not tell.

    python -m described URL [--examples N] [--seed N]
"""
import argparse
import json
import os
import subprocess
import sys
import urllib.request

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


def ask(url, method, path, body):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url + path, data, {"content-type": "application/json"}, method=method)
    with urllib.request.urlopen(request) as response:
        return json.load(response)


def made(url):
    """Collections that requests find: of one vector, and of two with names."""
    for name in ("described", "described-named"):
        ask(url, "DELETE", f"/collections/{name}", None)
    ask(url, "PUT", "/collections/described", {"vectors": {"size": 2, "distance": "Cosine"}})
    named = {"vectors": {"a": {"size": 2, "distance": "Dot"}, "b": {"size": 3, "distance": "Euclid"}}}
    ask(url, "PUT", "/collections/described-named", named)
    points = [{"id": i, "vector": [i, 1], "payload": {"n": i, "even": i % 2 == 0}} for i in range(20)]
    ask(url, "PUT", "/collections/described/points?wait=true", {"points": points})
    points = [{"id": i, "vector": {"a": [i, 1], "b": [1, i, 0]}} for i in range(20)]
    ask(url, "PUT", "/collections/described-named/points?wait=true", {"points": points})


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--examples", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    made(options.url)
    here = os.path.dirname(os.path.abspath(__file__))
    command = [
        os.path.join(os.path.dirname(sys.executable), "schemathesis"), "run", options.url + "/openapi.json",
        "--checks", CHECKS, "--phases", "examples,coverage,fuzzing", "--mode", "all", "--max-examples", str(options.examples),
        "--seed", str(options.seed), "--workers", "1", "--generation-database", "none", "--continue-on-failure",
    ]
    environment = os.environ | {"SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": here, "NO_COLOR": "1"}
    sys.exit(subprocess.run(command, env=environment).returncode)


main()
