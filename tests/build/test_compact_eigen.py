"""A compact run with fewer signs than coordinates: the first eigenvectors of R_train, from end to end."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.runs import CORPUS, QUERIES, contents, model_folder, small_spec

import proponent as pp
from proponent.attribute.tracing import Tracer
from proponent.errors import InputError
from proponent.index.run import Index
from proponent.index.scores import QueryTerms
from proponent.index.signs import SignRows, encode_signs
from proponent.index.whitening import Whitening

__all__ = ["model_folder"]
SIZE, KEPT = 64, 128  # 512 signs for 4 blocks of 256 coordinates


@pytest.fixture(scope="module")
def runs(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Index, Index]:
    """A full run of 1,024 coordinates, and the compact one of it."""
    folder = tmp_path_factory.mktemp("eigen")
    full = pp.build_index(CORPUS, small_spec(model_folder, dim=4 * 16 * 16), folder / "full", "cpu")
    return full, pp.compact(folder / "full", folder / "codes", SIZE)


def test_rows_are_signs_of_the_features_along_the_first_eigenvectors(runs: tuple[Index, Index]) -> None:
    full, codes = runs
    assert codes.sketch is not None
    assert (full.dim, codes.sketch.dim, codes.sketch.size) == (1024, 4 * KEPT, 8 * SIZE)
    for shard, small in zip(full.shards(), codes.shards(), strict=True):
        phi = full.whitening.unwhiten(shard.rows.decode())  # type: ignore[union-attr]
        psi = codes.whitening.whiten(phi)
        expected = SignRows.stored(encode_signs(psi, psi.norm(dim=1), codes.sketch))
        assert isinstance(small.rows, SignRows)
        agree = (small.rows.signs() == expected.signs()).float().mean()
        assert float(agree) > 0.995, "but for rounding"
        torch.testing.assert_close(small.rows.norms, expected.norms, rtol=1e-3, atol=1e-6)
        assert (small.rows.norms <= shard.rows.norms * (1 + 1e-4)).all()


def test_products_along_the_kept_directions_are_nearly_those_of_all(runs: tuple[Index, Index]) -> None:
    """Twelve passages span twelve directions a block, all of which are kept; queries reach beyond them."""
    full, codes = runs
    tracer = Tracer(full, "cpu")
    phi, kept = tracer.features(QUERIES), Whitening(codes.whitening.blocks)
    passages = torch.cat([full.whitening.unwhiten(s.rows.decode()) for s in full.shards()])  # type: ignore[union-attr]
    for name in ("none", "train"):
        psi = [w.whiten(passages) for w in (full.whitening, kept)]
        exact, found = (
            QueryTerms(phi, w).vectors(name) @ rows.T
            for w, rows in zip((full.whitening, kept), psi, strict=True)
        )
        torch.testing.assert_close(found, exact, rtol=1e-3, atol=1e-3 * float(exact.abs().max()))


@pytest.mark.parametrize("method", ["trackstar", "trackstar,hessian=train", "cosine", "dot"])
def test_every_method_finds_a_passage_that_is_the_query(runs: tuple[Index, Index], method: str) -> None:
    tracer, queries = Tracer(runs[1], "cpu"), [("Gold has the symbol", "Au."), ("Peru's capital:", "Lima!")]
    hits = tracer.trace(
        queries,
        method,
        3,
        queries if method == "trackstar" else None,
        0.1 if method == "trackstar" else "auto",
    )
    for hit, id in zip(hits, ("gold", "lima"), strict=True):
        assert id in [passage.id for passage in hit.proponents]


def test_it_is_checked_and_repaired(runs: tuple[Index, Index]) -> None:
    _, codes = runs
    path, before = codes.folder.path, contents(codes.folder.path)
    assert pp.check(path).sound
    for name in ("whitening/01.safetensors", "index/00000.safetensors"):
        (path / name).write_bytes(before[name][:-1] + b"?")
    assert {finding.file for finding in pp.check(path).findings} == {
        "whitening/01.safetensors",
        "index/00000.safetensors",
    }
    assert pp.repair(path, device="cpu").sound
    assert contents(path) == before
    assert not (path / "hessian").exists()


def test_what_it_does_not_bound_is_refused(runs: tuple[Index, Index]) -> None:
    with pytest.raises(InputError, match=r"keeps 512 of 1,024 coordinates.*128 bytes or more"):
        pp.trace(runs[1], QUERIES, k=2, device="cpu", certified=0.9)
