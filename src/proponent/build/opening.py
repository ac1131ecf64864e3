"""A build that was begun, opened from its folder alone: what a worker needs that was told nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from proponent.build.marks import Marks
from proponent.build.tasks import START, Build
from proponent.errors import InputError
from proponent.gradients.features import FeatureExtractor
from proponent.gradients.layers import plan_layers
from proponent.gradients.model import LanguageModel
from proponent.gradients.projection import unpack_projections
from proponent.gradients.spec import FeatureSpec
from proponent.index.manifest import read_manifest
from proponent.index.run import RunFolder
from proponent.index.sketch import sketch_of
from proponent.index.storage import read_tensors


def open_build(folder: RunFolder) -> Build:
    """A build that was begun, ready for all tasks but features."""
    manifest = read_manifest(folder)
    spec = manifest["spec"]
    damping = None if spec["hessian"] == "identity" else spec["damping"]
    blocks = len(manifest["blocks"])
    sketch = sketch_of(spec, blocks, int(manifest["side"]) ** 2)
    return Build(folder, Marks(folder), blocks, damping, sketch)


def with_model(build: Build, model: LanguageModel) -> Build:
    """The build ready for features as well; InputError where the model is not the one it was begun with."""
    manifest = read_manifest(build.folder)
    require_same_model(build.folder.name, manifest, model)
    spec = FeatureSpec.from_dict(manifest["spec"])
    plan = plan_layers(model, spec.dim, spec.layer_groups)
    model.multiply_in(spec.dtype)
    folded = unpack_projections(read_tensors(build.marks.sound(START, build.folder.sides)))
    return replace(build, extractor=FeatureExtractor(model, plan, folded, spec.batch_tokens))


def require_same_model(run: str, manifest: Mapping[str, Any], model: LanguageModel) -> None:
    """Raise InputError where a model or its tokenizer is not the one that a run was made with."""
    found = {"model": model.identity, "tokenizer": model.encoder.fingerprint()}
    for part, fingerprint in found.items():
        if fingerprint != manifest[part]:
            raise InputError(
                f"{run}: the {part} in '{manifest['spec']['model']}' is not the one that this run was made "
                "with; restore it or build the run again"
            )
