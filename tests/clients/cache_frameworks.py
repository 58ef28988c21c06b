"""What users of redisvl, LangChain and LiteLLM see of the cache: python tests/clients/cache_frameworks.py"""
import os
import sys

os.environ |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "OPENAI_API_KEY": "own"}

import litellm  # noqa: E402
from langchain_core.globals import set_llm_cache  # noqa: E402
from langchain_core.messages import HumanMessage, SystemMessage  # noqa: E402
from langchain_openai import ChatOpenAI  # noqa: E402
from langchain_redis import LangCacheSemanticCache as LangChainCache  # noqa: E402
from redisvl.extensions.cache.llm import LangCacheSemanticCache  # noqa: E402

import checks  # noqa: E402
import fronted  # noqa: E402

ONE = "How do I change the language of the keyboard?"
OTHER = "How do I change the language of the keyboard, please?"


def check_redisvl_stores_and_checks_by_url(url):
    cache = LangCacheSemanticCache(server_url=url, cache_id="redisvl", api_key="own")
    assert cache.check(prompt=ONE) == []
    cache.store(prompt=ONE, response="In the settings.", metadata={"app": "a"})
    (hit,) = cache.check(prompt=OTHER, distance_threshold=0.05, attributes={"app": "a"})
    assert hit["response"] == "In the settings." and hit["prompt"] == ONE and 0 < hit["vector_distance"] < 0.05, hit
    assert cache.check(prompt=OTHER, distance_threshold=0.05, attributes={"app": "b"}) == []
    (equal,) = cache.check(prompt=ONE, attributes={"app": "a"})
    assert equal["vector_distance"] == 0, equal
    cache.clear()
    assert cache.check(prompt=ONE, attributes={"app": "a"}) == []


def check_langchain_is_answered_from_memory_by_its_question(url):
    n_before = len(fronted.MODEL.asked)
    set_llm_cache(LangChainCache(server_url=url, cache_id="langchain", api_key="own", distance_threshold=0.05))
    model = ChatOpenAI(base_url=f"{fronted.MODEL.url}/v1", model="m", temperature=0, max_retries=0)

    def ask(question, system="Be brief."):
        return model.invoke([SystemMessage(system), HumanMessage(question)]).content

    first = ask(ONE)
    assert ask(ONE) == first and ask(OTHER) == first
    assert len(fronted.MODEL.asked) == n_before + 1
    # As dumps these are near; as questions they are not.
    assert ask("Write a poem about the rain in spring.") != first
    assert ask(ONE, system="Be rude.") != first
    set_llm_cache(None)


def check_langchain_through_the_proxy(url):
    def ask(question):
        model = ChatOpenAI(base_url=f"{url}/v1", model="m", max_retries=0, include_response_headers=True)
        answer = model.invoke(question)
        return answer.response_metadata["headers"]["x-cache"], answer.content

    (outcome, first), (again, second) = ask("Who painted the night watch?"), ask("Who painted the night watch?")
    assert (outcome, again) == ("MISS", "HIT") and first == second, (outcome, again, first, second)


def check_litellm_through_the_proxy(url):
    def ask(**more):
        messages = [{"role": "user", "content": "Who built the tower of Pisa?"}]
        return litellm.completion(model="openai/m", api_base=f"{url}/v1", messages=messages, **more)

    assert ask().choices[0].message.content == ask().choices[0].message.content

    def streamed():
        return "".join(chunk.choices[0].delta.content or "" for chunk in ask(stream=True))

    first = streamed()
    assert first and streamed() == first


if __name__ == "__main__":
    sys.argv[1:] = [fronted.served("[default]\nthreshold = 0.9\n")]
    try:
        checks.run("cache of frameworks", globals())
    finally:
        fronted.end()
