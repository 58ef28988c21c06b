"""What a user of the langcache package sees: python tests/clients/cache_langcache.py URL"""
import langcache
from langcache.errors import BadRequestErrorResponseContent, NotFoundErrorResponseContent
from langcache.models import SearchStrategy

import checks

ONE = "How do I change the language of the keyboard?"
OTHER = "How do I change the language of the keyboard, please?"


def client(url, cache="clients"):
    return langcache.LangCache(server_url=url, cache_id=cache, api_key="own")


def check_an_answer_is_stored_and_found_in_other_words(url):
    with client(url) as c:
        assert c.search(prompt=ONE).data == []
        stored = c.set(prompt=ONE, response="In the settings.", attributes={"app": "a"}, ttl_millis=60_000)
        (found,) = c.search(prompt=ONE, search_strategies=[SearchStrategy.EXACT, SearchStrategy.SEMANTIC], attributes={"app": "a"}).data
        assert (found.id, found.response, found.similarity) == (stored.entry_id, "In the settings.", 1.0), found
        assert found.search_strategy == SearchStrategy.EXACT and found.attributes == {"app": "a"}, found
        (near,) = c.search(prompt=OTHER, similarity_threshold=0.9, attributes={"app": "a"}).data
        assert near.prompt == ONE and 0.9 <= near.similarity < 1 and near.search_strategy == SearchStrategy.SEMANTIC, near
        assert c.search(prompt=OTHER, similarity_threshold=0.9, attributes={"app": "b"}).data == []


def check_entries_are_deleted_by_id_by_attributes_and_all_together(url):
    with client(url, "deleted") as c:
        one = c.set(prompt=ONE, response="1", attributes={"app": "a", "user": "u"})
        c.set(prompt="Who wrote Faust?", response="2", attributes={"app": "a", "user": "v"})
        c.delete_by_id(entry_id=one.entry_id)
        try:
            c.delete_by_id(entry_id=one.entry_id)
            raise AssertionError("it was there twice")
        except NotFoundErrorResponseContent as error:
            assert error.data.status == 404 and error.data.title == "entry_not_found", error
        assert c.delete_query(attributes={"app": "a"}).deleted_entries_count == 1
        c.set(prompt=ONE, response="3")
        c.flush()
        assert c.search(prompt=ONE, search_strategies=[SearchStrategy.EXACT]).data == []


def check_a_conversation_is_its_last_question_after_the_others(url):
    with client(url, "talk") as c:
        asked = {"prompt": "When was he born?", "context": ["Who wrote Faust?"]}
        first = c.conversational_search(**asked)
        assert first.data == []
        c.set(prompt=first.actual_prompt, response="1749")
        assert c.conversational_search(**asked).data[0].response == "1749"
        assert c.conversational_search(prompt="When was he born?", context=["Who wrote Emma?"]).data == []


def check_what_is_wrong_is_said_in_that_apis_words(url):
    with client(url) as c:
        try:
            c.search(prompt=" ")
        except BadRequestErrorResponseContent as error:
            assert error.data.type.value == "/errors/invalid-data" and "prompt" in error.data.detail, error
            return
    raise AssertionError("an empty prompt was taken")


if __name__ == "__main__":
    checks.run("langcache", globals())
