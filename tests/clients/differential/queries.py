"""Random queries of every kind, as keyword arguments of the client's query_points."""
from qdrant_client import models as m

from . import worlds
from .filters import condition, filters, maybe

STRATEGIES = list(m.RecommendStrategy)
# Kinds whose score of a point depends on nothing but the point: which of equal ones is shown is free.
EVERYTHING = 10_000


class Asker:
    """Makes queries over the points that a collection has now."""

    def __init__(self, r, collection, having):
        self.r, self.collection, self.having = r, collection, having
        self.ids = sorted({i for ids in having.values() for i in ids}, key=str)

    def vector_name(self, of=worlds.NAMES):
        names = of if self.collection == worlds.NAMED else [""]
        return self.r.choice([name for name in names if len(self.having[name]) > 9])

    def vector(self, name):
        return worlds.vector_of(self.r, name)

    def example(self, name):
        """A vector or, of the points that have one, an id."""
        return self.vector(name) if self.r.random() < 0.5 else self.r.choice(self.having[name])

    def examples(self, name, least, most):
        return [self.example(name) for _ in range(self.r.randint(least, most))]

    def pairs(self, name, least=1):
        n = self.r.randint(least, 3)
        return [m.ContextPair(positive=self.example(name), negative=self.example(name)) for _ in range(n)]

    def nearest(self, name):
        return self.r.choice([
            lambda: self.vector(name),
            lambda: m.NearestQuery(nearest=self.vector(name)),
            lambda: m.NearestQuery(nearest=self.r.choice(self.having[name])),
        ])()

    def recommend(self, name, strategy=None):
        strategy = strategy or self.r.choice(STRATEGIES)
        least = 1 if strategy == m.RecommendStrategy.AVERAGE_VECTOR else 0
        positive = self.examples(name, least, 3)
        negative = self.examples(name, 0 if positive else 1, 2)
        return m.RecommendQuery(recommend=m.RecommendInput(positive=positive, negative=negative, strategy=strategy))

    def discover(self, name):
        return m.DiscoverQuery(discover=m.DiscoverInput(target=self.example(name), context=self.pairs(name)))

    def feedback(self, name):
        weights = {key: self.r.choice([0.5, 1.0, 2.0]) for key in "abc"}
        items = [m.FeedbackItem(example=self.example(name), score=self.r.random()) for _ in range(self.r.randint(1, 3))]
        return m.RelevanceFeedbackQuery(relevance_feedback=m.RelevanceFeedbackInput(
            target=self.example(name), feedback=items,
            strategy=m.NaiveFeedbackStrategy(naive=m.NaiveFeedbackStrategyParams(**weights))))

    def order_by(self):
        key = self.r.choice(["size", "id", "digit", "digits", "when", "nested.digit"])
        start = {"size": 1.5, "digit": 4, "when": "2000-06-01T00:00:00Z"}.get(key)
        order = m.OrderBy(key=key, direction=self.r.choice(list(m.Direction)),
                          start_from=start if self.r.random() < 0.3 else None)
        return m.OrderByQuery(order_by=order)

    def compared(self):
        """A query that compares vectors and gives few points the same score."""
        name = self.vector_name()
        kind = self.r.choice([self.nearest, self.nearest, self.recommend, self.discover])
        # Other kinds score all points alike that share no index with an example.
        kind = self.nearest if name in worlds.SPARSE else kind
        return {"query": kind(name), "using": name or None}

    def prefetch(self, depth):
        made = {"limit": self.r.choice([1, 5, 20, 60])}
        if self.r.random() < 0.4:
            made["filter"] = filters(self.r, self.ids)
        if depth and self.r.random() < 0.3:
            made["prefetch"] = self.prefetches(depth - 1)
            fused = m.FusionQuery(fusion=m.Fusion.DBSF)
            return m.Prefetch(**made, **self.r.choice([lambda: {"query": fused}, self.compared])())
        if self.r.random() < 0.1:
            return m.Prefetch(**made)
        return m.Prefetch(**made, **self.compared())

    def prefetches(self, depth=1, least=1):
        return [self.prefetch(depth) for _ in range(self.r.randint(least, 3))]

    def rrf(self):
        made = self.prefetches(depth=0)
        weights = [self.r.choice([0.5, 1.0, 3.0]) for _ in made] if self.r.random() < 0.5 else None
        rrf = m.Rrf(k=self.r.choice([None, 1, 10, 60]), weights=weights)
        return {"prefetch": made, "query": m.RrfQuery(rrf=rrf)}

    def fusion(self):
        return {"prefetch": self.prefetches(), "query": m.FusionQuery(fusion=self.r.choice(list(m.Fusion)))}

    def formula(self):
        made = self.prefetches()
        given = {"size": 0.25, "digit": 2, "nested.digit": 1, "place.geo": {"lat": 10.0, "lon": 20.0},
                 "when": "2001-01-01T00:00:00Z", "id": 0}
        terms = [self.term(2) for _ in range(self.r.randint(1, 3))]
        return {"prefetch": made, "query": m.FormulaQuery(formula=m.SumExpression(sum=terms), defaults=given)}

    def term(self, depth):
        """An expression that is finite whatever the payload has."""
        leaves = [
            lambda: round(self.r.uniform(-3, 3), 2),
            lambda: self.r.choice(["$score", "$score[0]", "$score[1]", "size", "digit", "nested.digit"]),
            lambda: condition(self.r, self.ids, 0),
            lambda: m.DatetimeKeyExpression(datetime_key="when"),
            lambda: m.GeoDistance(geo_distance=m.GeoDistanceParams(
                origin=m.GeoPoint(**worlds.place(self.r)), to="place.geo")),
        ]
        if not depth:
            return self.r.choice(leaves)()
        inner = self.term(depth - 1)
        decay = m.DecayParamsExpression(x=inner, target=self.r.choice([None, 1.0]), scale=self.r.choice([None, 5.0]),
                                        midpoint=self.r.choice([None, 0.3]))
        return self.r.choice(leaves + [
            lambda: m.SumExpression(sum=[inner, self.term(depth - 1)]),
            lambda: m.MultExpression(mult=[inner, self.term(0)]),
            lambda: m.NegExpression(neg=inner),
            lambda: m.AbsExpression(abs=inner),
            lambda: m.DivExpression(div=m.DivParams(left=inner, right=self.term(0), by_zero_default=1.0)),
            lambda: m.SqrtExpression(sqrt=m.AbsExpression(abs=inner)),
            lambda: m.PowExpression(pow=m.PowParams(base=m.AbsExpression(abs=self.term(0)), exponent=2.0)),
            lambda: m.LnExpression(ln=m.SumExpression(sum=[1.0, m.AbsExpression(abs=inner)])),
            lambda: m.Log10Expression(log10=m.SumExpression(sum=[1.0, m.AbsExpression(abs=inner)])),
            lambda: m.ExpExpression(exp=m.NegExpression(neg=m.AbsExpression(abs=inner))),
            lambda: m.LinDecayExpression(lin_decay=decay),
            lambda: m.ExpDecayExpression(exp_decay=decay),
            lambda: m.GaussDecayExpression(gauss_decay=decay),
        ])()

    def mmr(self):
        name = self.vector_name()
        mmr = m.Mmr(diversity=self.r.choice([None, 0.1, 0.8]), candidates_limit=self.r.choice([None, 30]))
        return {"query": m.NearestQuery(nearest=self.vector(name), mmr=mmr), "using": name or None}

    def one_name(self, kind, of=worlds.NAMES):
        name = self.vector_name(of)
        return {"query": kind(name), "using": name or None}

    def looked_up(self):
        """Examples that are points of another collection."""
        vector = self.r.choice(["text", "second", "sheets", "words"])
        using = {"text": "text", "second": "code", "sheets": "pages", "words": "rare"}[vector]
        example = m.RecommendInput(positive=[self.r.randrange(8)], strategy=self.r.choice(STRATEGIES))
        query = self.r.choice([m.RecommendQuery(recommend=example), m.NearestQuery(nearest=self.r.randrange(8))])
        return {"query": query, "using": using, "lookup_from": m.LookupLocation(collection=worlds.OTHER, vector=vector)}

    def shown(self):
        """Which payload and vectors come along."""
        payload = self.r.choice([True, True, False, ["id", "place.name", "nested.array[].word"],
                                 m.PayloadSelectorInclude(include=["tags", "place"]),
                                 m.PayloadSelectorExclude(exclude=["nested.array[].number", "size", "place.geo"])])
        names = ["text", "image", "tiles", "rare"] if self.collection == worlds.NAMED else True
        return {"with_payload": payload, "with_vectors": self.r.choice([False, False, True, names])}

    def rest(self, share=0.5, offsets=(None, None, 3)):
        query_filter = maybe(self.r, self.ids, share)
        return {"query_filter": query_filter, "limit": self.r.choice([1, 3, 10, 50, 400]),
                "offset": self.r.choice(offsets), "search_params": self.r.choice([None, m.SearchParams(exact=True)])}
