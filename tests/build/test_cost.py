"""The cost model against cases worked out by hand."""

from __future__ import annotations

from proponent.build import cost
from proponent.build.cost import FeatureShape, ModelShape

# One layer: q, k, v as one matrix of 2 inputs and 6 outputs, then one of 3 and 5.
MODEL = ModelShape(matrices=((2, 6), (3, 5)), hidden=2, vocabulary=10, attention=4)
FEATURES = FeatureShape(blocks=2, side=3)


def test_shapes() -> None:
    assert MODEL.weights == 12 + 15
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


def test_features_of_a_passage() -> None:
    # each position's 16 numbers to side 3, then two outer products of 3 x 3
    assert cost.feature_operations(MODEL, FEATURES, 8) == 2 * 7 * 3 * 16 + 2 * 7 * 9 * 2


def test_second_moments_of_a_passage() -> None:
    # two Gram matrices 2·49·i and 2·49·o and two products with them, of the same size crosswise
    gram = 2 * 49 * 16
    assert cost.moment_operations(MODEL, 8) == cost.gradient_operations(MODEL, 8) + gram + gram


def test_corrections() -> None:
    assert cost.hessian_operations(FEATURES) == 2 * 2 * 81
    wide = cost.FeatureShape(3, 32)
    assert cost.hessian_operations(wide) == 3 * 2 * (512 * 512 + 512 * 1024), "strips of 512 rows"
    assert cost.whitening_operations(FEATURES) == 2 * 81
    assert cost.cholesky_operations(FEATURES) == 2 * 729 // 3
    assert cost.eigenvalue_operations(FEATURES) == 4 * 2 * 729 // 3


def test_bytes() -> None:
    assert cost.index_bytes(FEATURES) == 36 + 12
    assert cost.raw_bytes(FEATURES) == 36 + 8
    assert cost.corpus_bytes(FEATURES) == 2 * 2 * 45 * 4
    assert cost.disk_bytes(FEATURES, 10) == 720 + 480
    assert cost.disk_bytes(FEATURES, 10, finished=False) == 720 + 480 + 440 + 360, "R once more, as its sums"


def test_a_whole_index_is_the_sum_of_its_passages() -> None:
    found = cost.operations(MODEL, FEATURES, passages=10, tokens=8, sample=4)
    assert tuple(found) == ("gradients", "second moments", "R", "factors", "whitening")
    assert found["gradients"] == 10 * (
        cost.gradient_operations(MODEL, 8) + cost.feature_operations(MODEL, FEATURES, 8)
    )
    assert found["second moments"] == 4 * cost.moment_operations(MODEL, 8)
    assert found["R"] == 10 * 324
    assert found["factors"] == 486 + 1944
    assert found["whitening"] == 10 * 162


def test_the_sample_is_no_larger_than_the_corpus() -> None:
    found = cost.operations(MODEL, FEATURES, passages=3, tokens=8, sample=256)
    assert found["second moments"] == 3 * cost.moment_operations(MODEL, 8)


def test_the_corrections_do_not_depend_on_the_length() -> None:
    short, long = (cost.operations(MODEL, FEATURES, 10, tokens, 4) for tokens in (7, 70))
    assert [short[stage] for stage in ("R", "factors", "whitening")] == [
        long[stage] for stage in ("R", "factors", "whitening")
    ]
    # linear in the tokens but for attention
    assert 10 < long["gradients"] / short["gradients"] < 100
