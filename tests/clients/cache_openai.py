"""What a user of the openai package sees of the proxy: python tests/clients/cache_openai.py"""
import asyncio
import sys

import openai

import checks
import fronted

ONE = "What is the capital city of the country France?"
OTHER = "What is the capital city of the country France, please?"


def client(url):
    return openai.OpenAI(base_url=f"{url}/v1", api_key="own", max_retries=0)


def chat(url, question, **more):
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": question}]
    raw = client(url).chat.completions.with_raw_response.create(model="m", messages=messages, **more)
    return raw.headers, raw.parse()


def check_a_question_twice_in_different_words_is_asked_once(url):
    headers, first = chat(url, ONE)
    assert headers["x-cache"] == "MISS", headers
    n = len(fronted.MODEL.asked)
    headers, again = chat(url, ONE)
    assert (headers["x-cache"], headers["x-cache-reason"]) == ("HIT", "exact"), headers
    headers, other = chat(url, OTHER)
    assert (headers["x-cache"], headers["x-cache-reason"]) == ("HIT-SEMANTIC", "semantic"), headers
    texts = {answer.choices[0].message.content for answer in (first, again, other)}
    assert len(texts) == 1 and len(fronted.MODEL.asked) == n, texts
    assert again.usage.total_tokens == 7 and again.id != first.id, again


def check_a_stream_is_remembered_and_comes_as_one(url):
    def streamed():
        messages = [{"role": "user", "content": "Stream me the capital of France."}]
        options = {"include_usage": True}
        with client(url).chat.completions.with_streaming_response.create(
                model="m", messages=messages, stream=True, stream_options=options) as raw:
            chunks = list(raw.parse())
            text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
            return raw.headers["x-cache"], text, chunks

    outcome, first, _ = streamed()
    assert outcome == "MISS", outcome
    outcome, again, chunks = streamed()
    assert (outcome, again) == ("HIT", first), (outcome, again, first)
    assert chunks[0].choices[0].delta.role == "assistant" and chunks[-1].usage.total_tokens == 7, chunks
    assert chunks[-2].choices[0].finish_reason == "stop", chunks


def check_a_stream_that_was_left_is_whole_the_next_time(url):
    messages = [{"role": "user", "content": "I leave in the middle of this."}]
    stream = client(url).chat.completions.create(model="m", messages=messages, stream=True)
    next(iter(stream))
    stream.close()
    again = client(url).chat.completions.create(model="m", messages=messages, stream=True)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in again)
    assert text.endswith(" is Paris."), text


def check_calls_of_tools_come_again_for_the_same_words_only(url):
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}]
    _, first = chat(url, "How is the weather in Rome today, tell me", tools=tools)
    headers, again = chat(url, "How is the weather in Rome today, tell me", tools=tools)
    assert headers["x-cache"] == "HIT", headers
    assert again.choices[0].message.tool_calls == first.choices[0].message.tool_calls, again
    assert again.choices[0].finish_reason == "tool_calls"
    headers, _ = chat(url, "How is the weather in Rome today, tell me please", tools=tools)
    assert headers["x-cache"] == "MISS", headers


def check_responses_are_remembered_whole_and_streamed(url):
    c = client(url).responses
    first = c.create(model="m", input="Where does the queen live?")
    again = c.with_raw_response.create(model="m", input="Where does the queen live?")
    assert again.headers["x-cache"] == "HIT" and again.parse().output_text == first.output_text
    assert again.parse().id == first.id

    def streamed():
        events = list(c.create(model="m", input="Where does the king live?", stream=True))
        return [e.type for e in events], "".join(e.delta for e in events if e.type == "response.output_text.delta"), events[-1].response

    _, first, _ = streamed()
    kinds, again, response = streamed()
    assert again == first and response.output_text == first, (first, again)
    assert kinds[0] == "response.created" and kinds[-1] == "response.completed", kinds


def check_embeddings_are_remembered(url):
    def embedded(text):
        raw = client(url).embeddings.with_raw_response.create(model="m", input=text, encoding_format="float")
        return raw.headers["x-cache"], raw.parse().data[0].embedding

    (_, first), (outcome, again) = embedded("some text"), embedded("some text")
    assert outcome == "HIT" and first == again, (outcome, again)
    assert embedded("some other text")[0] == "MISS"


def check_errors_are_the_models_own_and_never_remembered(url):
    for _ in range(2):
        try:
            client(url).chat.completions.create(model="fails", messages=[{"role": "user", "content": "hi there you"}])
        except openai.InternalServerError as error:
            assert error.status_code == 503 and error.message.endswith("overloaded") or "overloaded" in str(error), error
            continue
        raise AssertionError("it answered")
    messages = [{"role": "user", "content": "nobody asked this before"}]
    try:
        client(url).chat.completions.create(model="m", messages=messages, extra_headers={"cache-control": "only-if-cached"})
    except openai.InternalServerError as error:
        assert error.status_code == 504 and error.code == "not_cached", error
        return
    raise AssertionError("it answered")


def check_the_rest_passes_with_the_clients_own_key(url):
    assert [model.id for model in client(url).models.list()] == ["m"]
    chat(url, "whose key is sent on with this")
    assert fronted.MODEL.asked[-1][2]["Authorization"] == "Bearer own"


def check_asynchronous_clients_that_ask_the_same_at_once(url):
    async def ask():
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="own") as c:
            messages = [{"role": "user", "content": "All of us ask this at once."}]
            return await asyncio.gather(*(c.chat.completions.create(model="m", messages=messages) for _ in range(8)))

    n = len(fronted.MODEL.asked)
    texts = {answer.choices[0].message.content for answer in asyncio.run(ask())}
    assert len(texts) == 1 and len(fronted.MODEL.asked) == n + 1, texts


if __name__ == "__main__":
    sys.argv[1:] = [fronted.served("[default]\nthreshold = 0.9\n")]
    try:
        checks.run("openai", globals())
    finally:
        fronted.end()
