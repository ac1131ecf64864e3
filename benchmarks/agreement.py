"""How far a person's labels agree with the categories that 'experiment headroom' gives.

    python benchmarks/agreement.py RUN/experiments/headroom/examples.csv --blank sheet.csv

writes the examples without their categories.  Somebody reads them, fills in the column `label`, and

    python benchmarks/agreement.py RUN/experiments/headroom/examples.csv --labelled sheet.csv

prints the share of equal labels, Cohen's kappa and what was called what.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from proponent.evaluate.headroom import Category, agreement
from proponent.evaluate.text import aligned

KEY = ("query", "model is", "passage")
HIDDEN = ("method", "rank", "category")


def main() -> None:
    """Write the blank sheet, or compare the labelled one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("examples", type=Path)
    way = parser.add_mutually_exclusive_group(required=True)
    way.add_argument("--blank", type=Path)
    way.add_argument("--labelled", type=Path)
    given = parser.parse_args()
    examples = read(given.examples)
    if given.blank:
        with given.blank.open("x", encoding="utf-8", newline="") as file:
            fields = [name for name in examples[0] if name not in HIDDEN]
            writer = csv.DictWriter(file, fields, extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            writer.writerows(examples)
        print(f"labels: {'; '.join(Category)}")
        return
    compare(examples, read(given.labelled), parser)


def compare(
    examples: list[dict[str, str]], labelled: list[dict[str, str]], parser: argparse.ArgumentParser
) -> None:
    """Print how far the labels agree with the categories of the examples."""
    categories = {tuple(row[name] for name in KEY): row["category"] for row in examples}
    labels = {tuple(row[name] for name in KEY): row["label"] for row in labelled if row["label"]}
    if unknown := set(labels.values()) - set(Category):
        parser.error(f"no category '{min(unknown)}'; the labels are: {'; '.join(Category)}")
    if not labels or not labels.keys() <= categories.keys():
        parser.error("the sheet holds no labels, or some of other examples")
    found = agreement(list(labels.values()), [categories[key] for key in labels])
    print(f"{len(labels)} labels: {found.accuracy:.1%} equal, kappa {found.kappa:.3f}\n")
    rows = sorted(found.confusion.items(), key=lambda item: -item[1])
    print(aligned([("label", "category", ""), *((*pair, str(n)) for pair, n in rows if len(set(pair)) == 2)]))


def read(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    main()
