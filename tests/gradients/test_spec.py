"""The specification of features: its checks, its digest and its way to a file and back."""

from __future__ import annotations

import hashlib
import json
from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path
from typing import Any

import pytest

from proponent.errors import InputError
from proponent.gradients.outputs import OUTPUT_FUNCTIONS
from proponent.gradients.spec import DTYPES, OUTPUTS, FeatureSpec

SPEC = FeatureSpec("hub/model")


@pytest.mark.parametrize(
    ("name", "value"),
    [("dim", 0), ("dim", -3), ("layer_groups", 0), ("batch_tokens", 0), ("moment_sample", -3)],
)
def test_counts_are_positive(name: str, value: int) -> None:
    with pytest.raises(InputError, match=rf"^{name} is {value}; it must be at least 1$"):
        replace(SPEC, **{name: value})  # type: ignore[arg-type]


def test_kronecker_moments_are_of_a_larger_sample() -> None:
    assert SPEC.moment_sample == 256
    assert FeatureSpec("m", second_moment="kronecker").moment_sample == 1024
    assert FeatureSpec("m", second_moment="kronecker", moment_sample=9).moment_sample == 9


def test_a_chunk_has_two_tokens() -> None:
    with pytest.raises(InputError, match="max_length is 1"):
        FeatureSpec("m", max_length=1)
    assert FeatureSpec("m", max_length=2).max_length == 2


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("output", "entropy", "output is 'entropy'; choose one of loss, margin, logit"),
        ("dtype", "float16", "dtype is 'float16'; choose one of float32, bfloat16"),
    ],
)
def test_choices(name: str, value: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        FeatureSpec("m", **{name: value})  # type: ignore[arg-type]
    assert str(caught.value) == message


def test_every_choice_is_taken() -> None:
    assert {FeatureSpec("m", output=output).output for output in OUTPUTS} == set(OUTPUT_FUNCTIONS)
    assert [FeatureSpec("m", dtype=dtype).dtype for dtype in DTYPES] == ["float32", "bfloat16"]


def test_a_second_moment_that_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"sampel' is neither 'sample', 'kronecker', 'none' nor a file"):
        FeatureSpec("m", second_moment="sampel")
    with pytest.raises(InputError, match="nor a file"):
        FeatureSpec("m", second_moment=str(tmp_path))  # a folder


def test_it_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        SPEC.dim = 3  # type: ignore[misc]


def test_paths_are_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a run can be traced from another directory; a hub id is left as it is."""
    (tmp_path / "model").mkdir()
    (tmp_path / "optimizer.pt").touch()
    monkeypatch.chdir(tmp_path)
    spec = FeatureSpec("model", second_moment="optimizer.pt")
    assert spec.model == str(tmp_path / "model")
    assert spec.second_moment == str(tmp_path / "optimizer.pt")
    assert spec == FeatureSpec(str(tmp_path / "model"), second_moment=str(tmp_path / "optimizer.pt"))
    assert FeatureSpec("hub/model").model == "hub/model"


def test_round_trip_through_json(tmp_path: Path) -> None:
    checkpoint = tmp_path / "optimizer.pt"
    checkpoint.touch()
    spec = FeatureSpec("hub/model", 64, 2, str(checkpoint), 7, "margin", 9, 33, 0.25, "bfloat16", 5)
    found = FeatureSpec.from_dict(json.loads(json.dumps(spec.to_dict())))
    assert found == spec
    assert found.digest() == spec.digest()
    assert spec.to_dict() == {
        "model": "hub/model",
        "dim": 64,
        "layer_groups": 2,
        "second_moment": str(checkpoint),
        "moment_sample": 7,
        "output": "margin",
        "max_length": 9,
        "batch_tokens": 33,
        "damping": 0.25,
        "dtype": "bfloat16",
        "seed": 5,
        "hessian": "train",
        "size": 0,
    }


def test_a_spec_that_is_read_back_outlives_its_checkpoint(tmp_path: Path) -> None:
    checkpoint = tmp_path / "optimizer.pt"
    checkpoint.touch()
    spec = FeatureSpec("m", second_moment=str(checkpoint))
    checkpoint.unlink()
    assert FeatureSpec.from_dict(spec.to_dict()) == spec


def test_a_spec_of_defaults_alone() -> None:
    assert FeatureSpec.from_dict({"model": "m"}) == FeatureSpec("m")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model": "m", "zeal": 1, "age": 2}, r"unknown settings \['age', 'zeal'\]"),
        ({"dim": 4}, "'model'"),
        ({"model": "m", "dim": "many"}, "the run's spec cannot be used"),
        ({"model": "m", "dim": 0}, "dim is 0"),
    ],
)
def test_a_spec_that_cannot_be_read_back(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        FeatureSpec.from_dict(values)


def test_the_digest_sees_every_field(tmp_path: Path) -> None:
    checkpoint = tmp_path / "optimizer.pt"
    checkpoint.touch()
    changes: dict[str, Any] = {
        "model": "hub/other",
        "dim": 17,
        "layer_groups": 3,
        "second_moment": str(checkpoint),
        "moment_sample": 18,
        "output": "logit",
        "max_length": 19,
        "batch_tokens": 20,
        "damping": 0.5,
        "dtype": "bfloat16",
        "seed": 1,
        "hessian": "identity",
        "size": 64,
    }
    assert changes.keys() == {f.name for f in fields(FeatureSpec)}
    digests = {replace(SPEC, **{name: value}).digest() for name, value in changes.items()}
    assert len(digests | {SPEC.digest()}) == len(changes) + 1


def test_the_digest_is_of_sorted_json() -> None:
    text = (
        '{"batch_tokens": 2048, "damping": "oas", "dim": 65536, "dtype": "float32", '
        '"hessian": "train", "layer_groups": 8, "max_length": 0, "model": "hub/model", '
        '"moment_sample": 256, "output": "loss", "second_moment": "sample", "seed": 0, "size": 0}'
    )
    assert SPEC.digest() == hashlib.sha256(text.encode()).hexdigest()[:16]


@pytest.mark.parametrize(
    ("size", "found"),
    [("4KB", 4096), ("4k", 4096), ("64B", 64), (512, 512), ("full", 0), (0, 0), ("128KB", 2**17)],
)
def test_sizes_are_bytes_in_words_or_numbers(size: int | str, found: int) -> None:
    assert replace(SPEC, size=size).size == found


@pytest.mark.parametrize("size", ["3KB", "1MB", 32, "", "KB", "4GB", -4, "256KB", "0.5KB"])
def test_sizes_that_are_none(size: int | str) -> None:
    with pytest.raises(InputError, match=r"size is .*give 64B, 128B"):
        replace(SPEC, size=size)
