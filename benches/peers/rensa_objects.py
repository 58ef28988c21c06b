"""rensa 0.5: R-MinHash objects, 128 slots, 16 bands of 8 rows, every collision joined.

rensa is a library, so this is the caller a user would write, with the fastest ordinary pieces:
orjson for the lines, `str.lower` and `str.split` for the words, one `zip` for the 5-grams, the
batch calls where rensa has them, and a second pass that copies the kept lines unchanged.
"""

import orjson
from rensa import RMinHash, RMinHashLSH

import common

N_PERM, N_BANDS, THRESHOLD, SEED = 128, 16, 0.8, 42
BATCH = 256


def shingles(text):
    words = text.lower().split()
    if len(words) < 5:
        return [" ".join(words)] if words else []
    return [" ".join(gram) for gram in zip(words, words[1:], words[2:], words[3:], words[4:])]


def sketches(path):
    """(row, sketch) of every record that has words. Records without words would all be equal."""
    rows, sets, row = [], [], 0
    with open(path, "rb") as lines:
        for line in lines:
            tokens = shingles(orjson.loads(line)["text"])
            if tokens:
                rows.append(row)
                sets.append(tokens)
            row += 1
            if len(sets) == BATCH:
                yield rows, RMinHash.from_token_sets(sets, N_PERM, SEED), row
                rows, sets = [], []
    yield rows, RMinHash.from_token_sets(sets, N_PERM, SEED) if sets else [], row


def find(parent, row):
    while parent[row] != row:
        parent[row] = parent[parent[row]]
        row = parent[row]
    return row


def main():
    run = common.start()
    index = RMinHashLSH(THRESHOLD, N_PERM, N_BANDS)
    rows, hashes, n_rows = [], [], 0
    for batch_rows, batch, n_rows in sketches(run.file):
        index.insert_pairs(list(zip(batch_rows, batch)))
        rows += batch_rows
        hashes += batch
    parent = list(range(n_rows))
    for at in range(0, len(rows), 4096):
        found = index.query_all(hashes[at : at + 4096])
        for row, near in zip(rows[at : at + 4096], found):
            for other in near:
                if other < row:
                    a, b = find(parent, row), find(parent, other)
                    parent[max(a, b)] = min(a, b)
    kept = 0
    with open(run.file, "rb") as lines, open(run.path("kept.jsonl"), "wb") as out:
        for row, line in enumerate(lines):
            if parent[row] == row:
                out.write(line)
                kept += 1
    run.work_done()
    labels = common.labels_of_roots([find(parent, row) for row in range(n_rows)])
    run.report(labels, written=kept, bands=f"{N_BANDS}x{N_PERM // N_BANDS}")


if __name__ == "__main__":
    main()
