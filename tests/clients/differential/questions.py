"""Random questions put to both sides, and what is demanded of their answers."""
from copy import deepcopy

from qdrant_client import models as m

from . import compare, worlds
from .filters import condition, filters, maybe
from .queries import EVERYTHING, Asker

KEYS = ["word", "tags", "digit", "digits", "flag", "place.name", "nested.array[].word", "absent", "key"]


def pushed_down(args):
    """The same for the local mode, which ignores a filter beside prefetches where they are fused, and else applies it after they
    were cut at their limits. The server applies it in every prefetch below."""
    args = deepcopy(args)
    if args.get("prefetch") and args.get("query_filter"):
        args["prefetch"] = [_with_filter(each, args["query_filter"]) for each in args["prefetch"]]
    elif args.get("prefetch"):
        args["prefetch"] = [_with_filter(each, None) for each in args["prefetch"]]
    return args


def _with_filter(prefetch, above):
    parts = [each for each in (above, prefetch.filter) if each is not None]
    merged = m.Filter(must=parts) if parts else None
    inner = [_with_filter(each, merged) for each in prefetch.prefetch or []]
    return prefetch.model_copy(update={"filter": merged, "prefetch": inner or None})


class Questions:
    """Questions about one collection as it is now."""

    def __init__(self, r, suite, collection, having):
        self.r, self.suite, self.collection = r, suite, collection
        self.asker = Asker(r, collection, having)
        self.ids = self.asker.ids

    def query(self, kind, args, check=None, is_whole=True):
        args = {"collection_name": self.collection, **args}
        reference = pushed_down(args)
        if args.get("prefetch") and args.get("query_filter"):
            kind = f"{kind}, a filter beside it"

        def whole():
            return self.suite.whole("query_points", reference, limit=EVERYTHING, offset=0).points

        def points(ours, theirs):
            if check:
                return check(ours.points, theirs.points)
            return compare.ranked(ours.points, theirs.points, whole if is_whole else None)

        self.suite.ask(kind, "query_points", args, points, reference)

    def nearest(self):
        self.query("nearest", {**self.asker.one_name(self.asker.nearest), **self.asker.shown(), **self.asker.rest()})

    def recommend(self):
        self.query("recommend", {**self.asker.one_name(self.asker.recommend), **self.asker.rest()})

    def discover(self):
        self.query("discover", {**self.asker.one_name(self.asker.discover), **self.asker.rest()})

    def context(self):
        args = self.asker.one_name(lambda name: m.ContextQuery(context=self.asker.pairs(name)))
        self.query("context", {**args, **self.asker.rest()})

    def feedback(self):
        """The local mode puts the least similar first where the metric is a distance: the order is made from its scores."""
        args = {**self.asker.one_name(self.asker.feedback, list(worlds.VECTORS)), **self.asker.rest()}
        asked = {"collection_name": self.collection, **args}
        found = self.suite.whole("query_points", asked, limit=EVERYTHING, offset=0).points
        best = sorted(found, key=lambda point: -point.score)
        begin = args["offset"] or 0

        def check(ours, _):
            return compare.ranked(ours, best[begin:begin + args["limit"]], lambda: best)

        self.query("relevance feedback", args, check)

    def order(self):
        self.query("order by", {"query": self.asker.order_by(), **self.asker.shown(), **self.asker.rest()})

    def by_id(self):
        self.query("no query", {**self.asker.shown(), **self.asker.rest()}, compare.in_order)

    def sample(self):
        args = {"query": m.SampleQuery(sample=m.Sample.RANDOM), "limit": EVERYTHING // 2, **self.asker.shown()}
        self.query("sample of all", {**args, "query_filter": maybe(self.r, self.ids)}, compare.as_set)

    def fusion(self):
        self.query("fusion", {**self.asker.fusion(), **self.asker.shown(), **self.asker.rest(share=0.3)})

    def rrf(self):
        self.query("rrf with k and weights", {**self.asker.rrf(), **self.asker.rest(share=0.3)})

    def rescored(self):
        args = {"prefetch": self.asker.prefetches(), **self.asker.compared()}
        self.query("nearest among prefetched", {**args, **self.asker.shown(), **self.asker.rest(share=0.3)})

    def formula(self):
        self.query("formula", {**self.asker.formula(), **self.asker.rest(share=0.3)})

    def mmr(self):
        self.query("mmr", {**self.asker.mmr(), **self.asker.rest(offsets=(None,))}, is_whole=False)

    def looked_up(self):
        self.query("lookup from", {**self.asker.looked_up(), **self.asker.rest()})

    def threshold(self):
        """A threshold between two scores that are not equal. What is as good is taken from the list without one: the local mode
        takes scores of several examples for distances where the metric is one, though more is nearer there as well."""
        kind = self.r.choice([self.asker.nearest, self.asker.recommend, self.asker.discover])
        args = {"collection_name": self.collection, **self.asker.one_name(kind), **self.asker.rest()}
        found = self.suite.whole("query_points", args, limit=EVERYTHING, offset=0).points
        if len(found) < 2:
            return
        at = self.r.randrange(len(found) - 1)
        if compare.close(found[at].score, found[at + 1].score):
            return
        middle = (found[at].score + found[at + 1].score) / 2
        begin = args["offset"] or 0
        expected = found[:at + 1][begin:begin + args["limit"]]

        def check(ours, _):
            return compare.ranked(ours.points, expected, lambda: found)

        self.suite.ask("score threshold", "query_points", {**args, "score_threshold": middle}, check)

    def batch(self):
        parts = [{**self.asker.compared(), "limit": 5, "filter": maybe(self.r, self.ids), "with_payload": True}
                 for _ in range(self.r.randint(1, 4))]
        requests = [m.QueryRequest(**{**part, "query": part["query"]}) for part in parts]

        def check(ours, theirs):
            lists = zip(ours, theirs, strict=True)
            return next(filter(None, (compare.ranked(a.points, b.points) for a, b in lists)), None)

        args = {"collection_name": self.collection, "requests": requests}
        self.suite.ask("query batch", "query_batch_points", args, check)

    def groups(self):
        asked = self.r.choice([lambda: self.asker.one_name(self.asker.nearest),
                               lambda: self.asker.one_name(self.asker.recommend),
                               lambda: {"prefetch": self.asker.prefetches(depth=0), **self.asker.compared()}])()
        args = {
            "collection_name": self.collection, "query_filter": maybe(self.r, self.ids), **asked, **self.asker.shown(),
            "group_by": self.r.choice(["word", "digit", "tags", "digits", "nested.digit", "place.name", "mixed"]),
            "limit": self.r.choice([1, 3, 20]), "group_size": self.r.choice([1, 2, 5]),
        }
        if args["group_by"] == "digit" and self.r.random() < 0.5:
            args["with_lookup"] = m.WithLookup(collection=worlds.OTHER, with_payload=True, with_vectors=True)
        reference = pushed_down(args)
        if "prefetch" in reference:
            # For groups the local mode forgets to look up points that are examples in prefetches.
            look_up = self.suite.local._client._resolve_prefetches_input
            reference["prefetch"] = look_up(reference["prefetch"], self.collection)

        def whole():
            return self.suite.whole("query_points_groups", reference, limit=EVERYTHING, group_size=EVERYTHING)

        self.suite.ask("groups", "query_points_groups", args, lambda a, b: compare.grouped(a, b, whole), reference)

    def scroll(self):
        args = {"collection_name": self.collection, "scroll_filter": maybe(self.r, self.ids, 0.7), **self.asker.shown(),
                "limit": self.r.choice([1, 7, 50, 400]), "offset": self.r.choice([None, self.r.choice(self.ids)])}
        self.suite.ask("scroll", "scroll", args, compare.page)

    def ordered_scroll(self):
        args = {"collection_name": self.collection, "scroll_filter": maybe(self.r, self.ids), **self.asker.shown(),
                "limit": self.r.choice([1, 7, 50]), "order_by": self.asker.order_by().order_by}

        def check(ours, theirs):
            def whole():
                return self.suite.whole("scroll", args, limit=EVERYTHING)[0]
            return compare.ranked(ours[0], theirs[0], whole) or compare.exact(ours[1], theirs[1], "next offset")

        self.suite.ask("scroll in an order", "scroll", args, check)

    def count(self):
        args = {"collection_name": self.collection, "count_filter": filters(self.r, self.ids, depth=3)}
        self.suite.ask("count", "count", args, lambda a, b: compare.exact(a.count, int(b.count)))

    def one_condition(self):
        chosen = m.Filter(**{self.r.choice(["must", "must_not"]): [condition(self.r, self.ids, 0)]})
        args = {"collection_name": self.collection, "scroll_filter": chosen, "limit": 400, "with_payload": False}
        self.suite.ask("one condition", "scroll", args, compare.page)

    def retrieve(self):
        wanted = self.r.sample(self.ids, 5) + [10**9]
        args = {"collection_name": self.collection, "ids": wanted, **self.asker.shown()}
        self.suite.ask("retrieve", "retrieve", args, compare.as_set)

    def facet(self):
        args = {"collection_name": self.collection, "key": self.r.choice(KEYS), "exact": True,
                "facet_filter": maybe(self.r, self.ids), "limit": self.r.choice([1, 3, 50])}
        self.suite.ask("facet", "facet", args, lambda a, b: compare.exact(
            [[hit.value, hit.count] for hit in a.hits], [[hit.value, hit.count] for hit in b.hits]))

    def matrix(self):
        """A matrix of all points that pass: which are sampled is free."""
        name = self.asker.vector_name()
        numbers = [i for i in self.asker.having[name] if isinstance(i, int)]
        chosen = m.Filter(must=[m.HasIdCondition(has_id=self.r.sample(numbers, min(len(numbers), 12)))])
        method, check = self.r.choice([("search_matrix_pairs", compare.pairs), ("search_matrix_offsets", compare.offsets)])
        args = {"collection_name": self.collection, "query_filter": chosen, "using": name or None, "sample": 20,
                "limit": self.r.choice([2, 5])}
        self.suite.ask("matrix", method, args, check)

    def any(self, kinds):
        getattr(self, self.r.choice(kinds))()


READS = ["scroll", "scroll", "ordered_scroll", "count", "count", "one_condition", "one_condition", "retrieve", "facet"]
QUERIES = ["nearest", "nearest", "nearest", "recommend", "discover", "context", "feedback", "order", "by_id", "sample",
           "fusion", "fusion", "rrf", "rescored", "formula", "formula", "mmr", "looked_up", "threshold", "batch", "groups",
           "groups", "matrix"]
