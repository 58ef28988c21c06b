"""Scores the clusters of one side against exact truth made by truth.py.

    score.py TRUTH.npz labels.json             clusters: {"labels": [cluster of each row, -1 alone]}
    score.py TRUTH.npz OUT --nearkin           the output folder of `nearkin dedup` of one file

Prints one JSON object. With t the threshold and "flagged" = in a cluster of two or more:

    record_recall     of the records that have a neighbour with J >= t, the share flagged
    record_precision  of the flagged records, the share that have such a neighbour
    pair_recall       of the pairs with J >= t, the share whose two records share a cluster
    in_cluster        of all pairs of records that share a cluster, the share with J >= t
    removed           records less clusters: what is deleted when one of each cluster stays
    bands             share flagged of the records whose best neighbour lies in each band

For nearkin the clusters are those of dropped.jsonl: a dropped record's own, and the kept record that
it names. A kept record whose near duplicates were all dropped in favour of others is not in there,
although nearkin has put it in their cluster; --annotated ROWS.jsonl (the output of a run with
--annotate) tells, and is then what is scored, with the figures of dropped.jsonl as `by_dropped`.
Also scored is what it promises: no dropped record names a kept record that was itself dropped,
every dropped record has J >= t with the kept record it names, the similarity it reports is the
true one, and no pair with J >= t is left with both records kept.
"""

import argparse
import json
import os

import numpy as np

BANDS = {
    "1": (1.0, 2.0),
    ".95-1": (0.95, 1.0),
    ".9-.95": (0.9, 0.95),
    ".85-.9": (0.85, 0.9),
    ".8-.85": (0.8, 0.85),
}


class Truth:
    """All pairs above the floor, each record's best neighbour, and look-up of any one pair."""

    def __init__(self, path):
        data = np.load(path)
        self.n, self.lens = int(data["n"]), data["lens"]
        self.i, self.j, self.s = data["i"].astype(np.int64), data["j"].astype(np.int64), data["s"]
        self.best = np.zeros(self.n, np.float32)
        np.maximum.at(self.best, self.i, self.s)
        np.maximum.at(self.best, self.j, self.s)
        self.order = np.argsort(self.i * self.n + self.j, kind="stable")
        self.sorted_keys = (self.i * self.n + self.j)[self.order]

    def similarity(self, a, b):
        """Similarity of the pairs (a[k], b[k]); 0 below the truth's floor."""
        a, b = np.asarray(a, np.int64), np.asarray(b, np.int64)
        wanted = np.minimum(a, b) * self.n + np.maximum(a, b)
        at = np.searchsorted(self.sorted_keys, wanted)
        at = np.minimum(at, len(self.sorted_keys) - 1)
        return np.where(self.sorted_keys[at] == wanted, self.s[self.order[at]], 0.0)


def share(part, whole):
    return round(float(part) / float(whole), 4) if whole else None


def clusters(labels, n):
    """Labels without -1 (every record that is alone has its own) and the size of each one's."""
    labels = np.asarray(labels, np.int64)
    if len(labels) != n:
        raise SystemExit(f"expected a label for each of {n} rows, got {len(labels)}")
    alone = labels < 0
    labels = np.where(alone, labels.max(initial=0) + 1 + np.arange(n), labels)
    _, member_of, count = np.unique(labels, return_inverse=True, return_counts=True)
    return member_of, count


def score_labels(truth, labels, threshold):
    member_of, count = clusters(labels, truth.n)
    flagged = count[member_of] > 1
    near = truth.best >= threshold
    high = truth.s >= threshold
    together = member_of[truth.i] == member_of[truth.j]
    in_cluster = int((count * (count - 1) // 2).sum())
    inside = (truth.best[:, None] >= [low for low, _ in BANDS.values()]) & (
        truth.best[:, None] < [high for _, high in BANDS.values()]
    )
    return {
        "records": truth.n,
        "truth_records": int(near.sum()),
        "truth_pairs": int(high.sum()),
        "flagged": int(flagged.sum()),
        "removed": int(truth.n - len(count)),
        "record_recall": share((flagged & near).sum(), near.sum()),
        "record_precision": share((flagged & near).sum(), flagged.sum()),
        "pair_recall": share((together & high).sum(), high.sum()),
        "in_cluster_pairs": in_cluster,
        "in_cluster": share((together & high).sum(), in_cluster),
        "in_cluster_half": share((together & (truth.s >= 0.5)).sum(), in_cluster),
        "largest_cluster": int(count.max()),
        "bands": {
            name: share((flagged & inside[:, k]).sum(), inside[:, k].sum())
            for k, name in enumerate(BANDS)
        },
        "flagged_below_floor": int((flagged & (truth.best == 0)).sum()),
    }


def read_dropped(folder):
    """The lines of dropped.jsonl; refuses an output made from more than one file."""
    with open(os.path.join(folder, "dropped.jsonl"), "rb") as lines:
        dropped = [json.loads(line) for line in lines]
    sources = {one["source"] for one in dropped} | {one["kept_source"] for one in dropped}
    if len(sources) > 1:
        raise SystemExit(f"expected the output of one input file, found {sorted(sources)}")
    return dropped


def nearkin_labels(dropped, n):
    """A label for each row: the cluster of a dropped one, and of the kept one that it names."""
    number_of, labels = {}, np.full(n, -1, np.int64)
    for one in dropped:
        number = number_of.setdefault(one["cluster"], len(number_of))
        for row in (one["line"] - 1, one["kept_line"] - 1):
            if labels[row] not in (-1, number):
                raise SystemExit(f"row {row + 1} is in two clusters")
            labels[row] = number
    return labels


def annotated_labels(path, key, n):
    """Labels from a run with --annotate, which tells kept records' clusters too."""
    with open(path, "rb") as lines:
        found = [json.loads(line).get(key) for line in lines]
    if len(found) != n:
        raise SystemExit(f"expected {n} annotated records in {path}, got {len(found)}")
    number_of = {}
    return [-1 if one is None else number_of.setdefault(one, len(number_of)) for one in found]


def score_promise(truth, dropped, threshold):
    """Whether every dropped record has a kept one that is near enough, and is told so."""
    lost = np.array([one["line"] - 1 for one in dropped], np.int64)
    kept = np.array([one["kept_line"] - 1 for one in dropped], np.int64)
    told = np.array([1.0 if one["similarity"] is None else one["similarity"] for one in dropped])
    wordless = (truth.lens[lost] == 0) & (truth.lens[kept] == 0)  # equal texts, but no shingles
    true = np.where(wordless, 1.0, truth.similarity(lost, kept))
    return {
        "dropped": len(dropped),
        "dropped_twice": int(len(lost) - len(np.unique(lost))),
        "kept_was_dropped": int(np.isin(kept, lost).sum()),
        "dropped_precision": share((true >= threshold).sum(), len(true)),
        "lowest_similarity": round(float(true.min(initial=1.0)), 4),
        "worst_error_of_similarity": round(float(np.abs(true - told).max(initial=0.0)), 6),
        "near_pairs_left": int(left_over(truth, lost, threshold)),
    }


def left_over(truth, lost, threshold):
    """Pairs with J >= t of which neither record was dropped."""
    gone = np.zeros(truth.n, bool)
    gone[lost] = True
    return ((truth.s >= threshold) & ~gone[truth.i] & ~gone[truth.j]).sum()


def main():
    parser = argparse.ArgumentParser(description="score clusters against exact truth")
    parser.add_argument("truth")
    parser.add_argument("result")
    parser.add_argument("--nearkin", action="store_true", help="RESULT is an output folder")
    parser.add_argument("--annotated", help="with --nearkin: JSONL of every row, with clusters")
    parser.add_argument("--cluster-key", default="nearkin_cluster")
    parser.add_argument("--threshold", type=float, default=0.8)
    args = parser.parse_args()
    truth = Truth(args.truth)
    if args.nearkin:
        dropped = read_dropped(args.result)
        result = score_labels(truth, nearkin_labels(dropped, truth.n), args.threshold)
        if args.annotated:
            labels = annotated_labels(args.annotated, args.cluster_key, truth.n)
            result = {**score_labels(truth, labels, args.threshold), "by_dropped": result}
        result["promise"] = score_promise(truth, dropped, args.threshold)
    else:
        with open(args.result, "rb") as file:
            result = score_labels(truth, json.load(file)["labels"], args.threshold)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
