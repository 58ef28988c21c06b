"""Filters as qdrant-client's brute-force local mode decides them, for a comparison with ours.

    pip install qdrant-client==1.20.0
    python tests/peers/filter_oracle.py --seed 1 --worlds 3 --filters 150 > tests/golden/filters.jsonl
    NEARKIN_FILTER_CASES=FILE cargo test --lib another_implementation

Writes a line {"payloads": [...]} and then lines {"filter": ..., "passing": [slots]}. Left out, because we differ on
purpose: see DIFFERENT below.
"""
import argparse
import json
import random
import uuid

from qdrant_client.http import models
from qdrant_client.local.payload_filters import check_filter, validate_filter

WORDS = ["red", "Red", "", "red blue", "blue, red!", "green-red_blue", "straße ÄRGER", "数据 库", "x2",
         "550e8400-e29b-41d4-a716-446655440000", "550E8400-E29B-41D4-A716-446655440000",
         "2000-05-31T12:00:00Z", "2000-05-31 14:00:00+02:00", "2000-05-31 14:00:00 +0200", "2000-05-31T14:00:00+02",
         "2001-01-01", "2000-05-31T12:00", " 2000-05-31 12:00:00 UTC", "1999-12-31T23:59:59.999999999",
         "2000-13-01", "2000-05-31T12", "5"]
# DIFFERENT: whole numbers past 64 bits are floats to us and refused by the server; %Y-%m-%dT24:00 and the like are
# dates to neither. Everything else is generated.
NUMBERS = [0, -0.0, 0.5, 5.0, 5, 2.0**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63), 2**64 - 1, 2**63, 1e300, -1e300]
PATHS = ["a", "a", "b", "b", "a.b", "b.a", "a[]", "a[].b", "b[].a", "a[0]", "a[1].a", '"x y"', "c", "a[][]"]


def point_id(slot):
    """The ids that the test gives its points; every third point has the vector `v`."""
    return slot * 7 if slot % 2 == 0 else str(uuid.UUID(int=slot << 90 | 5))


def number(r):
    return r.choice(NUMBERS) if r.random() < 0.3 else r.choice([r.randint(-3, 6), r.randint(0, 40) / 8])


def degrees(r, most):
    return r.choice([most, -most, round(r.uniform(-most, most), 3), round(r.uniform(-most, most), 3)])


def place(r):
    if r.random() < 0.1:
        return r.choice([{"lat": 95.0, "lon": 500}, {"lat": "5", "lon": 5}, {"lat": 5}, {"lat": True, "lon": 1}])
    return {"lat": degrees(r, 90), "lon": degrees(r, 180)}


def value(r, depth=3):
    kind = r.randrange(9 if depth else 6)
    if kind == 0:
        return None
    if kind == 1:
        return r.random() < 0.5 if r.random() < 0.5 else place(r)
    if kind < 4:
        return number(r)
    if kind < 6:
        return r.choice(WORDS)
    if kind < 8:
        return [value(r, depth - 1) for _ in range(r.randrange(4))]
    return payload(r, depth - 1)


def payload(r, depth=3):
    return {r.choice(["a", "b", "x y"]): value(r, depth) for _ in range(r.randrange(4))}


def bounds(r, bound):
    return {r.choice(["gt", "gte", "lt", "lte"]): bound() for _ in range(r.randint(1, 3))}


def match(r):
    return r.choice([
        lambda: {"value": r.choice(WORDS)},
        lambda: {"value": r.randint(-3, 6)},
        lambda: {"value": r.choice([2**63 - 1, -(2**63), 2**53 + 1])},
        lambda: {"value": r.random() < 0.5},
        lambda: {r.choice(["any", "except"]): [r.choice(WORDS) for _ in range(r.randrange(4))]},
        lambda: {r.choice(["any", "except"]): [r.randint(-3, 10) for _ in range(r.choice([1, 2, 12]))]},
        lambda: {"text": r.choice(WORDS)},
        lambda: {"text_any": r.choice(WORDS)},
        lambda: {"phrase": r.choice(WORDS)},
    ])()


def ring(r):
    points = [{"lat": round(r.uniform(-90, 90), 2), "lon": round(r.uniform(-180, 180), 2)} for _ in range(4)]
    return {"points": points + points[:1]}


def condition(r, depth):
    def geo():
        point = {"lat": degrees(r, 90), "lon": degrees(r, 180)}
        return r.choice([
            {"geo_bounding_box": {"top_left": point, "bottom_right": {"lat": degrees(r, 90), "lon": degrees(r, 180)}}},
            {"geo_radius": {"center": point, "radius": 3.0 * 10 ** r.randrange(8)}},
            {"geo_polygon": {"exterior": ring(r), "interiors": [ring(r)] * r.randrange(2)}},
        ])

    key = {"key": r.choice(PATHS)}
    kinds = [
        lambda: key | {"match": match(r)},
        lambda: key | {"match": match(r)},
        lambda: key | {"match": match(r)},
        lambda: key | {"range": bounds(r, lambda: float(number(r)))},
        lambda: key | {"range": bounds(r, lambda: r.choice(["2000-05-31T12:00:00Z", "2000-01-01T00:00:00Z"]))},
        lambda: key | {"values_count": bounds(r, lambda: r.randrange(4))},
        lambda: key | {r.choice(["is_empty", "is_null"]): r.random() < 0.5},
        lambda: key | geo(),
        lambda: {r.choice(["is_empty", "is_null"]): key},
        lambda: {"has_id": [point_id(r.randrange(120)) for _ in range(r.randrange(40))]},
        lambda: {"has_vector": "v"},
    ]
    if depth:
        kinds += [lambda: {"nested": key | {"filter": filters(r, depth - 1)}}, lambda: filters(r, depth - 1)] * 2
    return r.choice(kinds)()


def filters(r, depth=2):
    made = {}
    for _ in range(r.randint(1, 3)):
        conditions = [condition(r, depth) for _ in range(r.choice([0, 1, 1, 2, 3]))]
        if r.random() < 0.15:
            made["min_should"] = {"conditions": conditions, "min_count": r.randint(1, 3)}
        else:
            made[r.choice(["must", "should", "must_not"])] = conditions
    return made


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--worlds", type=int, default=3)
    parser.add_argument("--filters", type=int, default=150)
    args = parser.parse_args()
    r = random.Random(args.seed)
    for _ in range(args.worlds):
        payloads = [payload(r) for _ in range(100)]
        print(json.dumps({"payloads": payloads}, ensure_ascii=False, separators=(",", ":")))
        # What was read back is what both sides see.
        payloads = json.loads(json.dumps(payloads))
        for _ in range(args.filters):
            text = filters(r)
            model = models.Filter.model_validate(text)
            validate_filter(model)
            passing = [
                slot for slot, row in enumerate(payloads)
                if check_filter(model, row, point_id(slot), {"v": slot % 3 == 0})
            ]
            case = {"filter": text, "passing": passing}
            print(json.dumps(case, ensure_ascii=False, separators=(",", ":")))


if __name__ == "__main__":
    main()
