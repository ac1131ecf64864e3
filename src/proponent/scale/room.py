"""Whether an index with a model fits into the memory that is free, said before the model is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from transformers import PreTrainedConfig

from proponent.errors import InputError
from proponent.gradients.backprop import LOGIT_LIMIT
from proponent.gradients.holding import AMPLE, FLOAT, NARROW, free_memory, stored_dtype, weight_sizes
from proponent.gradients.lanes import LANE_TOKENS
from proponent.gradients.loading import load_config, quiet
from proponent.gradients.placement import SPREAD, pick_devices
from proponent.gradients.spec import FeatureSpec
from proponent.scale.memory import batch_bytes
from proponent.scale.plan import job_of, passage_length
from proponent.scale.shapes import Job, shapes_of_config
from proponent.scale.stages import build_stages

# No supported model keeps as many numbers a position, layer and hidden unit; a SwiGLU layer some 30.
MOST_KEPT = 60


@dataclass(frozen=True)
class Needs:
    """Bytes that an index with a model takes at most, on its device.

    weights: as they are held.  beside: of a batch's activations and features, the projections and, on a
    processor, whatever stage takes most.  held: the precision of the linear layers.  narrow: whether they are
    stored in 16 bits.
    """

    weights: int
    beside: int
    held: str
    narrow: bool
    job: Job

    @property
    def whole(self) -> int:
        """Both."""
        return self.weights + self.beside


def require_room(
    spec: FeatureSpec, device: str | None, trust_remote_code: bool = False, workers: int = 1
) -> None:
    """Raise InputError where an index of a spec will not fit, with the bytes needed, those free and a remedy.

    device: as of ``load_model``.  workers: processes that share a processor's memory.  What the model's
    weights alone refuse is left to its loading, which says so; and where it is not known how much is free,
    nothing is said.
    """
    where = pick_devices(device)
    rooms, place = free_memory(where), ", ".join(map(str, where))
    if place not in rooms:
        return
    free = rooms[place] // (workers if where[0].type == "cpu" else 1)
    try:
        with quiet():
            needs = _needs(spec, where, free, min(rooms.values()), trust_remote_code)
    except Exception:  # of any type, over a folder that loading will refuse, with better words
        return
    if needs is None or needs.whole <= free:
        return
    raise InputError(
        f"model '{spec.model}' does not fit: an index with it needs about {_gb(needs.whole)} (weights in "
        f"{needs.held} {_gb(needs.weights)}, a batch of {spec.batch_tokens:,} tokens with projections "
        f"{_gb(needs.beside)}), and {place} has {_gb(free)} free"
        f"{f' for each of {workers} workers' if workers > 1 else ''}; {_remedy(needs, free, where)}"
    )


def _needs(
    spec: FeatureSpec, where: Sequence[torch.device], free: int, least: int, trust_remote_code: bool
) -> Needs | None:
    """What an index needs; None where that is far less than what is free, or the weights alone are more."""
    config = load_config(spec.model, trust_remote_code)
    sizes, stored = weight_sizes(config, trust_remote_code), stored_dtype(config)
    held = sizes.held(stored, least)
    weights = sizes.halved if held in NARROW else sizes.whole
    if held is None or weights + _bound(config, spec) <= AMPLE * free:
        return None
    shaped = shapes_of_config(config, spec.dim, spec.layer_groups)
    job = job_of(shaped, spec, 2**30, passage_length(spec, config))
    return Needs(weights, _beside(job, where), str(held).removeprefix("torch."), stored in NARROW, job)


def _bound(config: PreTrainedConfig, spec: FeatureSpec) -> float:
    """Bytes beside the weights that no batch exceeds, without counting: most models are far from full."""
    text = config.get_text_config(decoder=True)
    hidden, layers = getattr(text, "hidden_size", None), getattr(text, "num_hidden_layers", None)
    if hidden is None or layers is None:
        return float("inf")
    rows = max(spec.batch_tokens, passage_length(spec, config))
    features = 3 * rows * spec.dim // 2  # of passages of two tokens
    sides = MOST_KEPT * hidden * layers * int(spec.dim**0.5)
    return float(FLOAT * (rows * MOST_KEPT * hidden * layers + 3 * LOGIT_LIMIT + features + sides))


def _beside(job: Job, where: Sequence[torch.device]) -> int:
    stages = {stage.name: stage.memory for stage in build_stages(job)}
    if where[0].type == "cpu":
        return max(batch_bytes(job), *stages.values())
    return max(batch_bytes(job), stages["second moments"])


def _remedy(needs: Needs, free: int, where: Sequence[torch.device]) -> str:
    """What would make it fit: fewer tokens at once if that is enough, else less or more of something."""
    tokens = needs.job.batch_tokens // 2
    while tokens >= LANE_TOKENS:
        if needs.weights + _beside(replace(needs.job, batch_tokens=tokens), where) <= free:
            return f"give --batch-tokens {tokens}"
        tokens //= 2
    ways = []
    if not needs.narrow:
        ways.append("save the model in bfloat16, as which it can be held")
    if where[0].type == "cuda" and torch.cuda.device_count() > len(where):
        ways.append(f"give --device {SPREAD}, which spreads its layers over all cards")
    return ", or ".join([*ways, "give a smaller --dim, or take a device with more memory"])


def _gb(count: int) -> str:
    return f"{count / 1e9:,.2f} GB"
