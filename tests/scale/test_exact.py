"""The stage of exact scores against what torch does in it."""

from __future__ import annotations

import pytest
from tests.scale.cases import DIM, GROUPS, UNFUSED_BACKWARD, UNFUSED_FORWARD, job_of, small_model, token_rows
from tests.scale.counting import Counted

from proponent.attribute import unprojected
from proponent.attribute.unprojected import QueryProducts
from proponent.corpus.example import Chunk, EncodedQuery
from proponent.gradients.exact import identity_projection
from proponent.gradients.features import FeatureExtractor
from proponent.gradients.layers import plan_layers
from proponent.gradients.model import LanguageModel
from proponent.scale import cost, exact
from proponent.scale.exact import exact_stage
from proponent.scale.questions import Questions
from proponent.scale.shapes import Job

UNFUSED = UNFUSED_FORWARD + UNFUSED_BACKWARD - cost.ATTENTION_FORWARD - cost.ATTENTION_BACKWARD
QUERIES, ROWS = 2, 4  # a proponent and an opponent of each


def compared(model: LanguageModel, job: Job) -> tuple[Counted, int]:
    """What is done and held while queries of 21 tokens meet passages of 33, and in how many groups."""
    plan = plan_layers(model, DIM, GROUPS)
    folded = {matrix.name: identity_projection(matrix) for matrix in plan.matrices}
    extractor = FeatureExtractor(model, plan, folded, job.batch_tokens)
    queries = [EncodedQuery(tuple(row), 17) for row in token_rows(QUERIES, 21, seed=1)]
    chunks = [Chunk(str(n), "", tuple(row)) for n, row in enumerate(token_rows(ROWS, 33))]
    with Counted() as counted:
        products = QueryProducts(extractor, queries, "loss")
        products.among()
        products.with_chunks(chunks, "loss", lambda _: None)
    return counted, len(products.groups)


@pytest.mark.parametrize("groups", [1, 2])
def test_operations_are_those_that_torch_does(groups: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model("eager")
    job, asked = job_of(model, ROWS, 33), Questions(QUERIES, 21, targets=4, k=1)
    if groups == 2:
        for module in (unprojected, exact):
            monkeypatch.setattr(module, "QUERY_BYTES", 4 * 21 * job.model.sides)
    counted, made = compared(model, job)
    assert made == groups
    pairs = [(groups * ROWS, 33), (2 * groups * QUERIES, 21)]
    more = sum(count * UNFUSED * (tokens - 1) ** 2 for count, tokens in pairs) * job.model.attention
    assert counted.operations == exact_stage(job, asked, 1).operations + more


def test_memory_is_what_is_said_or_a_little_less() -> None:
    model = small_model("sdpa")
    job = job_of(model, ROWS, 33)
    counted, _ = compared(model, job)
    held = 4 * sum(i**2 + o**2 for i, o in job.model.matrices)  # made before
    said = exact_stage(job, Questions(QUERIES, 21, targets=4, k=1), 1).memory - held
    assert counted.peak < said < 1.4 * counted.peak
