"""A folder of vectors with attributes, queries, filters and exact answers, and how an answer is scored.

    base.npy queries.npy         rows; row number = id
    base.jsonl                   attributes, one object per row
    set.json                     metric, the roles of fields (tenant, cat, set, num), how far off a distance may be (tie), and
                                 whether f32 rows have norm 1 (unit)
    gt/KIND.dist.npy             exact distances at rank 1, 10, 50 and 100 (cosine: 1 - cos, l2: squared), inf if fewer
    gt/KIND.filters.jsonl        the filter of each query: eq, in, has, range, and, or, not; `range` with both ends

`.jsonl` may be `.jsonl.zst`. `generate.py` makes such folders.
"""

import json
import os
import subprocess

import numpy as np

K = 10
# What the distance at rank 10 may be exceeded by, where set.json says nothing: rounding of 32-bit cosines, and less than the
# step of squared distances between whole numbers.
TIE = {"cosine": 1e-6, "l2": 0.5}


def json_lines(path):
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            text = file.read()
    else:
        command = ["zstd", "-dc", path + ".zst"]
        text = subprocess.run(command, check=True, capture_output=True).stdout.decode()
    return [json.loads(line) for line in text.split("\n") if line]


class Attributes:
    """Which rows pass a filter."""

    def __init__(self, rows):
        self.rows = rows
        self.fields = {}

    def field(self, name):
        """The numbers of a field that holds numbers; otherwise the rows of each of its values."""
        if name not in self.fields:
            values = [row[name] for row in self.rows]
            if all(isinstance(value, (int, float)) for value in values):
                self.fields[name] = np.array(values)
            else:
                rows_of = {}
                for row, value in enumerate(values):
                    for one in value if isinstance(value, list) else [value]:
                        rows_of.setdefault(one, []).append(row)
                self.fields[name] = {one: np.array(rows) for one, rows in rows_of.items()}
        return self.fields[name]

    def passing(self, condition):
        """One bool per row."""
        ((operator, operand),) = condition.items()
        if operator in ("and", "or"):
            together = np.logical_and if operator == "and" else np.logical_or
            return together.reduce([self.passing(one) for one in operand])
        if operator == "not":
            return ~self.passing(operand)
        field = self.field(operand[0])
        if operator == "range":
            return (field >= operand[1]) & (field <= operand[2])
        values = operand[1] if operator == "in" else [operand[1]]
        if isinstance(field, np.ndarray):
            return np.isin(field, values)
        passing = np.zeros(len(self.rows), bool)
        for value in values:
            passing[field.get(value, [])] = True
        return passing

    def kind(self, name):
        """The kind of index that nearkin is asked to keep for a field."""
        field = self.field(name)
        if isinstance(field, dict):
            return "keyword"
        return "integer" if np.issubdtype(field.dtype, np.integer) else "float"


def qdrant(condition):
    """A filter in Qdrant's form."""
    def one(condition):
        ((operator, operand),) = condition.items()
        if operator in ("eq", "has"):
            return {"key": operand[0], "match": {"value": operand[1]}}
        if operator == "in":
            return {"key": operand[0], "match": {"any": operand[1]}}
        if operator == "range":
            return {"key": operand[0], "range": {"gte": operand[1], "lte": operand[2]}}
        if operator == "not":
            return {"must_not": [one(operand)]}
        return {"must" if operator == "and" else "should": [one(part) for part in operand]}

    if not condition:
        return {}
    whole = one(condition)
    return {"must": [whole]} if "key" in whole else whole


class Workload:
    """The queries of a set with a filter each, and what is right for them."""

    def __init__(self, vectors, name, filters=None, tenth=None):
        self.vectors, self.name, self.filters = vectors, name, filters
        self.bits, self.matches = None, np.full(vectors.n_queries, len(vectors.rows))
        if filters is not None:
            self.filter_all()
        self.tenth = tenth if tenth is not None else self.exact_tenth()

    def filter_all(self):
        """Fills the bit set of every distinct filter, its number for every query, and the counts."""
        numbers, bits, counts = {}, [], []
        for condition in self.filters:
            text = json.dumps(condition)
            if text not in numbers:
                numbers[text] = len(bits)
                passing = self.vectors.attributes.passing(condition)
                bits.append(np.packbits(passing, bitorder="little"))
                counts.append(int(passing.sum()))
        self.bits, self.which = np.array(bits), np.array([numbers[json.dumps(one)] for one in self.filters])
        self.matches = np.array(counts)[self.which]

    def passing(self, query):
        return np.unpackbits(self.bits[self.which[query]], count=len(self.vectors.rows), bitorder="little").view(bool)

    def exact_tenth(self):
        """Distance of the tenth passing row, by comparing every one."""
        tenth = np.full(self.vectors.n_queries, np.inf)
        for query in range(self.vectors.n_queries):
            slots = np.flatnonzero(self.passing(query)) if self.bits is not None else slice(None)
            near = self.vectors.distances(self.vectors.rows[slots], self.vectors.queries[query])
            if len(near) >= K:
                tenth[query] = np.partition(near, K - 1)[K - 1]
        return tenth

    def score(self, found):
        """Recall@10 by distance, and how many answers are shorter than they could be; `found` is [n_queries, 10] with -1
        where there is no row. Raises ValueError where a row does not pass or stands twice."""
        hits = short = 0
        for query, ids in enumerate(found):
            ids = ids[ids >= 0]
            if len(np.unique(ids)) != len(ids):
                raise ValueError(f"{self.name}, query {query}: a row stands twice in {ids}")
            bits = None if self.bits is None else self.bits[self.which[query]]
            if bits is not None and not (bits[ids >> 3] >> (ids & 7) & 1).all():
                raise ValueError(f"{self.name}, query {query}: a row that does not pass in {ids}")
            near = self.vectors.distances(self.vectors.rows[ids], self.vectors.queries[query])
            hits += int((near <= self.tenth[query] + self.vectors.tie).sum())
            short += len(ids) < min(K, self.matches[query])
        return hits / np.minimum(self.matches, K).sum(), int(short)


class VectorSet:
    def __init__(self, folder, work, n_queries=None):
        """Reads a folder; `work` gets 32-bit copies of the matrices, scaled to norm 1 for cosine."""
        self.folder, self.name = folder, os.path.basename(os.path.normpath(folder))
        with open(f"{folder}/set.json", encoding="utf-8") as file:
            self.about = json.load(file)
        self.metric = self.about["metric"]
        self.tie = self.about.get("tie", TIE[self.metric])
        self.work = os.path.join(work, self.name)
        os.makedirs(self.work, exist_ok=True)
        self.rows_path = self.widened("base")
        self.rows = np.load(self.rows_path, mmap_mode="r")
        self.queries_path = self.widened("queries", n_queries)
        self.queries = np.load(self.queries_path)
        self.n_queries = len(self.queries)
        self._attributes = None

    def widened(self, stem, count=None):
        whole = np.load(f"{self.folder}/{stem}.npy", mmap_mode="r")
        raw = whole[:count]
        as_it_is = self.metric == "l2" or self.about.get("unit")
        if raw.dtype == np.float32 and as_it_is and len(raw) == len(whole):
            return f"{self.folder}/{stem}.npy"
        path = f"{self.work}/{stem}-{len(raw)}.f32.npy"
        if not os.path.exists(path):
            wide = np.lib.format.open_memmap(path + ".part", "w+", np.float32, raw.shape)
            for start in range(0, len(raw), 50_000):
                block = raw[start : start + 50_000].astype(np.float32)
                if self.metric == "cosine":
                    block /= np.linalg.norm(block, axis=1, keepdims=True)
                wide[start : start + 50_000] = block
            wide.flush()
            os.rename(path + ".part", path)
        return path

    @property
    def attributes(self):
        if self._attributes is None:
            self._attributes = Attributes(json_lines(f"{self.folder}/base.jsonl"))
        return self._attributes

    @property
    def payload_path(self):
        plain = f"{self.folder}/base.jsonl"
        return plain if os.path.exists(plain) else plain + ".zst"

    @property
    def tenant_field(self):
        return self.about.get("tenant")

    def indexed(self):
        """The fields that filters name, each with its kind, but for the tenant's."""
        roles = [*(self.about.get("cat") or []), *(self.about.get("set") or []), *(self.about.get("num") or [])]
        return [(name, self.attributes.kind(name)) for name in dict.fromkeys(roles) if name != self.tenant_field]

    def distances(self, rows, query):
        if self.metric == "cosine":
            return 1 - rows.astype(np.float64) @ query.astype(np.float64)
        return ((rows.astype(np.float64) - query.astype(np.float64)) ** 2).sum(axis=1)

    def kinds(self):
        return sorted(name.split(".")[0] for name in os.listdir(f"{self.folder}/gt") if name.endswith(".dist.npy"))

    def workload(self, kind):
        tenth = np.load(f"{self.folder}/gt/{kind}.dist.npy")[: self.n_queries, 1]
        if kind == "all":
            return Workload(self, kind, tenth=tenth)
        lines = json_lines(f"{self.folder}/gt/{kind}.filters.jsonl")[: self.n_queries]
        workload = Workload(self, kind, [line["filter"] for line in lines], tenth)
        counted = np.array([line["matches"] for line in lines])
        if not (counted == workload.matches).all():
            raise ValueError(f"{self.name}, {kind}: filters pass other counts than the set says")
        return workload

    def shared(self, kind, n_filters):
        """The first filters of `kind` handed round among all queries: many queries with one filter."""
        filters = self.workload(kind).filters[:n_filters]
        given = [filters[query % len(filters)] for query in range(self.n_queries)]
        return Workload(self, f"{kind}, {n_filters} filters", given)

    def both_of_two(self, share=0.04):
        """Two conditions on two fields that together pass about `share` of the rows, another pair for every 20th query."""
        if "and4" in self.kinds():
            return self.workload("and4")
        random, each = np.random.default_rng(4), share**0.5
        filters = [self.draw_pair(random, share, each) for _ in range(-(-self.n_queries // 20))]
        return Workload(self, "and4", [filters[query // 20] for query in range(self.n_queries)])

    def draw_pair(self, random, share, each):
        fields = [name for name in self.about.get("num") or []]
        others = [name for name in self.about.get("cat") or [] if name not in fields and name != self.tenant_field]
        for _ in range(1000):
            pair = {"and": [self.draw_range(random, fields, each), self.draw_values(random, others, each)]}
            passing = self.attributes.passing(pair).mean()
            if 0.75 * share <= passing <= 1.25 * share:
                return pair
        raise ValueError(f"{self.name}: no pair of fields passes {share} of the rows")

    def draw_range(self, random, fields, share):
        name = fields[random.integers(len(fields))]
        values = np.sort(self.attributes.field(name))
        start = int(random.random() * (1 - share) * len(values))
        return {"range": [name, float(values[start]), float(values[start + int(share * len(values)) - 1])]}

    def draw_values(self, random, fields, share):
        name = fields[random.integers(len(fields))]
        field = self.attributes.field(name)
        if isinstance(field, dict):
            values, counts = list(field), np.array([len(rows) for rows in field.values()])
        else:
            values, counts = np.unique(field, return_counts=True)
            values = values.tolist()
        taken, total = [], 0
        for at in random.permutation(len(values)):
            if total + counts[at] <= 1.3 * share * len(self.rows):
                taken.append(values[at])
                total += counts[at]
            if total >= 0.8 * share * len(self.rows) or len(taken) == 64:
                break
        return {"in": [name, taken]}
