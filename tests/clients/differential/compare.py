"""Whether two answers say the same: each function names the first difference, or gives None."""
import math

from qdrant_client.models import SparseVector

RELATIVE, ABSOLUTE, VECTOR = 1e-4, 1e-6, 1e-5


def close(a, b):
    if a is None or b is None or isinstance(a, str) or isinstance(b, str):
        return a == b
    return math.isclose(a, b, rel_tol=RELATIVE, abs_tol=ABSOLUTE)


def exact(ours, theirs, what="answer"):
    """JSON values that are the same; whole numbers and floats of one value are."""
    if isinstance(ours, dict) and isinstance(theirs, dict) and ours.keys() == theirs.keys():
        return next(filter(None, (exact(ours[key], theirs[key], f"{what}.{key}") for key in ours)), None)
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        each = enumerate(zip(ours, theirs))
        return next(filter(None, (exact(a, b, f"{what}[{at}]") for at, (a, b) in each)), None)
    is_same = ours == theirs and isinstance(ours, bool) == isinstance(theirs, bool)
    return None if is_same else f"{what}: ours {ours}, theirs {theirs}"


def same_vectors(a, b):
    if isinstance(a, SparseVector) and isinstance(b, SparseVector):
        return a.indices == b.indices and same_vectors(a.values, b.values)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same_vectors(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(same_vectors(x, y) for x, y in zip(a, b))
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=VECTOR, abs_tol=VECTOR)
    return a == b


def content(ours, theirs):
    """Payload and vectors of one point."""
    if problem := exact(ours.payload, theirs.payload, f"payload of {ours.id}"):
        return problem
    if not same_vectors(ours.vector, theirs.vector):
        return f"vectors of {ours.id}: ours {ours.vector}, theirs {theirs.vector}"
    return None


def different_ids(ours, theirs):
    a, b = [point.id for point in ours], [point.id for point in theirs]
    only_a, only_b = [i for i in a if i not in b], [i for i in b if i not in a]
    return f"only ours {only_a}, only theirs {only_b}" if only_a or only_b else f"order: ours {a}, theirs {b}"


def score(point):
    """What a list is in the order of."""
    order = getattr(point, "order_value", None)
    return order if order is not None else getattr(point, "score", None)


def ranked(ours, theirs, whole=None):
    """Lists in the order of scores. Among equal scores any order is right, and of those at the end any part: `whole` gives the
    list without a limit, in which each point has to have the score that it has in ours."""
    if len(ours) != len(theirs):
        return f"{len(ours)} points, theirs {len(theirs)}"
    for place, (a, b) in enumerate(zip(ours, theirs)):
        if not close(score(a), score(b)):
            return f"place {place}: ours {a.id} {score(a)}, theirs {b.id} {score(b)}"
    known = {(b.id, place_of(b)): b for b in theirs}
    if any(a.id != b.id for a, b in zip(ours, theirs)):
        if whole is None:
            return different_ids(ours, theirs)
        known |= {(b.id, place_of(b)): b for b in whole()}
    if len({(a.id, place_of(a)) for a in ours}) != len(ours):
        return f"a point is there twice: {[a.id for a in ours]}"
    for a in ours:
        b = known.get((a.id, place_of(a)))
        if b is None or not close(score(a), score(b)):
            return f"point {a.id}: ours {score(a)}, theirs {b and score(b)}"
        if problem := content(a, b):
            return problem
    return None


def place_of(point):
    """In the order of a field a point comes once for each of its values."""
    return getattr(point, "order_value", None)


def in_order(ours, theirs):
    """Lists in one right order."""
    if [a.id for a in ours] != [b.id for b in theirs]:
        return different_ids(ours, theirs)
    return next(filter(None, map(content, ours, theirs)), None)


def as_set(ours, theirs):
    """Lists in no order."""
    return in_order(sorted(ours, key=lambda a: str(a.id)), sorted(theirs, key=lambda b: str(b.id)))


def page(ours, theirs):
    """Pages of a scroll, with where the next begins."""
    return exact(ours[1], theirs[1], "next offset") or in_order(ours[0], theirs[0])


def grouped(ours, theirs, whole):
    """Groups in the order of their best points; those whose best points have the same score may change places."""
    ours, theirs = ours.groups, theirs.groups
    if len(ours) != len(theirs):
        return f"{len(ours)} groups, theirs {len(theirs)}"
    known = {group.id: group for group in whole().groups}
    if len({group.id for group in ours}) != len(ours):
        return f"a group is there twice: {[group.id for group in ours]}"
    for a, b in zip(ours, theirs):
        if not close(score(a.hits[0]), score(b.hits[0])):
            return f"group {a.id} begins with {score(a.hits[0])}, theirs {b.id} with {score(b.hits[0])}"
        if a.id not in known:
            return f"group {a.id} is not in theirs"
        own = known[a.id]
        if problem := ranked(a.hits, own.hits[:len(a.hits)], lambda own=own: own.hits):
            return f"group {a.id}: {problem}"
        if len(a.hits) != len(b.hits) and a.id == b.id:
            return f"group {a.id}: {len(a.hits)} points, theirs {len(b.hits)}"
        if problem := found_lookup(a.lookup, own.lookup):
            return f"group {a.id}: {problem}"
    return None


def found_lookup(ours, theirs):
    if ours is None or theirs is None:
        return None if ours is theirs else f"lookup: ours {ours}, theirs {theirs}"
    return content(ours, theirs)


def pairs(ours, theirs):
    """Pairs of a matrix."""
    ours, theirs = ({(p.a, p.b): p.score for p in each.pairs} for each in (ours, theirs))
    if ours.keys() != theirs.keys():
        return f"pairs: only ours {ours.keys() - theirs.keys()}, only theirs {theirs.keys() - ours.keys()}"
    wrong = {pair: (ours[pair], theirs[pair]) for pair in ours if not close(ours[pair], theirs[pair])}
    return f"scores: {wrong}" if wrong else None


def offsets(ours, theirs):
    """The same matrix by places of its ids."""
    def cells(answer):
        rows = zip(answer.offsets_row, answer.offsets_col, answer.scores)
        return {(answer.ids[row], answer.ids[col]): score for row, col, score in rows}
    ours_cells, theirs_cells = cells(ours), cells(theirs)
    if set(ours.ids) != set(theirs.ids) or ours_cells.keys() != theirs_cells.keys():
        return f"ids: ours {ours.ids}, theirs {theirs.ids}"
    wrong = {c for c in ours_cells if not close(ours_cells[c], theirs_cells[c])}
    return f"scores of {wrong}" if wrong else None
