"""Where the local mode differs from the server whose mode it is. Each of these is asked of our server as it is written, and of the
local mode in other words, in which it gives the answer of that server. Random questions keep away from them, but for filters
beside prefetches: see questions.pushed_down."""
import math

from qdrant_client import models as m
from qdrant_client.local.local_collection import LocalCollection

from . import compare, worlds
from .suite import Refused, outcome

NOTHING = m.Filter(must=[m.HasIdCondition(has_id=[])])


def count_only_what_is_there():
    """Has the local mode weight by the points that are there: it goes on counting those that were deleted, and whose vector was."""
    def rescored(self, vector, name):
        n, of_points = self.count(count_filter=None).count, zip(self.deleted, self.deleted_per_vector[name])
        there = [own.indices for own, gone in zip(self.sparse_vectors[name], of_points) if not any(gone)]

        def idf(index):
            d = sum(index in own for own in there)
            return math.log((n - d + 0.5) / (d + 0.5) + 1)

        values = [value * idf(index) for index, value in zip(vector.indices, vector.values)]
        return m.SparseVector(indices=vector.indices, values=values)

    LocalCollection._rescore_idf = rescored


def field(key, **kind):
    return m.FieldCondition(key=key, **kind)


def must(*conditions):
    return m.Filter(must=list(conditions))


def word_filters(r):
    word, other = r.sample(worlds.WORDS, 2)
    but = field("maybe", match=m.MatchExcept(**{"except": [word]}))
    null = m.IsNullCondition(is_null=m.PayloadField(key="maybe"))
    both = [field("sentence", match=m.MatchText(text=each)) for each in (word, other)]
    return [
        ("null is not a value other than some", must(but), m.Filter(must=[but], must_not=[null])),
        ("all words of a text, in any order", must(field("sentence", match=m.MatchText(text=f"{word} {other}"))), must(*both)),
        ("a phrase, which the local mode has not", must(field("sentence", match=m.MatchPhrase(phrase=f"{word} {other}"))),
         must(field("sentence", match=m.MatchText(text=f"{word} {other}")))),
        ("words in any case", must(field("sentence", match=m.MatchText(text=word.upper()))), must(both[0])),
    ]


def value_filters(r):
    most = r.randint(1, 3)
    few = field("shops", values_count=m.ValuesCount(lt=most))
    none = m.IsEmptyCondition(is_empty=m.PayloadField(key="shops"))
    empty = m.IsEmptyCondition(is_empty=m.PayloadField(key="maybe"))
    null = m.IsNullCondition(is_null=m.PayloadField(key="maybe"))
    return [
        ("a missing key counts no values", must(few), m.Filter(should=[few, none])),
        ("true is not 1", must(field("flag", match=m.MatchValue(value=1))), NOTHING),
        ("is_empty of a field", must(field("maybe", is_empty=True)), must(empty)),
        ("is_empty of a field, denied", must(field("maybe", is_empty=False)), m.Filter(must_not=[empty])),
        ("is_null of a field", must(field("maybe", is_null=True)), must(null)),
        ("is_null of a field, denied", must(field("maybe", is_null=False)), m.Filter(must_not=[null])),
    ]


def refused_requests(r, having):
    """What the local mode answers and the server does not."""
    without = [i for name in worlds.VECTORS for i in having[name] if i not in having["grid"]]
    named = {"collection_name": worlds.NAMED}
    return [
        ("an example without the vector", "query_points", {**named, "query": r.choice(without), "using": "grid"}),
        ("a filter that is no path", "scroll", {**named, "scroll_filter": must(field("a..b", match=m.MatchValue(value=1)))}),
    ]


def null_removes(suite, r, ids):
    """A null in a payload that is set removes its key."""
    named = {"collection_name": worlds.NAMED, "points": r.sample(ids, 5)}
    for point_id in named["points"]:
        suite.server.set_payload(worlds.NAMED, {"gone": 1}, points=[point_id])
        suite.local.set_payload(worlds.NAMED, {"gone": 1}, points=[point_id])
    suite.server.set_payload(**named, payload={"gone": None})
    suite.local.delete_payload(**named, keys=["gone"])
    args = {"collection_name": worlds.NAMED, "ids": named["points"]}
    suite.ask("not as the local mode: a null that is set removes a key", "retrieve", args, compare.as_set)


def run(suite, r, rounds, having):
    ids = sorted({i for each in having.values() for i in each}, key=str)
    for _ in range(rounds):
        for name, ours, theirs in word_filters(r) + value_filters(r):
            args = {"collection_name": worlds.NAMED, "scroll_filter": ours, "limit": 500}
            suite.ask(f"not as the local mode: {name}", "scroll", args, compare.page, {**args, "scroll_filter": theirs})
        null_removes(suite, r, ids)
        for name, method, args in refused_requests(r, having):
            answer = outcome(suite.server, method, args)
            if isinstance(answer, Refused):
                suite.agreed[f"not as the local mode: refused, {name}"] += 1
            else:
                suite.mismatch(f"not as the local mode: refused, {name}", method, args, "answered", answer, "refused")
