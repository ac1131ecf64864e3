"""Cut facts in their own sentences' words, and these sentences, out of large files in the paper's schema.

    python benchmarks/sample_own_words.py FACTS SENTENCES FOLDER

For models small enough to be trained again and again: a fact's prompt is the beginning of one of its
sentences, up to the first mention of its object after one of its subject, so that a model which has learned
the sentences knows the facts.  Thirteen facts a relation with 3 to 12 short sentences,
up to five of each.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

from proponent.corpus.sources import read_records

EACH, GOLD = 13, 5  # facts of a relation, and sentences of a fact
SENTENCES = range(3, 13)  # that a fact may have
LONGEST = 160  # characters of a sentence
FEWEST_WORDS = 4  # of a prompt
SEED = 27

Fields = dict[str, Any]


def main() -> None:
    """Read, choose, write, say what was chosen."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("facts_file")
    parser.add_argument("sentences_file")
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    sentences = {r.fields["sentence_id"]: r.fields for _, r in read_records(given.sentences_file)}
    short = {id for id, sentence in sentences.items() if len(sentence["text"]) <= LONGEST}
    facts = choose([record.fields for _, record in read_records(given.facts_file)], short)
    kept = {id for fact in facts for id in fact["kept"]}
    texts = {id: sentences[id]["text"] for id in kept}
    worded = [found for fact in facts if (found := in_own_words(fact, texts))]
    given.folder.mkdir(parents=True, exist_ok=True)
    write(given.folder / "sentences.jsonl", [sentences[id] for id in sorted(kept)])
    write(given.folder / "facts.jsonl", worded)
    print(f"{len(worded)} facts, {len(kept):,} sentences")


def choose(facts: list[Fields], short: set[str]) -> list[Fields]:
    """Some facts of each relation, each with the ids of the sentences that are kept of it."""
    draw, by_relation = random.Random(SEED), defaultdict[str, list[Fields]](list)
    for fact in facts:
        usable = [id for id in fact["trex_sentences"] if id in short]
        if len(usable) in SENTENCES:
            by_relation[fact["relation"]].append({**fact, "kept": usable})
    chosen = []
    for _, members in sorted(by_relation.items()):
        draw.shuffle(members)
        for fact in members[:EACH]:
            draw.shuffle(fact["kept"])
            chosen.append({**fact, "kept": fact["kept"][:GOLD]})
    return chosen


def in_own_words(fact: Fields, texts: dict[str, str]) -> Fields | None:
    """The fact with a prompt and a target from the first of its sentences that fits, None for none."""
    gold = [id for id in fact["trex_sentences"] if id in texts]
    subjects = [name for name in (fact["entity0"], *fact["entity0_alias"]) if name]
    objects = sorted({fact["entity1"], *fact["entity1_alias"]}, key=len, reverse=True)
    for id in gold:
        for name in objects:
            found = re.search(rf"(?<!\w){re.escape(name)}(?!\w)", texts[id])
            prompt = texts[id][: found.start()].rstrip() if found else ""
            if len(prompt.split()) >= FEWEST_WORDS and any(subject in prompt for subject in subjects):
                rest = {key: value for key, value in fact.items() if key != "kept"}
                return {**rest, "trex_sentences": gold, "prompt0": prompt, "entity1": name}
    return None


def write(path: Path, records: list[Fields]) -> None:
    """One JSON object a line."""
    lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    path.write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
