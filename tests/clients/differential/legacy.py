"""Requests of older clients, which the client of today does not send, against the same questions put as queries."""
import httpx
from qdrant_client import models as m

from . import compare, worlds
from .filters import maybe
from .queries import EVERYTHING, Asker
from .suite import plain


class Legacy:
    """Sends them by plain HTTP."""

    def __init__(self, r, suite, url):
        self.r, self.suite = r, suite
        self.url = f"{url}/collections/{worlds.NAMED}/points"
        ids = {name: [] for name in worlds.NAMES}
        for point in suite.local.scroll(worlds.NAMED, limit=EVERYTHING, with_vectors=True)[0]:
            for name in point.vector:
                ids[name].append(point.id)
        self.asker = Asker(r, worlds.NAMED, ids)

    def request(self):
        """A search as it was sent, and as a query."""
        name = self.asker.vector_name()
        vector, chosen, limit = self.asker.vector(name), maybe(self.r, self.asker.ids), self.r.choice([1, 10, 300])
        body = {"vector": {"name": name, "vector": plain(vector)}, "limit": limit, "with_payload": True, "with_vector": [name]}
        body |= {"filter": plain(chosen)} if chosen else {}
        return body, {"query": vector, "using": name, "query_filter": chosen, "limit": limit, "with_vectors": [name]}

    def recommendation(self):
        name = self.asker.vector_name()
        positive, negative = self.asker.examples(name, 1, 3), self.asker.examples(name, 0, 2)
        strategy, limit = self.r.choice(list(m.RecommendStrategy)), self.r.choice([1, 10])
        body = {"positive": plain(positive), "negative": plain(negative), "strategy": strategy.value, "using": name, "limit": limit,
                "with_payload": True}
        query = m.RecommendQuery(recommend=m.RecommendInput(positive=positive, negative=negative, strategy=strategy))
        return body, {"query": query, "using": name, "limit": limit}

    def run(self, rounds):
        for _ in range(rounds):
            requests = [self.request() for _ in range(3)]
            self.compared("legacy search", "search", *requests[0])
            self.compared("legacy recommend", "recommend", *self.recommendation())
            searches = {"searches": [body for body, _ in requests]}
            lists = httpx.post(f"{self.url}/search/batch", json=searches, timeout=60)
            if lists.status_code != 200:
                self.suite.mismatch("legacy batch", "search/batch", searches, lists.text, lists.text, None)
                continue
            for points, (body, args) in zip(lists.json()["result"], requests, strict=True):
                self.judged("legacy batch", body, args, points)

    def compared(self, kind, path, body, args):
        answer = httpx.post(f"{self.url}/{path}", json=body, timeout=60)
        if answer.status_code == 200:
            self.judged(kind, body, args, answer.json()["result"])
        else:
            self.suite.mismatch(kind, path, body, f"status {answer.status_code}", answer.text, None)

    def judged(self, kind, body, args, points):
        args = {"collection_name": worlds.NAMED, **args}
        ours = [m.ScoredPoint(**point) for point in points]
        theirs = self.suite.whole("query_points", args).points
        problem = compare.ranked(
            ours, theirs, lambda: self.suite.whole("query_points", args, limit=EVERYTHING).points)
        if problem is None:
            self.suite.agreed[kind] += 1
        else:
            self.suite.mismatch(kind, kind, body, problem, points, theirs)
