"""Collections, points and their payloads, all from one seed."""
import uuid

from qdrant_client import models as m

# Sizes are no multiples of each other, so that a vector sent to the wrong name is refused.
VECTORS = {
    "text": (17, m.Distance.COSINE),
    "image": (24, m.Distance.DOT),
    "code": (12, m.Distance.EUCLID),
    "grid": (9, m.Distance.MANHATTAN),
}
# One collection with named vectors, one with a single vector, one that examples and groups are looked up in.
NAMED, SINGLE, OTHER = "named", "single", "other"
SINGLE_DIM, POINTS = 10, 250
# None is a part of another: the local mode searches for text as a part of text, we by words.
WORDS = ["cat", "dog", "frog", "horse", "lizard", "snail", "bee", "shark"]
DAYS = ["2000-05-31T12:00:00Z", "2000-06-01 14:00:00+02:00", "2001-01-01", "2001-02-03T04:05:06",
        "1999-12-31T23:59:59.123456Z", "2010-10-10 10:10", "2000-03-03T02:05:04+0200", "2021-01-01 00:00:00.000-10"]


def vector(r, dim):
    """Numbers of so many digits that no two points are equally far."""
    return [round(r.uniform(-1, 1), 9) for _ in range(dim)]


def vectors(r, share=0.9):
    """Named vectors; some are missing, never all."""
    chosen = [name for name in VECTORS if r.random() < share] or ["text"]
    return {name: vector(r, VECTORS[name][0]) for name in chosen}


def point_id(r, slot):
    return slot if slot % 3 else str(uuid.UUID(int=r.getrandbits(128)))


def place(r):
    return {"lat": round(r.uniform(-80, 80), 5), "lon": round(r.uniform(-170, 170), 5)}


def payload(r, slot):
    """A payload in which each key has one type, but for those that say otherwise."""
    made = {
        "id": slot,
        "word": r.choice(WORDS),
        "sentence": " ".join(r.sample(WORDS, 3)),
        "tags": r.sample(WORDS, r.randrange(4)),
        "digit": r.randrange(10),
        "digits": [r.randrange(20) for _ in range(r.randrange(4))],
        "size": r.uniform(-5, 5),
        "flag": r.random() < 0.5,
        "when": r.choice(DAYS),
        "key": str(uuid.UUID(int=r.getrandbits(2) << 64 | 9)),
        "place": {"name": r.choice(WORDS), "geo": place(r)},
        "shops": [place(r) for _ in range(r.randrange(3))],
        "table": [[r.randrange(9) for _ in range(r.randrange(3))] for _ in range(r.randrange(3))],
        "nested": {"digit": r.randrange(10), "array": [
            {"word": r.choice(WORDS), "number": r.randrange(12), "empty": r.choice([[], ["x"], None])}
            for _ in range(r.randrange(4))
        ]},
        "two words": r.choice(WORDS),
        "mixed": r.choice([r.choice(WORDS), r.randrange(5)]),
        "large": r.choice([2**53 + 1, -(2**63), 2**63 - 1, 7]),
        "straße": r.choice(["ärger", "数据", ""]),
    }
    if r.random() < 0.5:
        made["maybe"] = r.choice([None, [], r.choice(WORDS)])
    if r.random() < 0.1:
        return {key: made[key] for key in r.sample(sorted(made), r.randrange(5))}
    return made


def point(r, slot, named=True):
    return m.PointStruct(
        id=point_id(r, slot) if named else slot,
        vector=vectors(r) if named else vector(r, SINGLE_DIM),
        payload=payload(r, slot) if r.random() < 0.97 else None,
    )


def params(dim, distance):
    return m.VectorParams(size=dim, distance=distance)


def create(client):
    """Makes the empty collections."""
    named = {name: params(*kind) for name, kind in VECTORS.items()}
    client.create_collection(NAMED, vectors_config=named)
    client.create_collection(SINGLE, vectors_config=params(SINGLE_DIM, m.Distance.COSINE))
    client.create_collection(OTHER, vectors_config={"text": named["text"], "second": params(12, m.Distance.DOT)})


def first_points(r):
    """The points of each collection, as (collection, points)."""
    yield NAMED, [point(r, slot) for slot in range(POINTS)]
    yield SINGLE, [point(r, slot, named=False) for slot in range(POINTS // 2)]
    other = [
        m.PointStruct(id=slot, vector={"text": vector(r, 17), "second": vector(r, 12)}, payload={"n": slot})
        for slot in range(8)
    ]
    yield OTHER, other
