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
# Vectors of several rows, and sparse ones.
MULTI = {
    "pages": (8, m.Distance.COSINE),
    "strips": (7, m.Distance.DOT),
    "tiles": (6, m.Distance.EUCLID),
    "bands": (5, m.Distance.MANHATTAN),
}
SPARSE = {"terms": None, "rare": m.Modifier.IDF}
NAMES = [*VECTORS, *MULTI, *SPARSE]
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


def sparse(r):
    """Values at indices of which many have the same, and at one that few have, in any order."""
    indices = r.sample(range(16), r.randint(4, 9)) + r.sample([1000, 2**31, 2**32 - 1], r.randrange(2))
    r.shuffle(indices)
    return m.SparseVector(indices=indices, values=vector(r, len(indices)))


def vector_of(r, name):
    """A vector of the shape that the name has."""
    if name in SPARSE:
        return sparse(r)
    if name in MULTI:
        return [vector(r, MULTI[name][0]) for _ in range(r.randint(1, 4))]
    return vector(r, VECTORS[name][0] if name else SINGLE_DIM)


def vectors(r, share=0.9):
    """Named vectors; some are missing, never all. A new point has all of several rows: the local mode cannot compare one that
    never had them."""
    rows = list(MULTI) if share > 0.5 else [name for name in MULTI if r.random() < share]
    chosen = [name for name in [*VECTORS, *SPARSE] if r.random() < share] or ["text"]
    return {name: vector_of(r, name) for name in chosen + rows}


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


def params(dim, distance, multi=False):
    config = m.MultiVectorConfig(comparator=m.MultiVectorComparator.MAX_SIM) if multi else None
    return m.VectorParams(size=dim, distance=distance, multivector_config=config)


def create(client):
    """Makes the empty collections."""
    named = {name: params(*kind) for name, kind in VECTORS.items()}
    named |= {name: params(*kind, multi=True) for name, kind in MULTI.items()}
    sparse_config = {name: m.SparseVectorParams(modifier=modifier) for name, modifier in SPARSE.items()}
    client.create_collection(NAMED, vectors_config=named, sparse_vectors_config=sparse_config)
    client.create_collection(SINGLE, vectors_config=params(SINGLE_DIM, m.Distance.COSINE))
    other = {"text": named["text"], "second": params(12, m.Distance.DOT), "sheets": named["pages"]}
    client.create_collection(OTHER, vectors_config=other, sparse_vectors_config={"words": m.SparseVectorParams()})


def first_points(r):
    """The points of each collection, as (collection, points)."""
    yield NAMED, [point(r, slot) for slot in range(POINTS)]
    yield SINGLE, [point(r, slot, named=False) for slot in range(POINTS // 2)]
    other = [
        m.PointStruct(id=slot, payload={"n": slot}, vector={
            "text": vector(r, 17), "second": vector(r, 12), "sheets": vector_of(r, "pages"), "words": sparse(r)})
        for slot in range(8)
    ]
    yield OTHER, other
