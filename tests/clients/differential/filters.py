"""Random filters of every kind over the payloads of worlds.py."""
from datetime import datetime, timezone

from qdrant_client import models as m

from . import worlds

KEYWORDS = ["word", "tags", "place.name", "nested.array[].word", '"two words"', "maybe"]
WHOLE = ["digit", "digits", "nested.digit", "nested.array[].number", "id", "table[][]", "digits[0]"]
PLACES = ["place.geo", "shops"]
ANY_KEY = KEYWORDS + ["digits", "shops", "nested.array", "nested", "table", "absent", "absent.more", "size", "flag"]
NESTED = {"word": worlds.WORDS, "number": range(12)}


def some(r, values, most=4):
    return [r.choice(values) for _ in range(r.randint(1, most))]


def bounds(r, bound):
    return {side: bound() for side in r.sample(["gt", "gte", "lt", "lte"], r.randint(1, 2))}


def moment(r):
    return datetime(r.randint(1999, 2021), r.randint(1, 12), r.randint(1, 28), r.randrange(24), tzinfo=timezone.utc)


def geo_point(r):
    return m.GeoPoint(**worlds.place(r))


def ring(r):
    """A triangle, whose borders no point of a random place lies on."""
    points = [geo_point(r) for _ in range(3)]
    return m.GeoLineString(points=points + points[:1])


def by_word(r, keys=KEYWORDS):
    key = r.choice(keys)
    match = r.choice([
        lambda: m.MatchValue(value=r.choice(worlds.WORDS)),
        lambda: m.MatchAny(any=some(r, worlds.WORDS)),
        # Not where there are nulls: see different.py.
        lambda: m.MatchExcept(**{"except": some(r, worlds.WORDS)}) if key != "maybe" else m.MatchValue(value="cat"),
    ])()
    return m.FieldCondition(key=key, match=match)


def by_whole(r, keys=WHOLE):
    match = r.choice([
        lambda: m.MatchValue(value=r.randrange(12)),
        lambda: m.MatchAny(any=some(r, range(12))),
        lambda: m.MatchExcept(**{"except": some(r, range(12))}),
    ])()
    return m.FieldCondition(key=r.choice(keys), match=match)


def by_text(r):
    match = r.choice([
        lambda: m.MatchText(text=r.choice(worlds.WORDS)),
        lambda: m.MatchTextAny(text_any=" ".join(some(r, worlds.WORDS))),
    ])()
    return m.FieldCondition(key=r.choice(["sentence", "word", "place.name"]), match=match)


def by_range(r):
    kind = r.randrange(3)
    if kind == 0:
        return m.FieldCondition(key="size", range=m.Range(**bounds(r, lambda: r.uniform(-5, 5))))
    if kind == 1:
        return m.FieldCondition(key=r.choice(WHOLE), range=m.Range(**bounds(r, lambda: r.randrange(12))))
    return m.FieldCondition(key="when", range=m.DatetimeRange(**bounds(r, lambda: moment(r))))


def by_place(r):
    geo = r.choice([
        lambda: {"geo_bounding_box": m.GeoBoundingBox(top_left=geo_point(r), bottom_right=geo_point(r))},
        lambda: {"geo_radius": m.GeoRadius(center=geo_point(r), radius=10 ** r.uniform(5, 7))},
        lambda: {"geo_polygon": m.GeoPolygon(exterior=ring(r), interiors=[ring(r)] * r.randrange(2))},
    ])()
    return m.FieldCondition(key=r.choice(PLACES), **geo)


def by_presence(r):
    key = r.choice(ANY_KEY)
    return r.choice([
        lambda: m.IsEmptyCondition(is_empty=m.PayloadField(key=key)),
        lambda: m.IsNullCondition(is_null=m.PayloadField(key=key)),
        # More than none: the server counts none where a key is missing, the local mode does not let it pass.
        lambda: m.FieldCondition(key=key, values_count=m.ValuesCount(gte=r.randint(1, 3), lt=r.choice([None, 3, 5]))),
        lambda: m.HasVectorCondition(has_vector=r.choice(worlds.NAMES)),
    ])()


def nested(r):
    """Conditions that one and the same element must meet."""
    inner = m.Filter(must=[by_word(r, ["word"]), m.FieldCondition(
        key="number", range=m.Range(**bounds(r, lambda: r.randrange(12))))])
    if r.random() < 0.3:
        inner = m.Filter(should=[by_word(r, ["word"])], must_not=[by_whole(r, ["number"])])
    return m.NestedCondition(nested=m.Nested(key=r.choice(["nested.array", "nested.array[]"]), filter=inner))


def condition(r, ids, depth):
    kinds = [
        lambda: by_word(r),
        lambda: by_word(r),
        lambda: by_whole(r),
        lambda: by_text(r),
        lambda: by_range(r),
        lambda: by_range(r),
        lambda: by_place(r),
        lambda: by_presence(r),
        lambda: m.FieldCondition(key="flag", match=m.MatchValue(value=r.random() < 0.5)),
        lambda: m.FieldCondition(key="key", match=m.MatchValue(value="00000000-0000-0002-0000-000000000009")),
        lambda: m.FieldCondition(key="large", match=m.MatchValue(value=r.choice([2**53 + 1, -(2**63), 2**63 - 1]))),
        lambda: m.HasIdCondition(has_id=r.sample(ids, min(len(ids), r.choice([1, 20, 120])))),
        lambda: nested(r),
    ]
    if depth:
        kinds += [lambda: filters(r, ids, depth - 1)] * 3
    return r.choice(kinds)()


def filters(r, ids, depth=2):
    """A filter with at least one clause; no clause is empty."""
    made = {}
    for clause in r.sample(["must", "should", "must_not", "min_should"], r.choice([1, 1, 2, 3])):
        conditions = [condition(r, ids, depth) for _ in range(r.choice([1, 1, 2, 3]))]
        if clause == "min_should":
            made[clause] = m.MinShould(conditions=conditions, min_count=r.randint(1, len(conditions)))
        else:
            made[clause] = conditions
    return m.Filter(**made)


def maybe(r, ids, share=0.5):
    return filters(r, ids) if r.random() < share else None
