"""What users of LiteLLM's proxy see of its semantic cache over Qdrant: python tests/clients/litellm_proxy.py URL

The proxy is a process of its own; model and embedder are a server in this one."""
import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time

import httpx
import openai

import checks
from fake_model import WORDS_DIM, Server

MODEL = Server()
NAME = "litellm-proxy"
ONE = "How do I change the language of the keyboard on this phone"
OTHER = "How do I change the language of the keyboard on this phone, please"
LONGEST = 180
KEY = f"sk-{secrets.token_hex(32)}"


def config(url):
    """A model, an embedder, and their answers kept at `url`. Of YAML, JSON is a part."""
    def model(name):
        return {"model_name": name, "litellm_params": {"model": f"openai/{name}", "api_base": f"{MODEL.url}/v1", "api_key": "none"}}

    cache = {"type": "qdrant-semantic", "qdrant_api_base": url, "qdrant_collection_name": NAME, "qdrant_quantization_config": "binary",
             "qdrant_semantic_cache_embedding_model": "words", "qdrant_semantic_cache_vector_size": WORDS_DIM,
             "similarity_threshold": 0.8, "ttl": 600}
    return json.dumps({"model_list": [model("m"), model("n"), model("words")],
                       "litellm_settings": {"cache": True, "cache_params": cache}})


class Proxy:
    """LiteLLM's proxy, until the end of a `with`."""

    def __init__(self, url):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.folder = tempfile.TemporaryDirectory()
        self.url = f"http://127.0.0.1:{port}"
        path = f"{self.folder.name}/config.yaml"
        with open(path, "w") as file:
            file.write(config(url))
        command = [f"{os.path.dirname(sys.executable)}/litellm", "--config", path, "--host", "127.0.0.1", "--port", str(port)]
        environment = os.environ | {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MASTER_KEY": KEY}
        self.log = open(f"{self.folder.name}/log", "w+")
        self.process = subprocess.Popen(command, stdout=self.log, stderr=subprocess.STDOUT, env=environment)

    def __enter__(self):
        for _ in range(LONGEST * 10):
            if self.process.poll() is not None:
                break
            try:
                if httpx.get(f"{self.url}/health/liveliness").status_code == 200:
                    return self
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        self.log.seek(0)
        text = self.log.read()[-2000:]
        self.__exit__()
        raise AssertionError(f"litellm did not start:\n{text}")

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        self.folder.cleanup()


PROXIES = []


def ask(text, model="m", **more):
    client = openai.OpenAI(base_url=f"{PROXIES[0].url}/v1", api_key=KEY, max_retries=0)
    answer = client.chat.completions.create(model=model, messages=[{"role": "user", "content": text}], **more)
    if not more.get("stream"):
        return answer.choices[0].message.content
    return "".join(chunk.choices[0].delta.content or "" for chunk in answer if chunk.choices)


def stored(url, n):
    """Waits until so many answers are kept: they are stored after they were given, those of streams twice."""
    for _ in range(300):
        count = httpx.post(f"{url}/collections/{NAME}/points/count", json={}).json()["result"]["count"]
        if count >= n:
            return
        time.sleep(0.1)
    raise AssertionError(f"expected {n} answers, received {count}")


def n_asked():
    return sum(path.endswith("/chat/completions") for path, _, _ in MODEL.asked)


def check_a_question_in_other_words_is_answered_from_memory(url):
    first = ask(ONE)
    stored(url, 1)
    assert ask(ONE) == first and n_asked() == 1, MODEL.asked
    assert ask(OTHER) == first and n_asked() == 1, MODEL.asked


def check_another_question_and_another_model_are_asked(url):
    n = n_asked()
    texts = {ask(ONE), ask("Write a poem about rain in spring"), ask(ONE, model="n"), ask(ONE, temperature=0.7)}
    assert len(texts) == 4 and n_asked() == n + 3, texts
    stored(url, 4)


def check_a_stream_is_answered_from_memory_too(url):
    n = n_asked()
    first = ask("Tell me how bread is baked at home", stream=True)
    stored(url, 5)
    assert ask("Tell me how bread is baked at home", stream=True) == first and n_asked() == n + 1, first


if __name__ == "__main__":
    with Proxy(sys.argv[1]) as proxy:
        PROXIES.append(proxy)
        checks.run("litellm proxy", globals())
