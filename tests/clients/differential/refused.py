"""Requests that nobody can answer: both sides refuse them, and the server says why with a 4xx."""
from qdrant_client import models as m

from . import worlds
from .suite import Refused, outcome

TEXT = [0.5] * worlds.VECTORS["text"][0]
PAGE = [0.5] * worlds.MULTI["pages"][0]
TERMS = m.SparseVector(indices=[1, 2], values=[0.5, 1.0])


def refusals(suite):
    named = {"collection_name": worlds.NAMED}
    for method, args in [
        ("query_points", {"collection_name": "absent", "query": TEXT, "using": "text"}),
        ("query_points", {**named, "query": TEXT, "using": "absent"}),
        ("query_points", {**named, "query": TEXT}),
        ("query_points", {**named, "query": TEXT[1:], "using": "text"}),
        ("query_points", {**named, "query": 10**12, "using": "text"}),
        ("query_points", {**named, "query": TEXT, "using": "terms"}),
        ("query_points", {**named, "query": TEXT, "using": "pages"}),
        ("query_points", {**named, "query": TERMS, "using": "text"}),
        ("query_points", {**named, "query": TERMS, "using": "pages"}),
        ("query_points", {**named, "query": [PAGE], "using": "text"}),
        ("query_points", {**named, "query": [PAGE], "using": "terms"}),
        ("query_points", {**named, "query": [PAGE, PAGE[1:]], "using": "pages"}),
        ("query_points", {**named, "query": m.SparseVector(indices=[1, 1], values=[0.5, 1.0]), "using": "terms"}),
        ("query_points", {**named, "query": m.SparseVector(indices=[1], values=[0.5, 1.0]), "using": "terms"}),
        ("query_points", {**named, "query": m.RelevanceFeedbackQuery(relevance_feedback=m.RelevanceFeedbackInput(
            target=TERMS, feedback=[m.FeedbackItem(example=TERMS, score=0.5)], strategy=m.NaiveFeedbackStrategy(
                naive=m.NaiveFeedbackStrategyParams(a=1.0, b=1.0, c=1.0)))), "using": "terms"}),
        ("query_points", {**named, "query": m.FusionQuery(fusion=m.Fusion.RRF)}),
        ("query_points", {**named, "query": m.RrfQuery(rrf=m.Rrf())}),
        ("query_points", {**named, "query": m.FormulaQuery(formula=1.0)}),
        ("query_points", {**named, "prefetch": [m.Prefetch(query=TEXT, using="text")]}),
        ("query_points", {**named, "query": m.RecommendQuery(recommend=m.RecommendInput(
            negative=[TEXT], strategy=m.RecommendStrategy.AVERAGE_VECTOR)), "using": "text"}),
        ("query_points", {**named, "query": m.RecommendQuery(recommend=m.RecommendInput(
            positive=[], strategy=m.RecommendStrategy.BEST_SCORE)), "using": "text"}),
        ("query_points", {**named, "prefetch": [m.Prefetch(query=TEXT, using="text")], "query": m.RrfQuery(
            rrf=m.Rrf(weights=[1.0, 2.0]))}),
        ("query_points", {**named, "prefetch": [m.Prefetch(query=TEXT, using="text")], "query": m.FormulaQuery(
            formula=m.LnExpression(ln=-1.0))}),
        ("query_points", {**named, "prefetch": [m.Prefetch(query=TEXT, using="text")], "query": m.FormulaQuery(
            formula="absent.key")}),
        ("query_points", {**named, "query": 1, "using": "text", "lookup_from": m.LookupLocation(collection="absent")}),
        ("scroll", {"collection_name": "absent"}),
        ("scroll", {**named, "order_by": "size", "offset": 3}),
        ("count", {"collection_name": "absent"}),
        ("facet", {"collection_name": "absent", "key": "word"}),
        ("retrieve", {"collection_name": "absent", "ids": [1]}),
        ("get_collection", {"collection_name": "absent"}),
        ("upsert", {**named, "points": [m.PointStruct(id="no-uuid", vector={"text": TEXT})]}),
        ("upsert", {**named, "points": [m.PointStruct(id=1, vector={"absent": TEXT})]}),
        ("upsert", {**named, "points": [m.PointStruct(id=1, vector={"text": TEXT[1:]})]}),
        ("upsert", {**named, "points": [m.PointStruct(id=1, vector=TEXT)]}),
        ("upsert", {**named, "points": [m.PointStruct(id=1, vector={"terms": m.SparseVector(indices=[1, 1], values=[0.5, 1.0])})]}),
        ("upsert", {**named, "points": [m.PointStruct(id=1, vector={"terms": m.SparseVector(indices=[1], values=[0.5, 1.0])})]}),
        ("upsert", {"collection_name": "absent", "points": [m.PointStruct(id=1, vector=TEXT)]}),
        ("create_collection", {**named, "vectors_config": m.VectorParams(size=4, distance=m.Distance.DOT)}),
    ]:
        ours, theirs = outcome(suite.server, method, args), outcome(suite.local, method, args)
        if isinstance(ours, Refused) and isinstance(theirs, Refused):
            suite.agreed["refused"] += 1
        else:
            suite.mismatch("refused", method, args, "not refused", ours, theirs)
