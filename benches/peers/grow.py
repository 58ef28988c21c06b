"""Writes a made-up corpus of any size, as JSONL, from a seed; for sizes no one should ship.

    grow.py OUT --size 20GB [--seed 1] [--with-origin]

Records have `id`, `text` and `source`. Words follow a Zipf law over a made vocabulary; lengths are
log-normal (median near 900 characters, mean near 4,000). Of all records

    20 %  are near duplicates of an earlier one: a share of the words, drawn per record from 0 to
          6 %, is replaced, which is a Jaccard similarity of 5-grams from 1 down to about 0.58
    10 %  repeat an earlier record's text exactly
     1 %  are pages of one of three licences with a few words changed: the giant bucket

Half of the earlier records are taken from the last thousand, half from anywhere before.

Every word is a hash of (record of origin, position), so any record can be made without the ones
before it: memory does not grow with the size. `--with-origin` adds `origin`, the record that the
text was made from, and `edits`, the share, as truth for corpora too large to compare by brute force.
"""

import argparse
import itertools
import re
import sys

import numpy as np

CELL = 16  # bytes of one word with its separator, padded with NUL
TABLE_BITS = 16
TABLE = 1 << TABLE_BITS  # word slots; a word of probability p has about p * TABLE of them
PLACE = np.uint32(0x7F4A7C15)  # odd, so that places differ
N_VOCABULARY = 30_000
BLOCK = 256  # records made at once; part of the format of nothing, free to change
MEDIAN_CHARS, SPREAD, MAX_WORDS = 900, 1.73, 70_000
NEAR, EXACT, LICENCE = 0.20, 0.10, 0.01
MAX_EDITS = 0.06
N_LICENCES, LICENCE_WORDS, LICENCE_EDITS = 3, 220, 0.005
RECENT = 1_000
SOURCES = ("web", "code", "books", "forum")
UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}

FRESH_KIND, NEAR_KIND, EXACT_KIND, LICENCE_KIND = range(4)
# what a hash is used for; each purpose has its own stream of numbers
KIND, ANCESTOR, REACH, LENGTH_A, LENGTH_B, TEXT, SOURCE, WHICH = range(8)
EDIT_SHARE, EDITS, ROUNDING = range(8, 11)


def mix64(x):
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def mix32(x):
    """Mixes a uint32 array in place."""
    x ^= x >> np.uint32(16)
    x *= np.uint32(0x7FEB352D)
    x ^= x >> np.uint32(15)
    x *= np.uint32(0x846CA68B)
    x ^= x >> np.uint32(16)
    return x


def keys(seed, records, purpose):
    """One 64-bit number per record and purpose."""
    salt = np.uint64((seed * 0x9E3779B97F4A7C15 + purpose * 0xD1B54A32D192ED03) % 2**64)
    return mix64(mix64(records.astype(np.uint64) + np.uint64(1)) ^ salt)


def uniform(seed, records, purpose):
    """One number in [0, 1) per record and purpose."""
    return (keys(seed, records, purpose) >> np.uint64(11)).astype(np.float64) / 2**53


def make_words(rng):
    """The vocabulary, most frequent first: words of 2 to 12 letters, some beyond ASCII."""
    onset = "b c d f g h k l m n p r s t v w st tr br pl ch sh".split()
    core = "a e i o u ai ea ou".split() * 3 + ["é", "ü", "я"]
    words, seen = [], set()
    while len(words) < N_VOCABULARY:
        # frequent words are short: one syllable at first, up to four later
        n_syllables = 1 + min(3, int(rng.integers(0, 2 + len(words) // 400)))
        word = "".join(
            onset[rng.integers(len(onset))] + core[rng.integers(len(core))]
            for _ in range(n_syllables)
        )
        if word not in seen and len(word.encode()) <= 12:
            seen.add(word)
            words.append(word)
    return words


def word_table(seed):
    """[TABLE, 2] uint64: padded cells; a uniform row of it is a word by Zipf's law."""
    rng = np.random.default_rng(seed)
    words = make_words(rng)
    weight = 1 / np.arange(1, N_VOCABULARY + 1)
    ends = np.searchsorted(np.cumsum(weight / weight.sum()), rng.random(TABLE))
    marks = rng.choice([" ", ", ", ". ", ".\\n"], TABLE, p=[0.88, 0.06, 0.05, 0.01])
    cells = b"".join(
        (words[word] + mark).encode().ljust(CELL, b"\0")
        for word, mark in zip(np.minimum(ends, N_VOCABULARY - 1), marks)
    )
    return np.frombuffer(cells, np.uint64).reshape(TABLE, CELL // 8)


def cells_of(text):
    """A fixed piece of a record as whole cells."""
    data = text.encode()
    data = data.ljust(-(-len(data) // CELL) * CELL, b"\0")
    return np.frombuffer(data, np.uint64).reshape(-1, CELL // 8)


def digits(numbers, width=12):
    """[n, 2] uint64: each number as one cell of `width` digits."""
    cell = np.zeros((len(numbers), CELL), np.uint8)
    for at in range(width - 1, -1, -1):
        numbers, cell[:, at] = np.divmod(numbers, 10)
    cell[:, :width] += ord("0")
    return cell.view(np.uint64)


class Maker:
    """Makes blocks of records; everything it knows comes from the seed."""

    def __init__(self, seed, with_origin):
        self.seed, self.with_origin = seed, with_origin
        self.table = word_table(seed)
        sample = self.table[np.random.default_rng(seed).integers(0, TABLE, 10_000)]
        self.chars_per_word = np.count_nonzero(sample.view(np.uint8)) / len(sample)
        tails = [f'","source":"{source}"'.ljust(2 * CELL, "\0") for source in SOURCES]
        self.tails = np.stack([cells_of(tail) for tail in tails])

    def kinds(self, records):
        u = uniform(self.seed, records, KIND)
        edges = np.cumsum([NEAR, EXACT, LICENCE])
        return np.array([NEAR_KIND, EXACT_KIND, LICENCE_KIND, FRESH_KIND])[
            np.searchsorted(edges, u, side="right")
        ]

    def origins(self, records):
        """The fresh or licence record that each one's text comes from: itself, or an ancestor."""
        origin = records.copy()
        while True:
            kind = self.kinds(origin)
            copies = ((kind == NEAR_KIND) | (kind == EXACT_KIND)) & (origin > 0)
            if not copies.any():
                return origin
            child = origin[copies]
            reach = np.where(
                uniform(self.seed, child, REACH) < 0.5, np.minimum(child, RECENT), child
            )
            back = 1 + (uniform(self.seed, child, ANCESTOR) * reach).astype(np.int64)
            origin[copies] = child - back

    def lengths(self, origin):
        """Words of each text, from two uniform numbers by Box and Muller."""
        radius = np.sqrt(-2 * np.log(1 - uniform(self.seed, origin, LENGTH_A)))
        normal = radius * np.cos(2 * np.pi * uniform(self.seed, origin, LENGTH_B))
        words = MEDIAN_CHARS / self.chars_per_word * np.exp(SPREAD * normal)
        return np.clip(words, 8, MAX_WORDS).astype(np.int64)

    def plan(self, records):
        """(key of the text, words, share of edits, origin) of each record."""
        origin, kind = self.origins(records), self.kinds(records)
        licence = self.kinds(origin) == LICENCE_KIND
        which = (uniform(self.seed, origin, WHICH) * N_LICENCES).astype(np.int64)
        text = keys(self.seed, np.where(licence, -1 - which, origin), TEXT)
        words = np.where(licence, LICENCE_WORDS, self.lengths(origin))
        edits = np.where(kind == NEAR_KIND, uniform(self.seed, records, EDIT_SHARE) * MAX_EDITS, 0)
        edits = np.where(kind == LICENCE_KIND, LICENCE_EDITS, edits)
        return text, words, edits, origin

    def table_rows(self, records, text, words, edits):
        """The word of every position of every record, as rows of the table."""
        starts = np.concatenate([[0], np.cumsum(words)[:-1]])
        # hash(key, place in the record): the record's start is taken off its key, so that one
        # running position serves the whole block
        low = text.astype(np.uint32) - starts.astype(np.uint32) * PLACE
        state = np.arange(words.sum(), dtype=np.uint32)
        state *= PLACE
        state += np.repeat(low, words)
        state = mix32(state)
        state ^= np.repeat((text >> np.uint64(32)).astype(np.uint32), words)
        state = mix32(state)
        self.edit(state, starts, records, words, edits)
        state >>= np.uint32(32 - TABLE_BITS)
        return state

    def edit(self, state, starts, records, words, edits):
        """Replaces a share `edits` of each record's words, at places drawn from its number."""
        count = (words * edits + uniform(self.seed, records, ROUNDING)).astype(np.int64)
        owner = np.repeat(np.arange(len(records)), count)
        draw = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
        number = mix64(keys(self.seed, records, EDITS)[owner] + draw.astype(np.uint64))
        place = (number >> np.uint64(32)) * words[owner].astype(np.uint64) >> np.uint64(32)
        # the low half is the new word's hash: rows of the table are taken from its top bits
        state[starts[owner] + place.astype(np.int64)] = number.astype(np.uint32)

    def block(self, number):
        """The bytes of block `number`: whole records, one a line."""
        records = np.arange(number * BLOCK, (number + 1) * BLOCK, dtype=np.int64)
        text, words, edits, origin = self.plan(records)
        rows = self.table_rows(records, text, words, edits)
        head, middle, end = cells_of('{"id":"grown-'), cells_of('","text":"'), cells_of("}\n")
        source = (uniform(self.seed, records, SOURCE) * len(SOURCES)).astype(np.int64)
        columns = [self.tails[source, 0], self.tails[source, 1]]
        if self.with_origin:
            columns += self.origin_columns(origin, edits)
        ends = np.stack([*columns, np.repeat(end, BLOCK, axis=0)], axis=1)
        fixed = 3 + ends.shape[1]
        cells = np.empty((len(rows) + BLOCK * fixed, CELL // 8), np.uint64)
        at = np.concatenate([[0], np.cumsum(words + fixed)])
        ids = digits(records)
        taken = 0
        for k in range(BLOCK):
            start, stop, count = at[k], at[k + 1], words[k]
            cells[start], cells[start + 1], cells[start + 2] = head[0], ids[k], middle[0]
            body = cells[start + 3 : start + 3 + count]
            np.take(self.table, rows[taken : taken + count], axis=0, out=body, mode="clip")
            cells[start + 3 + count : stop] = ends[k]
            taken += count
        return cells.tobytes().translate(None, b"\0")

    @staticmethod
    def origin_columns(origin, edits):
        """Cells for the origin, as an id, and for the share of edits, with six decimals."""

        def quote(text):
            return np.repeat(cells_of(text), BLOCK, axis=0)

        return [
            quote(',"origin":"'),
            quote("grown-"),
            digits(origin),
            quote('","edits":0.'),
            digits(np.rint(edits * 1e6).astype(np.int64), width=6),
        ]


def size(text):
    match = re.fullmatch(r"([0-9.]+)\s*([KMG]i?B)?", text, re.IGNORECASE)
    if not match:
        raise argparse.ArgumentTypeError(f"expected a size such as 20GB or 512MiB, got {text!r}")
    return int(float(match[1]) * UNITS[(match[2] or "").upper()])


def main():
    parser = argparse.ArgumentParser(description="write a made-up JSONL corpus from a seed")
    parser.add_argument("out")
    parser.add_argument("--size", type=size, required=True, help="at least this many bytes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--with-origin", action="store_true")
    args = parser.parse_args()
    written = n_records = 0
    with open(args.out, "wb", buffering=0) as out:
        for data in map(Maker(args.seed, args.with_origin).block, itertools.count()):
            if written + len(data) > args.size:
                data = data[: data.index(b"\n", max(0, args.size - written - 1)) + 1]
            out.write(data)
            written += len(data)
            n_records += data.count(b"\n")
            if written >= args.size:
                break
    print(f"{n_records} records, {written} bytes", file=sys.stderr)


if __name__ == "__main__":
    main()
