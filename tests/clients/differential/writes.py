"""Random changes, each as (method, keyword arguments) of the client."""
from qdrant_client import models as m

from . import worlds
from .filters import condition, filters


class Changer:
    """Makes changes to a collection whose points are known."""

    def __init__(self, r, collection, ids):
        self.r, self.collection, self.ids = r, collection, ids
        self.named = collection == worlds.NAMED
        self.next_slot = worlds.POINTS

    def some(self, most=6):
        return self.r.sample(self.ids, self.r.randint(1, min(most, len(self.ids))))

    def selected(self):
        """Points by id or by a filter."""
        if self.r.random() < 0.5:
            return self.some()
        chosen = filters(self.r, self.ids, depth=1)
        return self.r.choice([chosen, m.FilterSelector(filter=chosen)])

    def points(self):
        """New points, and points that are there."""
        made = []
        for point_id in self.some(3):
            made.append(worlds.point(self.r, 0, self.named).model_copy(update={"id": point_id}))
        for _ in range(self.r.randrange(4)):
            made.append(worlds.point(self.r, self.next_slot, self.named))
            self.next_slot += 1
        return made

    def upsert(self):
        made = {"points": self.points()}
        if self.r.random() < 0.3:
            made["update_mode"] = self.r.choice(list(m.UpdateMode))
        if self.r.random() < 0.3:
            made["update_filter"] = filters(self.r, self.ids, depth=1)
        return "upsert", made

    def upsert_columns(self):
        points = self.points()
        vectors = [point.vector for point in points]
        if self.named:
            vectors = {name: [worlds.vector_of(self.r, name) for _ in points] for name in worlds.NAMES}
        batch = m.Batch(ids=[p.id for p in points], vectors=vectors, payloads=[p.payload or {} for p in points])
        return "upsert", {"points": batch}

    def delete(self):
        # Few at a time: the collection is to stay filled.
        chosen = m.Filter(must=[condition(self.r, self.ids, 0), m.HasIdCondition(has_id=self.some(20))])
        return "delete", {"points_selector": self.r.choice([self.some(3), m.FilterSelector(filter=chosen)])}

    def news(self):
        return self.r.choice([
            {"word": self.r.choice(worlds.WORDS)}, {"maybe": []}, {"digits": [self.r.randrange(9)], "flag": True},
            {"place": {"name": "bee"}}, {"deep": {"er": [{"x": 1.5}]}}, {},
        ])

    def set_payload(self):
        made = {"payload": self.news(), "points": self.selected()}
        if self.r.random() < 0.4:
            made["key"] = self.r.choice(["place", "nested", "nested.array[0]", "deep.er", "brand.new"])
        return "set_payload", made

    def overwrite_payload(self):
        return "overwrite_payload", {"payload": worlds.payload(self.r, 7), "points": self.some()}

    def delete_payload(self):
        keys = self.r.sample(["word", "maybe", "digits", "shops", "deep", "absent"], 2)
        return "delete_payload", {"keys": keys, "points": self.selected()}

    def clear_payload(self):
        return "clear_payload", {"points_selector": self.some(2)}

    def update_vectors(self):
        made = []
        for point_id in self.some():
            vector = worlds.vectors(self.r, 0.4) if self.named else worlds.vector(self.r, worlds.SINGLE_DIM)
            made.append(m.PointVectors(id=point_id, vector=vector))
        return "update_vectors", {"points": made}

    def delete_vectors(self):
        names = self.r.sample(["image", "code", "grid", "pages", "tiles", "terms", "rare"], self.r.randint(1, 3)) if self.named else [""]
        return "delete_vectors", {"vectors": names, "points": self.r.choice([self.some(), self.few()])}

    def few(self):
        return m.Filter(must=[m.HasIdCondition(has_id=self.some(20)), condition(self.r, self.ids, 0)])

    def batch(self):
        """Several changes in one request, in their order."""
        some = self.some(3)
        return "batch_update_points", {"update_operations": [
            m.UpsertOperation(upsert=m.PointsList(points=self.points())),
            m.SetPayloadOperation(set_payload=m.SetPayload(payload=self.news(), points=some)),
            m.DeletePayloadOperation(delete_payload=m.DeletePayload(keys=["word"], points=some)),
            m.OverwritePayloadOperation(overwrite_payload=m.SetPayload(payload={"only": 1}, points=some[:1])),
            m.ClearPayloadOperation(clear_payload=m.PointIdsList(points=some[1:])),
            m.DeleteOperation(delete=m.PointIdsList(points=self.some(1))),
        ]}

    def any(self):
        kinds = [self.upsert, self.upsert, self.upsert_columns, self.delete, self.set_payload, self.set_payload,
                 self.overwrite_payload, self.delete_payload, self.clear_payload, self.update_vectors, self.batch]
        # The local mode cannot take the only vector from a point of a collection without names.
        kinds += [self.delete_vectors] * self.named
        return self.r.choice(kinds)()
