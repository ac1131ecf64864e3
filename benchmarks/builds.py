"""Features and shards as `proponent index` makes them, for passes that are timed over and over."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from proponent.build.marks import Marks
from proponent.build.plan import StagedShard, stage
from proponent.build.tasks import Build, features, features_name
from proponent.gradients.features import FeatureExtractor
from proponent.gradients.layers import LayerPlan
from proponent.gradients.model import LanguageModel
from proponent.gradients.moments import fold_moments, sample_moments
from proponent.gradients.sweep import Sweep
from proponent.index.run import RunFolder

SAMPLE = 32  # rows of the second moments, whose values do not change how long a pass takes


def extractor(
    model: LanguageModel, plan: LayerPlan, shard: StagedShard, batch_tokens: int
) -> FeatureExtractor:
    """An extractor in the model's present precision, with second moments of a shard's first rows."""
    sweep = Sweep(model, plan.matrices, batch_tokens)
    moments = sample_moments(sweep, shard.rows[:SAMPLE], shard.starts[:SAMPLE])
    return FeatureExtractor(model, plan, fold_moments(plan, moments, 0), batch_tokens)


def staged(folder: Path, shards: Iterable[StagedShard], made_by: FeatureExtractor) -> Build:
    """A build whose shards wait on disk for their features."""
    marks = Marks(RunFolder(folder))
    stage([marks], shards)
    return Build(marks.folder, marks, len(made_by.plan.blocks), "oas", extractor=made_by)


def index_again(build: Build) -> None:
    """The indexing pass over all shards, from their staged rows to features on disk, done before or not."""
    for shard in range(build.shards):
        build.folder.mark(features_name(shard)).unlink(missing_ok=True)
        features([build], shard, "loss", lambda units, tokens=0: None)
