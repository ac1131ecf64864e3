"""What the paper's own job costs by the formulas, and a tenth and ten times of it.

    python benchmarks/paper_job.py

An 8-billion-parameter model (the shape of Llama-3-8B), 160 billion tokens in passages of 512, d = 2^16.
Passes of the model are in hours of one H100, at a stated share of its 989 TFLOP/s in dense bfloat16 (NVIDIA's
data sheet); all else runs on processors, in hours of one core at a stated rate; a scan's hours are of all
machines together.  Nothing is measured, and no weights are needed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace

from transformers import LlamaConfig

from proponent.gradients.spec import SAMPLES, FeatureSpec
from proponent.scale.bounds import bounds
from proponent.scale.cost import disk_bytes, index_bytes
from proponent.scale.machines import ACCELERATORS, Assumed, speeds_of, timed
from proponent.scale.plan import TEXT
from proponent.scale.questions import Questions, trace_stages
from proponent.scale.shapes import Job, shapes_of_config
from proponent.scale.stages import Stage, build_stages

PEAK = 989e12  # H100 SXM, dense bfloat16, operations a second
PASSAGE = 512  # tokens
TOKENS = (16 * 10**9, 160 * 10**9, 1600 * 10**9)
GROUPS, DIM = 8, 2**16
# Of the 8B model: d, whether second moments are Kronecker factors, and bytes of signs a passage, 0 for none.
WAYS = (
    (2**16, False, 0),
    (2**16, False, 2**12),
    (2**16, True, 2**12),
    (2**18, True, 0),
    (2**18, True, 2**12),
)
# Hidden size, size inside the MLP, layers, heads, heads of keys and values.
SHAPES = {
    "1B": (2048, 8192, 16, 32, 8),
    "8B": (4096, 14_336, 32, 32, 8),
    "70B": (8192, 28_672, 80, 64, 8),
}
ON_DEVICE = (
    "second moments",
    "balancing",
    "mean eigenvalues",
    "gradients",
    "query gradients",
    "token scores",
)
UNITS = ((1e21, "Z"), (1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--utilisation", type=float, default=0.4)
    parser.add_argument("--core", type=float, default=50.0, help="GFLOP/s of a processor's core")
    parser.add_argument("--workers", type=int, default=128)
    parser.add_argument("--rates", type=float, nargs="+", default=[10.0, 1000.0], help="read, GB/s")
    given = parser.parse_args()
    jobs = [job("8B", tokens, given.workers) for tokens in TOKENS]
    print_stages(jobs[1], given)
    totals(jobs, [f"{tokens / 1e9:,.0f}B tokens" for tokens in TOKENS], given)
    totals([job(name, TOKENS[1], given.workers) for name in SHAPES], list(SHAPES), given)
    names = [way_name(*way) for way in WAYS]
    totals([job("8B", TOKENS[1], given.workers, *way) for way in WAYS], names, given)
    print("\n| bound | least | spent | spent / least |\n| --- | ---: | ---: | ---: |")
    for bound in bounds(jobs[1]):
        cells = (f"{bound.name}, {bound.unit}", short(bound.least), short(bound.spent))
        print(f"| {' | '.join(cells)} | {bound.distance:.3f} |")


def way_name(dim: int, kronecker: bool, size: int) -> str:
    """One of ``WAYS`` in words."""
    stored = f"{size:,} bytes of signs" if size else "full"
    return f"{'kronecker, ' if kronecker else ''}d = {dim:,}, {stored}"


def job(name: str, tokens: int, workers: int, dim: int = DIM, kronecker: bool = False, size: int = 0) -> Job:
    """The index of so many tokens with a model of this size; its features as of ``WAYS``."""
    hidden, mlp, layers, heads, shared = SHAPES[name]
    config = LlamaConfig(
        vocab_size=128_256,
        hidden_size=hidden,
        intermediate_size=mlp,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=shared,
        tie_word_embeddings=name == "1B",
    )
    model, features = shapes_of_config(config, dim, GROUPS)
    features = replace(features, identity=kronecker, size=size)
    made = Job(model, features, tokens // PASSAGE, PASSAGE, workers=workers)
    sample = SAMPLES["kronecker"] if kronecker else made.sample
    return replace(made, kronecker=kronecker, sample=sample, surveyed=sample)


def planned(of: Job) -> Callable[[bool], str]:
    """Hours of the wall of a build as ``proponent plan`` has them, without and with TF32."""
    of = replace(of, text=TEXT * PASSAGE)

    def hours_in(tf32: bool) -> str:
        spec, assumed = FeatureSpec("8B", dtype="bfloat16"), Assumed(tf32=tf32)
        whole = timed(of, speeds_of(ACCELERATORS["H100"], of, spec, assumed))
        return f"{sum(stage.seconds for stage in whole) / 3600:,.0f}"

    return hours_in


def print_stages(of: Job, given: argparse.Namespace) -> None:
    """What each stage of a job spends."""
    print(f"{of.passages:,} passages, {of.model.parameters:,} parameters, {of.workers} workers")
    print("| stage | operations | H100 hours | core hours | memory | read | written | network |")
    print("| --- |" + " ---: |" * 7)
    asked = (*trace_stages(of, Questions(1)), *trace_stages(of, Questions(1000, task=True)))
    for number, stage in enumerate((*build_stages(of), *asked)):
        queries = 1 if number < len(build_stages(of)) + len(asked) // 2 else 1000
        name = stage.name if number < len(build_stages(of)) else f"{stage.name}, {queries} queries"
        spent = (stage.memory, stage.read, stage.written, stage.network)
        taken = f"{hours(stage, given):,.2g}"
        where = [taken, ""] if stage.name in ON_DEVICE else ["", taken]
        print(f"| {name} | {' | '.join([short(stage.operations), *where, *map(short, spent)])} |")


def totals(jobs: Sequence[Job], names: Sequence[str], given: argparse.Namespace) -> None:
    """Some jobs side by side."""
    rows: dict[str, Callable[[Job], str]] = {
        "passages": lambda of: short(of.passages),
        "operations of the build": lambda of: short(built(of, "operations")),
        "hours of the wall as planned, in TF32": lambda of: "; ".join(map(planned(of), (False, True))),
        "H100 hours": lambda of: build_hours(of, given, on_device=True),
        "core hours": lambda of: build_hours(of, given, on_device=False),
        "disk of the index": lambda of: short(disk_bytes(of)),
        "disk while it is built": lambda of: short(disk_bytes(of, finished=False)),
        "read by the build": lambda of: short(built(of, "read")),
        "network": lambda of: short(built(of, "network")),
        **{f"a scan at {rate:,.0f} GB/s, hours": scan_hours(rate) for rate in given.rates},
    }
    print(f"\n| | {' | '.join(names)} |\n| --- |{' ---: |' * len(names)}")
    for name, row in rows.items():
        print(f"| {name} | {' | '.join(map(row, jobs))} |")


def scan_hours(rate: float) -> Callable[[Job], str]:
    """Hours of reading every row once at so many GB/s."""
    return lambda of: f"{of.passages * index_bytes(of.features) / (rate * 1e9) / 3600:,.3g}"


def built(of: Job, quantity: str) -> int:
    """A quantity over all stages of the build."""
    return sum(int(getattr(stage, quantity)) for stage in build_stages(of))


def build_hours(of: Job, given: argparse.Namespace, on_device: bool) -> str:
    """Hours of a build's passes of the model, or of all else."""
    stages = (stage for stage in build_stages(of) if (stage.name in ON_DEVICE) == on_device)
    return f"{sum(hours(stage, given) for stage in stages):,.0f}"


def hours(stage: Stage, given: argparse.Namespace) -> float:
    """Hours of a stage on one H100 or on one core."""
    rate: float = given.utilisation * PEAK if stage.name in ON_DEVICE else given.core * 1e9
    return stage.operations / rate / 3600


def short(number: float) -> str:
    """A number with three digits and a unit's prefix."""
    for size, prefix in UNITS:
        if number >= size:
            return f"{number / size:.3g}{prefix}"
    return f"{number:.3g}"


if __name__ == "__main__":
    main()
