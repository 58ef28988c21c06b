"""What a lookup in a cache takes over HTTP: python benches/peers/cache_http.py [NEARKIN] [--entries N] [--dim D]

One client with a kept connection asks for vectors that are there, as JSON and as bytes, one by one and 256 at once. Only Python's
own library is needed; the client's share is in the figures."""
import argparse
import http.client
import json
import random
import re
import struct
import subprocess
import tempfile
import time


def body(head, rows):
    head = json.dumps(head).encode()
    return struct.pack("<I", len(head)) + head + b"".join(struct.pack(f"<{len(row)}f", *row) for row in rows)


def timed(post, name, bodies):
    took = []
    for sent in bodies:
        began = time.perf_counter()
        post(*sent)
        took.append((time.perf_counter() - began) * 1e3)
    took.sort()
    print(f"{name}: p50 {took[len(took) // 2]:.3f} ms, p99 {took[len(took) * 99 // 100]:.3f} ms")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("nearkin", nargs="?", default="target/release/nearkin")
    parser.add_argument("--entries", type=int, default=10_000)
    parser.add_argument("--dim", type=int, default=384)
    options = parser.parse_args()
    folder = tempfile.TemporaryDirectory()
    server = subprocess.Popen([options.nearkin, "serve", "--data", folder.name, "--bind", "127.0.0.1:0"],
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    connection = http.client.HTTPConnection(re.search(r"http://(\S+)", server.stdout.readline())[1])

    def post(route, sent, kind="application/x-nearkin-f32"):
        connection.request("POST", f"/v1/cache/bench/{route}", sent, {"content-type": kind})
        response = connection.getresponse()
        text = response.read()
        assert response.status == 200, text
        return json.loads(text)

    draw = random.Random(1)
    rows = [[draw.gauss(0, 1) for _ in range(options.dim)] for _ in range(options.entries)]
    of = [f"f32:{i * options.dim}:{options.dim}" for i in range(256)]
    for at in range(0, len(rows), 256):
        block = rows[at:at + 256]
        post("insert", body({"entries": [{"answer": at + i, "vector": of[i]} for i in range(len(block))]}, block))
    asked = draw.sample(rows, 1000)
    timed(post, "JSON", [("lookup", json.dumps({"vector": row}), "application/json") for row in asked])
    timed(post, "bytes", [("lookup", body({"vector": of[0]}, [row])) for row in asked])
    many = body({"lookups": [{"vector": one} for one in of]}, asked[:256])
    timed(post, "256 at once, bytes", [("lookup", many)] * 50)
    server.terminate()
    server.wait()


main()
