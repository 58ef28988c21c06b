"""What a user of LiteLLM's semantic cache over Qdrant sees: python tests/clients/litellm_cache.py URL

The model and its embedder are a server in this process, which counts what it is asked."""
import asyncio
import hashlib
import json
import os
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

os.environ |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "OPENAI_API_KEY": "none"}

import httpx  # noqa: E402
import litellm  # noqa: E402
from litellm.caching.caching import Cache  # noqa: E402

import checks  # noqa: E402

NAME, DIM = "litellm", 64
ASKED = Counter()


class Model(BaseHTTPRequestHandler):
    """Answers as a provider does: the same words have the same vector, and no answer is given twice."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        ASKED[self.path] += 1
        if self.path.endswith("/embeddings"):
            texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
            data = [{"object": "embedding", "index": i, "embedding": embedding(t)} for i, t in enumerate(texts)]
            answer = {"object": "list", "model": "e", "data": data, "usage": {"prompt_tokens": 1, "total_tokens": 1}}
        else:
            message = {"role": "assistant", "content": f"answer {ASKED[self.path]}: \"quoted\" 'ä' {{}}"}
            choice = {"index": 0, "finish_reason": "stop", "message": message}
            answer = {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice],
                      "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}}
        text = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


def embedding(text):
    row = [0.0] * DIM
    for word in text.lower().split():
        row[hashlib.sha256(word.encode()).digest()[0] % DIM] += 1.0
    return row


def serve():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Model)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}/v1"


BASE = serve()
os.environ["OPENAI_API_BASE"] = os.environ["OPENAI_BASE_URL"] = BASE


def cache(url, quantization="binary", fresh=True):
    if fresh:
        httpx.delete(f"{url}/collections/{NAME}")
    litellm.cache = Cache(
        type="qdrant-semantic", qdrant_api_base=url, qdrant_collection_name=NAME, similarity_threshold=0.8,
        qdrant_quantization_config=quantization, qdrant_semantic_cache_embedding_model="openai/e",
        qdrant_semantic_cache_vector_size=DIM)
    ASKED.clear()


def ask(text, **rest):
    messages = [{"role": "user", "content": text}]
    answer = litellm.completion(model="openai/m", messages=messages, api_base=BASE, caching=True, **rest)
    return answer.choices[0].message.content


def stored(url, n):
    """Waits until the cache has so many entries: stores may come after the answer."""
    for _ in range(200):
        count = httpx.post(f"{url}/collections/{NAME}/points/count", json={}).json()["result"]["count"]
        if count == n:
            return
        time.sleep(0.05)
    raise AssertionError(f"expected {n} entries, received {count}")


def n_completions():
    return ASKED["/v1/chat/completions"]


def check_the_same_question_is_answered_from_the_cache(url):
    cache(url)
    first = ask("what is the capital of france")
    stored(url, 1)
    assert ask("what is the capital of france") == first and n_completions() == 1, ASKED


def check_a_question_put_in_other_words_is_a_hit_and_another_is_not(url):
    cache(url)
    first = ask("what is the capital of france please")
    stored(url, 1)
    assert ask("please what is the capital of france") == first and n_completions() == 1
    assert ask("how do i boil an egg at home") != first and n_completions() == 2


def check_other_parameters_are_other_entries(url):
    cache(url)
    first = ask("name a colour", temperature=0.1)
    stored(url, 1)
    assert ask("name a colour", temperature=0.9) != first and n_completions() == 2
    assert ask("name a colour", temperature=0.1) == first


def check_every_quantization_is_taken(url):
    for quantization in ("binary", "scalar", "product"):
        cache(url, quantization)
        first = ask(f"quantized {quantization}")
        stored(url, 1)
        assert ask(f"quantized {quantization}") == first, quantization


def check_a_second_process_finds_what_the_first_stored(url):
    cache(url)
    first = ask("what was stored before")
    stored(url, 1)
    cache(url, fresh=False)
    assert ask("what was stored before") == first and n_completions() == 0


def check_asynchronous_calls_hit_too(url):
    cache(url)

    async def both():
        texts = []
        for _ in range(2):
            answer = await litellm.acompletion(
                model="openai/m", messages=[{"role": "user", "content": "asked later"}], api_base=BASE, caching=True)
            texts.append(answer.choices[0].message.content)
            await asyncio.to_thread(stored, url, 1)
        return texts

    first, second = asyncio.run(both())
    assert first == second and n_completions() == 1, (first, second, ASKED)


if __name__ == "__main__":
    checks.run("litellm qdrant-semantic", globals())
