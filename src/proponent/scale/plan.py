"""What an index would cost before it is built: operations, hours, disk, memory and money, stage by stage."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from transformers import PreTrainedConfig

from proponent.build.plan import MAX_LENGTH
from proponent.errors import InputError
from proponent.evaluate.text import aligned, labelled
from proponent.gradients.layers import plan_layers
from proponent.gradients.loading import has_weights, load_config
from proponent.gradients.model import LIMITS, load_model
from proponent.gradients.spec import FeatureSpec, parse_size
from proponent.progress import Progress, Silent
from proponent.scale import cost
from proponent.scale.machines import (
    ACCELERATORS,
    ON_DEVICE,
    Accelerator,
    Assumed,
    TimedStage,
    speeds_of,
    timed,
)
from proponent.scale.measuring import measured_speeds
from proponent.scale.memory import batch_bytes
from proponent.scale.shapes import FLOAT, FeatureShape, Job, ModelShape, shapes, shapes_of_config
from proponent.scale.stages import COMPACTING
from proponent.scale.units import lasting, short

TEXT = 4  # bytes of text a token, about what they are in English
LIBRARIES = 570 * 10**6  # bytes of an indexing process beside its tensors: torch, transformers, Python
HALF = 2  # bytes of a bfloat16


@dataclass(frozen=True)
class Plan:
    """What an index would cost; printed, it is a table.

    Of a compact run with R_train it has the stages of both commands that make it, ``index`` and ``compact``.

    card: the accelerator whose figures were taken, None where this machine was measured, on ``device``.
    assumed: what was assumed beside.  price: of a worker's hour, None where none was given.
    disk: bytes a second of a worker's files, as measured or assumed.
    """

    spec: FeatureSpec
    job: Job
    stages: tuple[TimedStage, ...]
    assumed: Assumed
    device: str
    card: Accelerator | None = None
    price: float | None = None
    disk: float = Assumed.disk

    @property
    def seconds(self) -> float:
        """Of the wall, the stages one after the other; loading the model apart."""
        return sum(stage.seconds for stage in self.stages)

    @property
    def hours(self) -> float:
        """The same in hours."""
        return self.seconds / 3600

    @property
    def money(self) -> float | None:
        """All workers for all hours."""
        return None if self.price is None else self.price * self.hours * self.job.workers

    @property
    def scan(self) -> int:
        """Bytes of the index that a search of up to 1,024 queries reads."""
        return self.job.passages * cost.index_bytes(self.job.features)

    @property
    def scan_seconds(self) -> float:
        """Of reading these from the disks of all workers, which most of a search for few queries is."""
        return self.scan / self.disk / self.job.workers

    @property
    def weights(self) -> int:
        """Bytes of the model's parameters at most: in float32, and once more where they are rounded."""
        model = self.job.model
        rounded = model.weights - model.early + model.hidden * model.vocabulary
        return FLOAT * model.parameters + (HALF * rounded if self.spec.dtype == "bfloat16" else 0)

    @property
    def device_memory(self) -> int:
        """Bytes on the device of the model at most: its parameters, and a batch of the pass."""
        stages = {of.stage.name: of.stage for of in self.stages}
        return self.weights + max(stages["second moments"].memory, batch_bytes(self.job))

    @property
    def memory(self) -> int:
        """Bytes of a process at most, libraries included; beside a device the parameters while they load."""
        stages = [of.stage for of in self.stages]
        if self.device == "cpu":
            compacting = [stage.memory for stage in stages if stage.name == COMPACTING]  # loads no model
            indexing = max(stage.memory for stage in stages if stage.name != COMPACTING)
            return LIBRARIES + max([self.weights + indexing, *compacting])
        held = (stage.memory for stage in stages if stage.name not in ON_DEVICE)
        return LIBRARIES + max(FLOAT * self.job.model.parameters, *held)

    @property
    def lacking(self) -> str | None:
        """One line where the device has too little memory, by the accelerator's figures."""
        if self.card is None or self.device_memory <= self.card.memory:
            return None
        fits = [card.name for card in ACCELERATORS.values() if card.memory >= self.device_memory]
        needs = (
            f"needs {short(self.device_memory, 'B')}, a {self.card.name} has {short(self.card.memory, 'B')}"
        )
        return f"{needs}; {'give one of ' + ', '.join(fits) if fits else 'no single card here has as much'}"

    @property
    def values(self) -> dict[str, Any]:
        """The plan as plain JSON values: operations, seconds, bytes; disk without text.

        disk_of_full_run: of the one that a compact run is made of, which ``disk`` leaves out; 0 for none.
        """
        job, assumed = self.job, self.assumed
        return {
            "model": self.spec.model,
            "parameters": job.model.parameters,
            "tokens": job.passages * job.tokens,
            "passages": job.passages,
            "passage_tokens": job.tokens,
            "dim": job.features.dim,
            "size": job.features.size,
            "blocks": job.features.blocks,
            "shards": job.shards,
            "workers": job.workers,
            "device": self.device,
            "assumed": asdict(assumed) if self.card else {"network": assumed.network},
            "stages": [_values(of) for of in self.stages],
            "operations": sum(of.stage.operations for of in self.stages),
            "seconds": self.seconds,
            "disk": cost.disk_bytes(job),
            "disk_of_full_run": cost.disk_bytes(job.built) if job.features.compacted else 0,
            "disk_while_built": cost.disk_bytes(job, finished=False),
            "scan": self.scan,
            "scan_seconds": self.scan_seconds,
            "memory": self.memory,
            "device_memory": None if self.device == "cpu" else self.device_memory,
            "lacking": self.lacking,
            "money": self.money,
        }

    def __str__(self) -> str:
        rows = [HEADS, *map(_cells, self.stages)]
        return "\n\n".join([labelled(self._head()), aligned(rows), labelled(self._totals())])

    def _head(self) -> dict[str, str | None]:
        job, spec, features = self.job, self.spec, self.job.features
        corpus = f"{job.passages * job.tokens:,} tokens in {job.passages:,} passages of {job.tokens}"
        side = f"{features.blocks} blocks of {features.side} x {features.side}"
        corrected = f"second moments {spec.second_moment}, R {spec.hessian}, {spec.dtype}"
        corrected += f", {features.size:,} bytes of signs" if features.size else ""
        corrected += f" of {features.whitened:,} coordinates" if features.truncated else ""
        two = "proponent index makes the full run, and proponent compact the compact one of it"
        return {
            "model": f"{spec.model}, {job.model.parameters:,} parameters",
            "corpus": f"{corpus}, {job.shards:,} shards",
            "features": f"{features.dim:,} coordinates, {side}; {corrected}",
            "speed": self._speed(),
            "workers": f"{job.workers:,}" if job.workers > 1 else None,
            "commands": two if features.compacted else None,
        }

    def _speed(self) -> str:
        assumed, card = self.assumed, self.card
        if card is None:
            return f"measured here, on {self.device}, with {torch.get_num_threads()} threads"
        full = card.tf32 if assumed.tf32 else card.float32
        peaks = f"{card.bfloat16 / 1e12:g} TFLOP/s in bfloat16 and {full / 1e12:g} in "
        peaks += "TF32" if assumed.tf32 else "float32"
        host = f"{assumed.cores} cores at {assumed.core / 1e9:g} GFLOP/s, disk {short(assumed.disk, 'B/s')}"
        return f"{card.name}, assumed at {assumed.utilisation:.0%} of {peaks}; {host}; nothing is measured"

    def _totals(self) -> dict[str, str | None]:
        job, money = self.job, self.money
        finished, most = (short(cost.disk_bytes(job, done), "B") for done in (True, False))
        disk = f"{finished}, text apart; {most} while it is built"
        if job.features.compacted:
            full = short(cost.disk_bytes(job.built), "B")
            disk += f", with the full run, whose {full} may be removed afterwards"
        device = None if self.device == "cpu" else f"{short(self.device_memory, 'B')}"
        operations = sum(of.stage.operations for of in self.stages)
        return {
            "in all": f"{lasting(self.seconds)}, {short(operations)} operations",
            "price": None if money is None else f"{money:,.2f}, at {self.price:g} an hour and worker",
            "disk": disk,
            "memory": f"{short(self.memory, 'B')} a process",
            "device": device if self.lacking is None else f"{device}: {self.lacking}",
            "search": f"a scan for up to 1,024 queries reads {short(self.scan, 'B')}, in "
            f"{lasting(self.scan_seconds)} at the speed of the disk",
        }


HEADS = ("stage", "operations", "a second", "time", "limit", "memory", "files")


def _cells(of: TimedStage) -> tuple[str, ...]:
    stage = of.stage
    rate = short(stage.operations / of.compute / of.workers) if stage.operations else ""
    operations = short(stage.operations) if stage.operations else ""
    spent = (short(stage.memory, "B"), short(stage.read + stage.written, "B"))
    return (stage.name, operations, rate, lasting(of.seconds), of.limit, *spent)


def _values(of: TimedStage) -> dict[str, Any]:
    parts = {name: getattr(of, name) for name in ("compute", "disk", "network")}
    return {
        **asdict(of.stage),
        "seconds": of.seconds,
        "limit": of.limit,
        "workers": of.workers,
        "parts": parts,
    }


def plan(
    spec: FeatureSpec,
    tokens: int,
    length: int | None = None,
    device: str | None = None,
    workers: int = 1,
    price: float | None = None,
    assumed: Assumed | None = None,
    progress: Progress | None = None,
    trust_remote_code: bool = False,
) -> Plan:
    """What an index of so many tokens would cost, from a model's configuration and the speed of a machine.

    length: tokens of each passage; the spec's max_length, or what ``build_index`` would take, unless given.
    device: an accelerator's name (``ACCELERATORS``), whose figures are taken and no weights needed; or a
    torch device, None for the best one, on which a few rows of the real model are measured.
    workers: machines alike that share the work.  price: of an hour of one of them.
    A spec with R_train and a size, which ``build_index`` refuses, is planned as both commands that make it.
    Raises InputError for a model that cannot be used, or that has no weights to measure with.
    """
    assumed = assumed or Assumed()
    if tokens < 1:
        raise InputError(f"{tokens} tokens are no corpus; give at least 1")
    config = load_config(spec.model, trust_remote_code)
    corpus = (tokens, length or passage_length(spec, config), workers)
    if card := ACCELERATORS.get((device or "").upper()):
        job = job_of(shapes_of_config(config, spec.dim, spec.layer_groups), spec, *corpus)
        speeds = speeds_of(card, job, spec, assumed)
        return Plan(spec, job, timed(job, speeds), assumed, card.name, card, price, speeds.disk)
    if not has_weights(spec.model):
        raise InputError(
            f"model '{spec.model}' holds no weights to measure with; give a folder with a complete "
            f"model.safetensors, or as the device an accelerator: {', '.join(ACCELERATORS)}"
        )
    model = load_model(spec.model, device, trust_remote_code)
    job = job_of(shapes(model, spec.dim, spec.layer_groups), spec, *corpus)
    layers = plan_layers(model, spec.dim, spec.layer_groups)
    speeds = measured_speeds(model, layers, job, spec, assumed.network, progress or Silent())
    return Plan(spec, job, timed(job, speeds), assumed, model.device.type, None, price, speeds.disk)


def passage_length(spec: FeatureSpec, config: PreTrainedConfig) -> int:
    """Tokens of a spec's longest passages, as far as a model's configuration says."""
    text = config.get_text_config(decoder=True)
    most = next(filter(None, (getattr(text, name, None) for name in LIMITS)), MAX_LENGTH)
    return spec.max_length or min(MAX_LENGTH, most)


def job_of(
    shaped: tuple[ModelShape, FeatureShape], spec: FeatureSpec, tokens: int, length: int, workers: int = 1
) -> Job:
    """The job of a spec."""
    sampled, kronecker = spec.second_moment in ("sample", "kronecker"), spec.second_moment == "kronecker"
    job = Job(
        shaped[0],
        replace(shaped[1], identity=spec.hessian == "identity", size=parse_size(spec.size)),
        max(1, tokens // length),
        length,
        sample=spec.moment_sample if sampled else 0,
        batch_tokens=spec.batch_tokens,
        text=TEXT * length,
        workers=workers,
    )
    return replace(job, kronecker=kronecker, surveyed=spec.moment_sample)
