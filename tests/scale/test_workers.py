"""Text, token ids and network of a job, and how its stages grow, against cases worked out by hand."""

from __future__ import annotations

from tests.scale.cases import NO_MODEL

from proponent.scale import cost, questions
from proponent.scale.questions import Questions
from proponent.scale.shapes import FeatureShape, Job
from proponent.scale.stages import Stage, build_stages

JOB = Job(NO_MODEL, FeatureShape(2, 3), passages=1000, tokens=8, text=50)


def by_name(job: Job) -> dict[str, Stage]:
    return {stage.name: stage for stage in build_stages(job)}


def test_text_and_tokens_on_disk() -> None:
    said, row = by_name(JOB), 50 + 4 * 9
    assert said["encoding"].written == 1000 * row
    assert said["encoding"].memory == 512 * row, "one shard"
    assert said["encoding"].read == 1000 * (50 + 50 + row), "surveyed, cut, compared"
    assert said["second moments"].written == 72 + 192, "V and projections"
    assert said["second moments"].read == 4 * 100 + 72 + 192, "and the model"
    assert said["gradients"].written == 1000 * (36 + 8 + 50)
    assert said["gradients"].read == 1000 * row + said["gradients"].written


def test_memory_where_small_terms_count() -> None:
    # 32 rows of 63 positions; a matrix of 2 x 6 has its gradients, a product as wide, and 64 of a Gram matrix
    long = Job(NO_MODEL, FeatureShape(2, 3), passages=1000, tokens=64)
    assert by_name(long)["second moments"].memory == 4 * 32 * 63 * (7 + 5 + (6 + 6 + 64))
    # 18 coordinates of 2 factors of 9; 5 queries twice and 5 directions, 5 coordinates a block, half a factor
    mixed = {stage.name: stage for stage in questions.trace_stages(JOB, Questions(5, task=True))}
    assert mixed["task mix"].memory == 4 * 18 * 9 + 8 * (18 * (2 * 5 + 5) + 2 * 5 * 5 + 4 * 4)


def test_one_worker_needs_no_network() -> None:
    asked = [Questions(10), Questions(10, task=True)]
    traces = (stage for questions_asked in asked for stage in questions.trace_stages(JOB, questions_asked))
    assert not any(stage.network for stage in (*build_stages(JOB), *traces))


def test_what_workers_send() -> None:
    many = Job(NO_MODEL, FeatureShape(2, 3), passages=200_000, tokens=8, workers=4)
    said = by_name(many)
    assert many.spans == 4
    # three others: the model and its projections, and three quarters of the token ids
    assert said["gradients"].network == 3 * (4 * 100 + 192) + 200_000 * 36 * 3 // 4
    # three quarters of all sums are made elsewhere than they are added; everyone is sent every factor
    assert said["R, summed"].network == 4 * 392 * 3 // 4
    assert said["whitening"].network == 3 * (392 + 72)
    assert not any(said[name].network for name in ("encoding", "second moments", "R", "factors"))
    scan = {stage.name: stage for stage in questions.trace_stages(many, Questions(5, k=7))}["scan"]
    assert scan.network == 3 * (5 * 18 * 4 + 5 * 2 * 7 * (4 + 8))
    mixed = {stage.name: stage for stage in questions.trace_stages(many, Questions(5, k=7, task=True))}
    assert mixed["scan"].network == scan.network, "five directions a block in place of five vectors"


def test_stages_grow_as_they_should() -> None:
    short, long = (by_name(Job(NO_MODEL, FeatureShape(2, 3), 10, tokens)) for tokens in (7, 70))
    assert [short[name].operations for name in ("R", "factors", "whitening")] == [
        long[name].operations for name in ("R", "factors", "whitening")
    ]
    # linear in the tokens but for attention
    assert 10 < long["gradients"].operations / short["gradients"].operations < 100
    few, many = (by_name(Job(NO_MODEL, FeatureShape(2, 3), n, 7, sample=256)) for n in (3, 3000))
    assert few["second moments"].operations == 3 * cost.moment_operations(NO_MODEL, 7), (
        "no more than there are"
    )
    assert many["second moments"].operations == 256 * cost.moment_operations(NO_MODEL, 7)
    assert few["second moments"].memory < many["second moments"].memory, "the batch is full"
