"""What `proponent plan` says of an index beside what the index took, stage by stage.

    python benchmarks/plan.py MODEL CORPUS --dims 8192 65536 --passages 3000 --rounds 3

Plans and builds take turns, each in a process of its own, a plan before and after every build: others may use
the machine.  Planned is the mean of the two plans around a build; the table has medians over the rounds, and
the last column the median of planned over measured.  The plan is told the tokens of the corpus and the mean
length of its passages, and nothing else.  A stage's seconds are those between its begin and end as the build
reports them; memory is the highest of the whole process.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from processes import threads_environment

NAMES = {"R_train": "R", "R_train, summed": "R, summed", "factors and eigenvalues": "factors"}
Figures = dict[str, float]


def main() -> None:
    """Run every case and print its table."""
    if sys.argv[1:2] == ["--alone"]:
        told = json.loads(sys.argv[2])
        print(json.dumps((planned if told.pop("plan") else built)(**told)))
        return
    from side_by_side import machine

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("corpus")
    parser.add_argument("--dims", type=int, nargs="+", default=[8192, 65536])
    parser.add_argument("--passages", type=int, default=3000)
    parser.add_argument("--second-moment", default="sample")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    for dim in given.dims:
        case = {"model": given.model, "dim": dim, "second_moment": given.second_moment}
        show(case, given)
    print(machine(given.threads))


def show(case: dict[str, Any], given: argparse.Namespace) -> None:
    """The table of one case."""
    pairs = []
    with tempfile.TemporaryDirectory() as work:
        text = {"corpus": given.corpus, "passages": given.passages}
        before = alone(given.threads, plan=True, **case, **text)
        for n in range(given.rounds):
            run = str(Path(work) / f"run{n}")
            found = alone(given.threads, plan=False, run=run, **case, **text)
            after = alone(given.threads, plan=True, **case, **text)
            pairs.append(({name: (before[name] + after[name]) / 2 for name in before}, found))
            before = after
    sizes = f"d = {case['dim']:,}, {given.passages:,} passages, second moments {case['second_moment']}"
    print(f"\n{Path(case['model']).name}, {sizes}; {given.rounds} rounds")
    print("| | planned | measured | planned / measured |\n| --- | ---: | ---: | ---: |")
    for name in pairs[0][0]:
        print(row(name, [(plan[name], found.get(name, 0.0)) for plan, found in pairs]), flush=True)


def row(name: str, pairs: Sequence[tuple[float, float]]) -> str:
    """Medians of what was planned and measured, and of their ratio."""
    said, took = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratio = statistics.median(plan / found if found else float("nan") for plan, found in pairs)
    return f"| {name} | {said:.3g} | {took:.3g} | {ratio:.2f} |"


def alone(threads: int, **what: object) -> Figures:
    """The figures of a fresh process."""
    command = [sys.executable, __file__, "--alone", json.dumps(what)]
    done = subprocess.run(command, capture_output=True, text=True, env=threads_environment(threads))
    if done.returncode:
        sys.exit(done.stderr)
    found: Figures = json.loads(done.stdout.splitlines()[-1])
    return found


def planned(model: str, dim: int, second_moment: str, corpus: str, passages: int) -> Figures:
    """In a fresh process: seconds of each stage, of all, MB on disk and of memory, as planned."""
    from proponent.cli.process import settle

    settle()
    import proponent as pp
    from proponent.gradients.model import load_model

    encoder = load_model(model, "cpu").encoder
    lengths = [
        len(chunk.tokens)
        for example in pp.Corpus.read(corpus, limit=passages)
        for chunk in encoder.chunks(example, 512)
    ]
    spec = pp.FeatureSpec(model, dim, second_moment=second_moment)
    made = pp.plan(spec, sum(lengths), round(statistics.mean(lengths)), "cpu")
    found = {of.stage.name: of.seconds for of in made.stages}
    for part in ("folding", "balancing"):  # a build reports these as one
        found["second moments"] += found.pop(part, 0.0)
    whole = {"seconds in all": made.seconds, "MB on disk": made.values["disk"] / 1e6}
    return {**found, **whole, "MB of memory": made.memory / 1e6}


def built(model: str, dim: int, second_moment: str, corpus: str, passages: int, run: str) -> Figures:
    """In a fresh process: the same as measured; text is no part of the disk, as in a plan."""
    from memory import peak
    from stages import StageClock

    from proponent.cli.process import settle

    settle()
    import proponent as pp

    clock = StageClock(NAMES)
    spec = pp.FeatureSpec(model, dim, second_moment=second_moment)
    index = pp.build_index(pp.Corpus.read(corpus, limit=passages), spec, run, "cpu", clock)
    text = sum(file.stat().st_size for file in (Path(run) / "examples").iterdir())
    whole = {"seconds in all": sum(clock.seconds.values()), "MB on disk": (index.size() - text) / 1e6}
    return {**clock.seconds, **whole, "MB of memory": peak()}


if __name__ == "__main__":
    main()
