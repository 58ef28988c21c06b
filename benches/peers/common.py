"""What every peer script shares: its arguments, its CPU clock and the shape of what it reports.

Each script is called as `SCRIPT FILE --out DIR`, writes what it keeps under DIR, and leaves

    DIR/labels.json  {"labels": [cluster of every input row, -1 = alone]}
    DIR/clock.json   {"clock": {...}, and what the script says of itself}

The clock splits the CPU seconds of the process in three, so that a peer is not charged for
starting Python, importing its libraries or handing its labels to us:

    startup   interpreter and imports
    work      from the first byte of FILE to the last byte of the output
    labels    turning the peer's clusters into labels.json
"""

import argparse
import json
import os
import resource
import sys


def cpu_seconds():
    """User and system seconds of this process and of the children it has waited for."""
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in (
            resource.getrusage(resource.RUSAGE_SELF),
            resource.getrusage(resource.RUSAGE_CHILDREN),
        )
    )


class Run:
    """One run of one peer; made by `start`, which stops the start-up clock."""

    def __init__(self, argv):
        parser = argparse.ArgumentParser()
        parser.add_argument("file")
        parser.add_argument("--out", required=True)
        args = parser.parse_args(argv)
        self.file = os.path.abspath(args.file)
        self.out = os.path.abspath(args.out)
        os.makedirs(self.out, exist_ok=True)
        self.startup = cpu_seconds()
        self.worked = None

    def path(self, *parts):
        return os.path.join(self.out, *parts)

    def work_done(self):
        """Stops the work clock: call it once the kept records are on disk."""
        self.worked = cpu_seconds()

    def report(self, labels, **facts):
        """Writes labels.json, and clock.json with the clock, the rows removed and `facts`.

        Removed are all but one of each cluster; `facts` are the rows written and the bands.
        """
        with open(self.path("labels.json"), "w", encoding="ascii") as out:
            json.dump({"labels": labels}, out)
        in_clusters = [label for label in labels if label >= 0]
        removed = len(in_clusters) - len(set(in_clusters))
        clock = {
            "startup": self.startup,
            "work": self.worked - self.startup,
            "labels": cpu_seconds() - self.worked,
        }
        with open(self.path("clock.json"), "w", encoding="ascii") as out:
            json.dump({"clock": clock, "removed": removed, **facts}, out)


def start():
    """The run described by the command line; call it after the last import."""
    return Run(sys.argv[1:])


def labels_of_roots(root_of_row):
    """Labels from the root of each row: the root's number, or -1 where no other row shares it."""
    members = {}
    for root in root_of_row:
        members[root] = members.get(root, 0) + 1
    return [root if members[root] > 1 else -1 for root in root_of_row]
