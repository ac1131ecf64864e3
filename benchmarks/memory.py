"""Peak memory of indexing against model weights and one batch's activations, for few and for many passages.

    python benchmarks/memory.py MODEL CORPUS --passages 1000 20000 --dim 65536

Each figure is the highest resident memory of a process of its own (VmHWM; elsewhere ru_maxrss).  The base
process loads the model and takes one batch of full size forward and back with respect to activations, with
the logits a bounded number at a time, and nothing else; the median of five.  The other rows are
`proponent index`, all of it.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from processes import threads_environment

if TYPE_CHECKING:  # the process that is measured imports what it needs, when it needs it
    from proponent.progress import Advance

MARGIN = 1.3
BASES = 5  # processes: one in three is a fifth smaller, by how the C library lays out its memory


def main() -> None:
    """Start a process for each figure and print the table."""
    if sys.argv[1:2] == ["--alone"]:
        print(json.dumps(measured(**json.loads(sys.argv[2]))))
        return
    from inputs import arguments, model_folder, passages
    from side_by_side import machine

    parser = arguments(__doc__)
    parser.add_argument("--passages", type=int, nargs="+", default=[1000, 20000])
    parser.add_argument("--dim", type=int, default=2**16)
    parser.add_argument("--tokens", type=int, default=2048, help="tokens a batch")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    print(f"{given.model}, d = {given.dim:,}, {given.tokens:,} tokens a batch, {given.dtype}")
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        common = {
            "model": model_folder(given.model, given.corpus, work),
            "dtype": given.dtype,
            "tokens": given.tokens,
        }
        base = statistics.median(alone(given.threads, **common)["whole"] for _ in range(BASES))
        print("| process | peak, MB | of the base | seconds |\n| --- | ---: | ---: | ---: |")
        print(f"| weights and one batch's activations | {base:,.0f} | 1.00 | |", flush=True)
        for count in given.passages:
            text = passages(given.corpus, count, work / "passages.jsonl")
            run = {"text": str(text), "run": str(work / f"run{count}"), "dim": given.dim}
            print_stages(count, alone(given.threads, **common, **run), base)
    print(f"The target is {MARGIN} of the base at most.  {machine(given.threads)}")


def print_stages(count: int, found: dict[str, float], base: float) -> None:
    """One row for the whole and one for each stage: the peak by its end, where a stage raised it."""
    seconds = found.pop("seconds")
    whole = found.pop("whole")
    print(f"| index of {count:,} passages | {whole:,.0f} | {whole / base:.2f} | {seconds:.0f} |")
    for stage, peak in found.items():
        print(f"| … {stage} | {peak:,.0f} | {peak / base:.2f} | |", flush=True)


def alone(threads: int, **what: object) -> dict[str, float]:
    """The figures of a fresh process, in MB."""
    command = [sys.executable, __file__, "--alone", json.dumps(what)]
    done = subprocess.run(command, capture_output=True, text=True, env=threads_environment(threads))
    if done.returncode:
        sys.exit(done.stderr)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def measured(
    model: str, dtype: str, tokens: int, text: str | None = None, run: str | None = None, dim: int = 0
) -> dict[str, float]:
    """In the fresh process: the base's peak, or that of indexing, whole and of every stage."""
    from proponent.cli.process import settle

    began = time.perf_counter()
    settle()  # as the command does
    if text is None or run is None:
        one_batch(model, dtype, tokens)
        return {"whole": peak()}
    from proponent.build.indexing import build_index
    from proponent.corpus.corpus import Corpus
    from proponent.gradients.spec import FeatureSpec

    spec = FeatureSpec(model, dim=dim, batch_tokens=tokens, dtype=dtype)
    stages = Stages()
    build_index(Corpus.read(text), spec, run, "cpu", stages)
    return {
        "whole": max(peak(), *stages.peaks.values()),
        **stages.peaks,
        "seconds": time.perf_counter() - began,
    }


def one_batch(name: str, dtype: str, tokens: int) -> None:
    """One batch forward and back with respect to activations: the least that any gradient needs."""
    from proponent.gradients.backprop import Batch, backpropagate
    from proponent.gradients.layers import find_matrices
    from proponent.gradients.model import load_model
    from proponent.gradients.sweep import captured

    model = load_model(name, device="cpu")
    model.multiply_in(dtype)
    length = min(64, tokens)
    rows = [[1 + n % 200 for n in range(length)]] * (tokens // length)
    with captured(model, find_matrices(model), [], len(rows)):
        backpropagate(model, Batch.of(rows, [1] * len(rows)))


class Stages:
    """A Progress that notes the highest memory of every stage, the figure set back before each."""

    def __init__(self) -> None:
        self.peaks: dict[str, float] = {}
        self._last = "reading"

    @contextmanager
    def stage(self, name: str, total: int | None, unit: str) -> Iterator[Advance]:
        """Note what came before, then the stage."""
        self._note(f"before {name}")
        yield lambda units, tokens=0: None
        self._note(name)

    def say(self, line: str) -> None:
        """Nothing to note."""

    def _note(self, name: str) -> None:
        self.peaks[name] = max(peak(), self.peaks.get(name, 0.0))
        set_back()


def peak() -> float:
    """Highest resident memory of this process so far, or since it was set back, in MB."""
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 1e6 if sys.platform == "darwin" else most * 1024 / 1e6


def set_back() -> None:
    """Begin to count the peak anew, where the system can (Linux)."""
    switch = Path("/proc/self/clear_refs")
    if switch.is_file():
        switch.write_text("5", encoding="utf-8")


if __name__ == "__main__":
    main()
