"""The units of the cost model against cases worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.scale.cases import NO_MODEL as MODEL

from proponent.errors import InputError
from proponent.scale import cost, task
from proponent.scale.shapes import FeatureShape, Job

# MODEL: q, k, v as one matrix of 2 inputs and 3 + 2 + 1 outputs, then one of 3 and 5.
FEATURES = FeatureShape(blocks=2, side=3)
JOB = Job(MODEL, FEATURES, passages=10, tokens=8)


def test_shapes() -> None:
    assert MODEL.weights == 12 + 15
    assert MODEL.first == 12
    assert MODEL.inputs == 5
    assert MODEL.sides == 8 + 8
    assert (FEATURES.width, FEATURES.dim) == (9, 18)


def test_gradients_of_a_passage() -> None:
    # seven of eight tokens predict; forward 2·7·27, backward 2·7·15 (none below the first matrix)
    matrices = 378 + 210
    # scores and sums, half of 7 x 7 of them, forward; five such products backward
    attention = 2 * 49 * 4 + 5 * 49 * 4
    # forward and backward through 2 x 10
    logits = 2 * 2 * 7 * 20
    assert cost.gradient_operations(MODEL, 8) == matrices + attention + logits
    assert cost.gradient_operations(MODEL, 8, 3) == matrices + attention + 2 * 2 * 3 * 20
    assert cost.forward_operations(MODEL, 8, 3) == 378 + 2 * 49 * 4 + 2 * 3 * 20


def test_features_of_a_passage() -> None:
    # each position's 16 numbers to side 3, then two outer products of 3 x 3
    assert cost.feature_operations(MODEL, FEATURES, 8) == 2 * 7 * 3 * 16 + 2 * 7 * 9 * 2
    assert cost.projection_operations(MODEL, FEATURES, 8) == 2 * 7 * 3 * 16


def test_what_is_rounded_of_features() -> None:
    # the second matrix and 2 x 10 logits, both ways, and the projections
    assert cost.rounded_operations(MODEL, FEATURES, 8) == 4 * 7 * (15 + 20) + 2 * 7 * 3 * 16


def test_second_moments_of_a_passage() -> None:
    # two Gram matrices 2·49·i and 2·49·o and two products with them, of the same size crosswise
    gram = 2 * 49 * 16
    assert cost.moment_operations(MODEL, 8) == cost.gradient_operations(MODEL, 8) + gram + gram


def test_corrections() -> None:
    assert cost.hessian_operations(FEATURES) == 2 * 2 * 81
    wide = FeatureShape(3, 32)
    assert cost.hessian_operations(wide) == 3 * 2 * (512 * 512 + 512 * 1024), "strips of 512 rows"
    assert cost.triangle_operations(5, 2) == 2 * (2 * 2 + 2 * 4 + 1 * 5), "the last strip is a short one"
    assert cost.corners(300) == (75, 75, 75, 75)
    assert cost.whitening_operations(FEATURES) == 2 * 2 * 81, "a dense inverse"
    assert cost.whitening_operations(wide) == 3 * (1024**2 + 8 * 128**2)
    assert cost.inversion_operations(wide) == 3 * 8 * 128**3
    assert cost.cholesky_operations(FEATURES) == 2 * 729 // 3
    assert cost.eigenvalue_operations(FEATURES) == 4 * 2 * 729 // 3


def test_kronecker_factors() -> None:
    assert MODEL.factors == (3, 2, 1, 2, 5, 3)
    # x xᵀ and its product with d, and of each module d dᵀ and its product with x, at 7 x 7 pairs
    pairs = 2 * 49 * ((2 + 6) + (6 + 3 * 2) + (3 + 5) + (5 + 3))
    assert cost.factor_operations(MODEL, 8) == pairs + 2 * 7 * (9 + 4 + 1 + 4 + 25 + 9)
    one = cost.gradient_operations(MODEL, 8) + cost.factor_operations(MODEL, 8)
    assert cost.kronecker_operations(MODEL, 8) == one
    twice = replace(MODEL, sweeps=((26, 15), (26, 0)))
    # the second sweep goes back through the logits alone
    assert cost.kronecker_operations(twice, 8) == one + cost.forward_operations(MODEL, 8, 7) + 2 * 7 * 20
    cubes, squares = 27 + 8 + 1 + 8 + 125 + 27, 9 + 4 + 1 + 4 + 25 + 9
    assert cost.root_operations(MODEL, FEATURES) == round(20 / 3 * cubes) + 2 * 3 * squares


def test_an_identity_costs_a_few_numbers_a_block() -> None:
    white = FeatureShape(blocks=2, side=3, identity=True)
    spent = (cost.hessian_operations, cost.whitening_operations, cost.inversion_operations)
    assert [f(white) for f in (*spent, cost.cholesky_operations, cost.eigenvalue_operations)] == [0] * 5
    assert cost.triangle_bytes(white) == 2 * 3 * 8
    assert cost.factor_bytes(white) == 2 * 2 * 8
    assert cost.index_bytes(white) == cost.index_bytes(FEATURES)


def test_a_task_of_few_queries() -> None:
    # of each block: two Gram matrices 4 x 4 of 9 coordinates, eigenvalues, directions, coordinates
    block = 2 * (2 * 4 * 4) * 9 + 6 * 4**3 + 2 * 4 * 4 * 9 + 2 * 4 * 4 * 9
    whitened = 4 * 2 * 2 * 81 + 2 * 9**3
    assert task.task_operations(FEATURES, 4) == whitened + 2 * block
    assert task.direction_operations(FEATURES, 4) == 2 * 4 * 18
    assert task.coordinate_operations(FEATURES, 4) == 2 * (4 + 1) * 4 * 2


def test_a_task_of_more_queries_than_a_block_has_coordinates() -> None:
    block = 2 * (2 * 9 * 9) * 20 + 6 * 9**3 + 2 * 9 * 20 * 9
    whitened = 20 * 2 * 2 * 81 + 2 * 9**3
    assert task.task_operations(FEATURES, 20) == whitened + 2 * block
    assert task.direction_operations(FEATURES, 20) == 2 * 2 * 9 * 18, "and once more, for what is left"


def test_bytes() -> None:
    assert cost.index_bytes(FEATURES) == 36 + 12
    assert cost.raw_bytes(FEATURES) == 36 + 8
    assert cost.triangle_bytes(FEATURES) == 2 * (45 * 4 + 16)
    assert cost.factor_bytes(FEATURES) == 392 + 18 * 4
    assert cost.side_bytes(MODEL, FEATURES) == 4 * 3 * 16
    assert cost.moment_bytes(MODEL) == 4 * (16 + 2)
    once = 192 + 72 + 392 + 464
    assert cost.disk_bytes(JOB) == once + 480
    staged = 10 * 4 * 9
    assert cost.disk_bytes(JOB, finished=False) == once + 480 + 440 + 392 + staged, "R once more, as its sums"


def test_shards_hold_fewer_passages_where_these_are_long() -> None:
    # 65,536 tokens a shard, 128 shards a span, two shards a group
    short, long = (Job(MODEL, FEATURES, 100_000, tokens) for tokens in (43, 512))
    assert (short.shard_rows, short.shards, short.spans, short.groups) == (512, 196, 2, 98)
    assert (long.shard_rows, long.shards, long.spans, long.groups) == (128, 782, 7, 391)
    assert (short.batch_rows, long.batch_rows) == (47, 4)
    assert Job(MODEL, FEATURES, 1, 100_000).shard_rows == 1


@pytest.mark.parametrize("changes", [{"passages": 0}, {"tokens": 1}, {"workers": 0}])
def test_what_is_no_job_is_refused(changes: dict[str, int]) -> None:
    with pytest.raises(InputError, match="give at least 1, 2 and 1"):
        Job(MODEL, FEATURES, **{"passages": 10, "tokens": 8, **changes})
