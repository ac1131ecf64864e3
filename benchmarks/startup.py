"""Start-up: the help, and a trace on a small run with the loading of its model apart.

    python benchmarks/startup.py MODEL CORPUS --peer ENVIRONMENT/bin

Medians over rounds of whole processes.  The model's loading is taken off inside the process that traces: the
seconds that it spends in ``load_model``, the import of the model's library being left in.  The second table
is of processes that import what the trace does, a step at a time.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from inputs import arguments, model_folder, passages
from processes import here, usage
from side_by_side import machine, seconds

PASSAGES, DIM = 200, 2**12
TARGETS = {"proponent --help": 0.5, "proponent trace, without the model's loading": 2.0}
# What the trace imports of other projects before it does anything.
LIBRARIES = ("import torch", "from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer")
# All that it imports, in turn; the last are our own modules and pyarrow.
STEPS = (
    "from proponent.cli.process import settle; settle()",
    *LIBRARIES,
    "import proponent.attribute.tracing",
)
STEPPED = """
import sys, time
for step in sys.argv[1:]:
    began = time.perf_counter()
    exec(step)
    print(time.perf_counter() - began)
"""
# Runs the command line with a clock around the loading of the model, whose seconds it prints first.  Like the
# command itself it settles its process before anything heavy is imported.
CLOCKED = """
import time
from proponent.cli import command
from proponent.cli.process import settle
settle()
from proponent.attribute import tracing
load = tracing.load_model
def timed(*given):
    began = time.perf_counter()
    model = load(*given)
    print(time.perf_counter() - began)
    return model
tracing.load_model = timed
command()
"""
# Installed packages come with their modules compiled; this lets Python keep those of a checkout as well.
COMPILED = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def main() -> None:
    """Time every command and print the table."""
    parser = arguments(__doc__)
    parser.add_argument("--peer", type=Path, help="bin folder of the environment with bergson")
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        model, run, log = model_folder(given.model, given.corpus, work), work / "run", work / "log"
        text = passages(given.corpus, PASSAGES, work / "passages.jsonl")
        index = ["index", str(text), str(run), "--model", model, "--dim", str(DIM), "--device", "cpu"]
        usage([here("proponent"), *index], log)
        found: dict[str, list[float]] = {}
        steps: list[list[float]] = []
        for _ in range(1 + given.rounds):
            helping = usage([here("proponent"), "--help"], log, COMPILED).wall
            found.setdefault("proponent --help", []).append(helping)
            whole, loading = traced(run)
            found.setdefault("proponent trace", []).append(whole)
            found.setdefault("proponent trace, without the model's loading", []).append(whole - loading)
            steps.append(stepped())
            alone = usage([sys.executable, "-c", "; ".join(LIBRARIES)], log, COMPILED).wall
            found.setdefault("Python that imports torch and transformers' classes", []).append(alone)
            if given.peer:
                helping = usage([given.peer / "bergson", "--help"], log, COMPILED).wall
                found.setdefault("bergson --help", []).append(helping)
    print(f"{given.model}, a run of {PASSAGES} passages, d = {DIM:,}; {given.rounds} rounds")
    print_medians(found, steps)


def print_medians(found: dict[str, list[float]], steps: list[list[float]]) -> None:
    """Both tables: seconds of every command, and of every step of the import; the first round warms up."""
    print("| command | seconds | target |\n| --- | ---: | ---: |")
    for name, times in found.items():
        print(f"| {name} | {statistics.median(times[1:]):.2f} | {TARGETS.get(name, '')} |")
    print("\n| imported by the trace, its model's loading apart | seconds |\n| --- | ---: |")
    for step, spent in zip(STEPS, zip(*steps[1:], strict=True), strict=True):
        print(f"| `{step}` | {statistics.median(spent):.2f} |")
    print(machine())


def traced(run: Path) -> tuple[float, float]:
    """Seconds of a whole process that traces one query, and of them those that load the model."""
    words = ["trace", str(run), "--prompt", "The capital of France is", "--target", "Paris", "--json"]
    command = [sys.executable, "-c", CLOCKED, *words, "--device", "cpu"]
    answers: list[str] = []

    def work() -> None:
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=COMPILED)
        answers.extend(done.stdout.splitlines())

    whole = seconds(work)
    assert json.loads(answers[1])["proponents"], "the trace found nothing"
    return whole, float(answers[0])


def stepped() -> list[float]:
    """Seconds of each of ``STEPS``, in a fresh process."""
    command = [sys.executable, "-c", STEPPED, *STEPS]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=COMPILED)
    return [float(line) for line in done.stdout.splitlines()]


if __name__ == "__main__":
    main()
