"""Labelled prompts for `nearkin cache calibrate` and `nearkin cache replay`: python replay_prompts.py DATA OUT

DATA has banking77/{train,test}.csv and clinc150/{data_full,domains}.json. OUT gets calibrate.jsonl and prompts.jsonl, two halves of both sets
by chance, and traps.jsonl. What is out of scope comes in every domain and has no intent."""
import csv
import json
import random
import sys
from pathlib import Path

FLIPS = Path(__file__).parents[2] / "tests/it/fixtures/guard/traps.txt"


def prompts(data):
    for half in ("train", "test"):
        with open(data / f"banking77/{half}.csv", newline="") as file:
            for row in csv.DictReader(file):
                yield row["text"].strip(), row["category"], "banking77"
    domains = json.loads((data / "clinc150/domains.json").read_text())
    domain_of = {intent: domain for domain, intents in domains.items() for intent in intents}
    names = list(domains)
    for rows in json.loads((data / "clinc150/data_full.json").read_text()).values():
        for i, (text, intent) in enumerate(rows):
            yield (text, None, names[i % len(names)]) if intent == "oos" else (text, intent, domain_of[intent])


def main(data, out):
    out.mkdir(parents=True, exist_ok=True)
    rng = random.Random(42)
    halves = ([], [])
    for text, intent, category in prompts(data):
        halves[rng.random() < 0.5].append({"text": text, "intent": intent, "category": category})
    for name, half in zip(("calibrate", "prompts"), halves):
        (out / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in half))
    pairs = [line.split(" | ") for line in FLIPS.read_text().splitlines()]
    (out / "traps.jsonl").write_text("".join(json.dumps({"a": a, "b": b, "same": False}) + "\n" for _, a, b in pairs))
    print({"calibrate": len(halves[0]), "prompts": len(halves[1]), "traps": len(pairs)})


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
