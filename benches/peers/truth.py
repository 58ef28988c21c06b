"""Exact near-duplicate truth of a JSONL file, by comparing every pair that shares a shingle.

    truth.py FILE OUT.npz [--rule nearkin|whitespace] [--floor 0.3]

OUT.npz holds every pair (i < j, rows from 0) whose Jaccard similarity is at least the floor: arrays
`i`, `j`, `s` (float32), and `lens` (shingles of each record) and `n`. The two rules differ only in
what a word is:

    whitespace  lower case, then Python's str.split
    nearkin     each character lower-cased by itself, split at Unicode White_Space, and every
                character of the scripts Han, Hiragana, Katakana, Thai, Lao and Khmer is a word

Shingles are 5 consecutive words; fewer words make one shingle of all of them, no words make none.
No sketch is involved: the intersections come from a sparse matrix product. Words are numbered,
and a shingle is a 64-bit mix of its numbers, so two shingles collide with a chance near 1e-5 on
a corpus of ten million. Memory grows with the shingles (about 60 bytes each).
"""

import argparse

import numpy as np
import orjson
import regex
import scipy.sparse

N_WORDS = 5
WHITE_SPACE = regex.compile(r"\p{White_Space}+")
OWN_WORD = regex.compile(
    r"([\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}"
    r"\p{Script=Thai}\p{Script=Lao}\p{Script=Khmer}])"
)


def words_whitespace(text):
    return text.lower().split()


def words_nearkin(text):
    # str.lower looks at context for one letter only: a capital sigma that ends a word
    text = text.replace("Σ", "σ").lower()
    if not text.isascii():
        text = OWN_WORD.sub(r" \1 ", text)
    return [word for word in WHITE_SPACE.split(text) if word]


RULES = {"whitespace": words_whitespace, "nearkin": words_nearkin}


def mix(state, value):
    """One step of a 64-bit mixer over whole arrays; wraps on purpose."""
    state = (state ^ value) * np.uint64(0x9E3779B97F4A7C15)
    state ^= state >> np.uint64(29)
    state *= np.uint64(0xBF58476D1CE4E5B9)
    return state ^ (state >> np.uint64(32))


def shingle_set(words, number_of):
    """Sorted distinct shingles of one record, as uint64."""
    numbers = np.fromiter(
        (number_of.setdefault(word, len(number_of)) for word in words), np.uint64, len(words)
    )
    width = min(N_WORDS, len(numbers))
    count = len(numbers) - width + 1 if width else 0
    state = np.full(count, width, np.uint64)
    for offset in range(width):
        state = mix(state, numbers[offset : offset + count])
    return np.unique(state)


def shingle_sets(path, words):
    number_of = {}
    with open(path, "rb") as lines:
        for line in lines:
            yield shingle_set(words(orjson.loads(line)["text"]), number_of)


def incidence(sets):
    """Records by shared shingles, one where the record has it, and the size of every set."""
    lens = np.array([len(one) for one in sets], np.int64)
    _, column, uses = np.unique(np.concatenate(sets), return_inverse=True, return_counts=True)
    shared = uses > 1  # a shingle of one record alone is in no intersection
    keep = shared[column]
    row = np.repeat(np.arange(len(sets)), lens)[keep]
    column = (np.cumsum(shared) - 1)[column[keep]]
    ones = np.ones(len(row), np.int32)
    return scipy.sparse.csr_matrix((ones, (row, column)), (len(sets), int(shared.sum()))), lens


def similar_pairs(matrix, lens, floor, block=256):
    """Yields (i, j, s) arrays of the pairs i < j with similarity s of at least `floor`."""
    across = matrix.T.tocsr()
    for start in range(0, len(lens), block):
        product = (matrix[start : start + block] @ across).tocoo()
        i, j, both = product.row.astype(np.int64) + start, product.col, product.data
        upper = j > i
        i, j, both = i[upper], j[upper], both[upper]
        s = both / (lens[i] + lens[j] - both)
        near = s >= floor
        yield i[near], j[near], s[near]


def main():
    parser = argparse.ArgumentParser(description="exact near-duplicate truth of a JSONL file")
    parser.add_argument("file")
    parser.add_argument("out")
    parser.add_argument("--rule", choices=sorted(RULES), default="nearkin")
    parser.add_argument("--floor", type=float, default=0.3)
    args = parser.parse_args()
    matrix, lens = incidence(list(shingle_sets(args.file, RULES[args.rule])))
    i, j, s = map(np.concatenate, zip(*similar_pairs(matrix, lens, args.floor)))
    i, j, s = i.astype(np.int32), j.astype(np.int32), s.astype(np.float32)
    np.savez_compressed(args.out, i=i, j=j, s=s, n=len(lens), lens=lens, rule=args.rule)
    print(f"{len(lens)} records, {len(i)} pairs with J >= {args.floor}, {(s >= 0.8).sum()} >= 0.8")


if __name__ == "__main__":
    main()
