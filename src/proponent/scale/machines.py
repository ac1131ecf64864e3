"""How fast a worker is: accelerators by their data sheets, and what a job's stages take at given speeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from proponent.errors import InputError
from proponent.gradients.spec import FeatureSpec
from proponent.scale import cost
from proponent.scale.shapes import FLOAT, Job
from proponent.scale.stages import COMPACTING, Stage, build_stages

ENCODING = "encoding"  # counts no operations, but is the tokenizer's
# Of a core's speed in products: of eigenvectors, eigenvalues and factors, and of a sketch's additions.
DECOMPOSED, SKETCHED = 0.25, 0.02
# Stages that are passes of the model; all else is the host's, a compact run's sketch too.
ON_DEVICE = ("second moments", "balancing", "mean eigenvalues", "gradients")


@dataclass(frozen=True)
class Accelerator:
    """Peaks of a card for dense products: operations a second, bytes, and bytes a second."""

    name: str
    bfloat16: float
    tf32: float
    float32: float
    memory: int
    bandwidth: float
    source: str


# Data sheets give tensor-core peaks with sparsity; dense ones, as here, are half of those.
ACCELERATORS = {
    card.name: card
    for card in (
        Accelerator(
            "H100",
            989e12,
            495e12,
            67e12,
            80 * 10**9,
            3.35e12,
            "https://www.nvidia.com/en-us/data-center/h100/",
        ),
        Accelerator(
            "H200",
            989e12,
            495e12,
            67e12,
            141 * 10**9,
            4.8e12,
            "https://www.nvidia.com/en-us/data-center/h200/",
        ),
        Accelerator(
            "A100",
            312e12,
            156e12,
            19.5e12,
            80 * 10**9,
            2.04e12,
            "https://www.nvidia.com/en-us/data-center/a100/",
        ),
        Accelerator(
            "L4", 121e12, 60e12, 30.3e12, 24 * 10**9, 0.3e12, "https://www.nvidia.com/en-us/data-center/l4/"
        ),
    )
}


@dataclass(frozen=True)
class Assumed:
    """What is assumed of a worker with a named accelerator, and of the network between any workers.

    utilisation: share of the card's peak.  tf32: whether float32 products of the card run as TF32.
    cores, core: of the host, and operations a second of each in products.  encoded: tokens a second of the
    planning pass, which is one process.  disk, network: bytes a second of a worker.
    """

    utilisation: float = 0.4
    tf32: bool = False
    cores: int = 16
    core: float = 50e9
    encoded: float = 5e5
    disk: float = 2e9
    network: float = 1.25e9

    def __post_init__(self) -> None:
        """Raise InputError for a number that is none above 0, or a share above 1."""
        for name in ("utilisation", "cores", "core", "encoded", "disk", "network"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} is {getattr(self, name)}; give more than 0")
        if self.utilisation > 1:
            raise InputError(f"utilisation is {self.utilisation}; it is a share of the peak: give at most 1")


@dataclass(frozen=True)
class Speeds:
    """What a worker reaches.

    rates: operations a second of each stage, or, of a stage that has none, bytes a second.  disk, network:
    bytes a second.  task: seconds that the files of a task take, however small.  waiting: stages whose rate
    is that of an accelerator's memory.
    """

    rates: Mapping[str, float]
    disk: float
    network: float
    task: float = 0.0
    waiting: frozenset[str] = frozenset()


@dataclass(frozen=True)
class TimedStage:
    """A stage with the seconds that its parts take one after the other, on ``workers`` that share it."""

    stage: Stage
    workers: int
    compute: float
    disk: float
    network: float
    limited: str = "compute"

    @property
    def seconds(self) -> float:
        """Of the wall."""
        return self.compute + self.disk + self.network

    @property
    def limit(self) -> str:
        """What takes most of it: compute (or memory, where that waits for it), disk or network."""
        parts = {self.limited: self.compute, "disk": self.disk, "network": self.network}
        return max(parts, key=lambda name: parts[name])


def timed(job: Job, speeds: Speeds) -> tuple[TimedStage, ...]:
    """The stages of a build with their seconds at given speeds.

    Tasks of a stage are shared out whole.  What goes between workers leaves through one worker's network
    before the gradients, and otherwise through that of all who share the stage.
    """
    found = []
    for stage in build_stages(job):
        workers = min(job.workers, stage.tasks)
        turns = -(-stage.tasks // workers)
        share, moved = turns / stage.tasks, stage.read + stage.written
        work, rate = stage.operations or moved, speeds.rates.get(stage.name, speeds.disk)
        compute, disk = share * work / rate, share * moved / speeds.disk + turns * speeds.task
        if not stage.operations and stage.name != ENCODING:
            compute, disk = 0.0, compute + turns * speeds.task
        elif not stage.operations:
            disk = turns * speeds.task
        senders = 1 if stage.name == "gradients" else workers
        sent, limited = stage.network / speeds.network / senders, "compute"
        if stage.name in speeds.waiting:
            limited = "memory"
        found.append(TimedStage(stage, workers, compute, disk, sent, limited))
    return tuple(found)


def speeds_of(card: Accelerator, job: Job, spec: FeatureSpec, assumed: Assumed) -> Speeds:
    """The speeds of a worker with a named accelerator: nothing is measured.

    Of the gradients the part that the code keeps in float32 runs at that precision's peak.  A pass reads all
    parameters twice a batch, and takes at least as long as that.  A sketch is the host's.
    """
    stages = {stage.name: stage for stage in build_stages(job)}
    full, low = assumed.utilisation * (card.tf32 if assumed.tf32 else card.float32), 0
    if spec.dtype == "bfloat16":
        low = job.passages * cost.rounded_operations(job.model, job.features, job.tokens)
    passes, host = job.passages * cost.row_operations(job), assumed.cores * assumed.core
    seconds = low / (assumed.utilisation * card.bfloat16) + (passes - low) / full
    batches = -(-job.passages // job.batch_rows)
    waited = 2 * batches * FLOAT * job.model.parameters / card.bandwidth
    passed, gradients = max(seconds, waited), stages["gradients"].operations
    sketched = (gradients - passes) / (SKETCHED * host)
    rates = {name: host for name, stage in stages.items() if stage.operations}
    rates |= {name: DECOMPOSED * host for name in ("folding", "factors") if name in rates}
    encoding = stages[ENCODING]
    rates[ENCODING] = (encoding.read + encoding.written) * assumed.encoded / (job.passages * job.tokens)
    rates |= {name: passes / passed for name in ("mean eigenvalues", "balancing") if name in rates}
    rates |= {COMPACTING: _compacted(stages[COMPACTING], job, host)} if COMPACTING in rates else {}
    return Speeds(
        {**rates, "second moments": full, "gradients": gradients / (passed + sketched)},
        assumed.disk,
        assumed.network,
        waiting=frozenset({"gradients"} if waited > seconds else ()),
    )


def _compacted(stage: Stage, job: Job, host: float) -> float:
    """Operations a second of making a compact run of a full one: the host's products, and what is slower."""
    vectors, _ = cost.truncation_operations(job.features)
    encoded = job.passages * cost.encoding_operations(job.features)
    slower = vectors / DECOMPOSED + encoded / SKETCHED
    return host * stage.operations / (stage.operations - vectors - encoded + slower)
