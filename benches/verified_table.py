#!/usr/bin/env python3
"""Makes the table of src/cache/verified/separated.rs: how far thresholds lie from the middle of the gap, and how steep curves
are, where all similarities at which an entry was wrong lie below all at which it was right.

  python3 benches/verified_table.py        # needs numpy; the same seed gives the same table

Curves: thresholds even in [0.5, 0.95], steepness from 10 to 200, even in its logarithm; similarities even in [0.5, 1].
"""
import numpy as np

SEED = 1
SEPARATED = 20_000  # of each number of observations
NUMBERS = [6, 8, 10, 12, 16, 20, 24, 32, 48, 64, 96, 130]  # the two with which each entry begins included


def main():
    rng = np.random.default_rng(SEED)
    for n in NUMBERS:
        squares, inverse = [], []
        while sum(map(len, squares)) < SEPARATED:
            k = 200_000 // n
            threshold = rng.uniform(0.5, 0.95, (k, 1))
            steepness = np.exp(rng.uniform(np.log(10), np.log(200), (k, 1)))
            s = rng.uniform(0.5, 1, (k, n - 2))
            right = rng.random(s.shape) < 1 / (1 + np.exp(-steepness * (s - threshold)))
            least_right = np.where(right, s, 1).min(1)
            most_wrong = np.where(right, 0, s).max(1)
            is_separated = most_wrong <= least_right
            middle = (least_right + most_wrong) / 2
            squares.append(((middle - threshold[:, 0]) ** 2)[is_separated])
            inverse.append(1 / steepness[is_separated, 0])
        variance = np.concatenate(squares).mean()
        steepness = 1 / np.concatenate(inverse).mean()
        print(f"    ({n}, {variance:.6f}, {steepness:.1f}),")


if __name__ == "__main__":
    main()
