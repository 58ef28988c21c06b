"""datatrove 0.10: its four MinHash stages in one local process, 14x8, 5-grams, English.

The stages are those of its example `minhash_deduplication.py`: signatures, buckets, clusters,
filter. Each has its own executor with one worker; every stage has one task except the second,
which must have one per bucket. Its defaults stand (spaCy's English words, upper and lower case,
digits, punctuation and accents folded, xxhash 64), but output is not compressed, which is in its
favour. The cluster stage also writes cluster numbers, a few kilobytes, to be scored.
"""

import os
import struct

import orjson
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import (
    MinhashConfig,
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
    MinhashDedupSignature,
)
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers.jsonl import JsonlWriter
from datatrove.utils.typeshelper import Languages

import common


def stages(run, config):
    """The pipeline of each stage and its number of tasks, in order."""

    def reader():
        folder, name = os.path.split(run.file)
        return JsonlReader(folder, glob_pattern=name, compression=None)

    sign = MinhashDedupSignature(run.path("signatures"), config=config, language=Languages.english)
    match = MinhashDedupBuckets(run.path("signatures"), run.path("buckets"), config=config)
    join = MinhashDedupCluster(
        run.path("buckets"), run.path("clusters"), config=config, save_cluster_id=True
    )
    drop = MinhashDedupFilter(run.path("clusters"))
    write = JsonlWriter(run.path("kept"), compression=None)
    yield [reader(), sign], 1
    yield [match], config.num_buckets
    yield [join], 1
    yield [reader(), drop, write], 1


def labels(run):
    """Labels of every row; datatrove numbers only the records that have text."""
    with open(run.file, "rb") as lines:
        has_text = [bool(orjson.loads(line)["text"]) for line in lines]
    row_of_document = [row for row, text in enumerate(has_text) if text]
    found = [-1] * len(has_text)
    with open(run.path("clusters", "000000.clusters"), "rb") as pairs:
        for document, cluster in struct.iter_unpack("<2I", pairs.read()):
            found[row_of_document[document]] = cluster
    return found


def main():
    run = common.start()
    config = MinhashConfig(n_grams=5, num_buckets=14, hashes_per_bucket=8)
    for number, (pipeline, n_tasks) in enumerate(stages(run, config), start=1):
        LocalPipelineExecutor(
            pipeline=pipeline,
            tasks=n_tasks,
            workers=1,
            logging_dir=run.path("logs", str(number)),
        ).run()
    run.work_done()
    with open(run.path("kept", "00000.jsonl"), "rb") as lines:
        written = sum(1 for _ in lines)
    run.report(labels(run), written=written, bands="14x8")


if __name__ == "__main__":
    main()
