"""Cut a smaller closed set out of large facts and sentences files in the paper's schema.

    python benchmarks/sample_facts.py FACTS SENTENCES FOLDER --facts 240 --sentences 3000

writes FOLDER/facts.jsonl (as many facts of each relation as of any other) and FOLDER/sentences.jsonl
(every sentence annotated with one of them, and distractors), lines unchanged, in their files' order.
A fact that has more gold sentences than ``--gold`` is left out: country of citizenship and its like
would fill the corpus.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import defaultdict
from pathlib import Path
from typing import Any

from proponent.corpus.sources import read_records


def main() -> None:
    """Read, choose, write, say what was chosen."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("facts_file")
    parser.add_argument("sentences_file")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--facts", type=int, default=240)
    parser.add_argument("--sentences", type=int, default=3000)
    parser.add_argument("--gold", type=int, default=8, help="most gold sentences a fact")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    draw = random.Random(given.seed)
    facts = choose_facts([r.fields for _, r in read_records(given.facts_file)], given.facts, given.gold, draw)
    gold = {sentence for fact in facts for sentence in fact["trex_sentences"]}
    sentences = [r.fields for _, r in read_records(given.sentences_file)]
    others = [s["sentence_id"] for s in sentences if s["sentence_id"] not in gold]
    kept = gold | set(draw.sample(others, max(0, given.sentences - len(gold))))
    given.folder.mkdir(parents=True, exist_ok=True)
    write(given.folder / "facts.jsonl", facts)
    write(given.folder / "sentences.jsonl", [s for s in sentences if s["sentence_id"] in kept])
    relations = len({fact["predicate_uri"] for fact in facts})
    print(f"{len(facts)} facts of {relations} relations, {len(gold)} gold of {len(kept)} sentences")


def choose_facts(
    facts: list[dict[str, Any]], wanted: int, most_gold: int, draw: random.Random
) -> list[dict[str, Any]]:
    """As many facts of each relation, in their file's order."""
    by_relation: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for fact in facts:
        if 1 <= len(fact["trex_sentences"]) <= most_gold:
            by_relation[fact["predicate_uri"]].append(fact)
    share = -(-wanted // len(by_relation))
    chosen = [f for group in by_relation.values() for f in draw.sample(group, min(share, len(group)))]
    ids = {fact["fact_id"] for fact in chosen}
    return [fact for fact in facts if fact["fact_id"] in ids]


def write(path: Path, records: list[dict[str, Any]]) -> None:
    """Write records as JSON lines."""
    with path.open("w", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
