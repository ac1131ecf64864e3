"""What every file of a run must hold beside the others, whatever its checksum says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from proponent.files import checksum, read_json
from proponent.gradients.spec import FeatureSpec
from proponent.index.manifest import COPY
from proponent.index.run import PASSAGE, Index, RunFolder
from proponent.index.sketch import kept_width
from proponent.index.storage import read_table, read_tensors


def damage(folder: RunFolder, name: str, expected: str | None) -> str | None:
    """What is wrong with the bytes of a file of a run, where it is kept; None where they were so written."""
    path = folder.path / name
    folder.kept.fetch(path)
    if not path.is_file():
        return "missing"
    try:
        found = checksum(path)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return None if found == expected else "damaged (its checksum differs)"


def misfits(index: Index, name: str) -> Iterable[str]:
    """What a file of sound bytes holds that does not fit the run, in words.

    Raises InputError, LookupError, TypeError, ValueError or RuntimeError for one that is something else.
    """
    view = _VIEWS.get(name.split("/")[0].split(".")[0])
    return view(index, name) if view else ()


def _of_run(index: Index, name: str) -> Iterator[str]:
    FeatureSpec.from_dict(index.spec)
    if (copy := index.summary.get(COPY)) is not None and copy != read_json(index.folder.manifest):
        yield "differs from its copy in done.json"


def _of_examples(index: Index, name: str) -> Iterator[str]:
    table = read_table(index.folder.path / name, PASSAGE)
    rows = index.summary["shards"][_number(name)]
    if len(table) != rows:
        yield f"holds {len(table)} rows where done.json has {rows}"


def _of_index(index: Index, name: str) -> Iterator[str]:
    stored, n = _tensors(index, name), index.summary["shards"][_number(name)]
    shapes = {"codes": (n, index.dim), "scale": (n,), "norms": (n,), "feature_norm": (n,)}
    if index.sketch is not None:
        shapes |= {"codes": (n, index.sketch.size // 8), "residual": (n,)}
    yield from _shapes(stored, shapes)
    yield from _not_finite(stored)


def _of_hessian(index: Index, name: str) -> Iterator[str]:
    stored, width = _tensors(index, name), index.dim // index.blocks
    entries = {"triangle": (width * (width + 1) // 2,), "fourth": (1,), "count": (1,)}
    yield from _shapes(stored, {"trace": (3,)} if index.white else entries)
    yield from _not_finite(stored)
    rows = int(stored["trace"][2] if index.white else stored["count"][0])
    if rows != len(index):
        yield f"is the mean over {rows} rows where done.json has {len(index)}"


def _of_whitening(index: Index, name: str) -> Iterator[str]:
    stored, width = _tensors(index, name), index.dim // index.blocks
    entries: dict[str, tuple[int, ...]] = {"eigenvalues": (width,), "damping": (2,)}
    if (kept := kept_width(index.spec, index.blocks, width)) < width:
        entries["basis"] = (width, kept)
    else:
        entries["factor"] = (width * (width + 1) // 2,)
    yield from _shapes(stored, {"identity": (2,)} if index.white else entries)
    yield from _not_finite(stored)


def _of_sides(index: Index, name: str) -> Iterator[str]:
    stored, side = _tensors(index, name), int(index.manifest["side"])
    yield from _names(stored, index, ("in", "out"))
    yield from (
        f"{key} has the shape {[*tensor.shape]}, and the projected side is {side}"
        for key, tensor in stored.items()
        if tensor.ndim != 2 or tensor.shape[1] != side
    )
    yield from _not_finite(stored)


def _of_moments(index: Index, name: str) -> Iterator[str]:
    stored = _tensors(index, name)
    yield from _names(stored, index, ("rows", "columns", "of_mean"))
    yield from _not_finite(stored)
    sides = name_in(index.folder, index.folder.sides)
    if not damage(index.folder, sides, index.summary["checksums"].get(sides)):
        yield from _beside(index, stored, _tensors(index, sides))


def _beside(index: Index, stored: Mapping[str, Tensor], sides: Mapping[str, Tensor]) -> Iterator[str]:
    """What does not fit of second moments beside the projections that they are folded into."""
    for matrix in _matrices(index):
        found = [prod(stored[f"{matrix}/{part}"].shape) for part in ("columns", "rows")]
        expected = [len(sides[f"{matrix}/{part}"]) for part in ("in", "out")]
        if found != expected:
            yield f"{matrix} has moments of {found} inputs and outputs and sides of {expected}"


def _tensors(index: Index, name: str) -> dict[str, Tensor]:
    return read_tensors(index.folder.path / name)


def _shapes(stored: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]]) -> Iterator[str]:
    found = {name: tuple(tensor.shape) for name, tensor in stored.items()}
    if found != expected:
        yield f"holds {found} where the run has {dict(expected)}"


def _not_finite(stored: Mapping[str, Tensor]) -> Iterator[str]:
    broken = [name for name, tensor in stored.items() if not bool(torch.isfinite(tensor).all())]
    if broken:
        yield f"{', '.join(broken)} are not all finite"


def _names(stored: Mapping[str, Tensor], index: Index, parts: tuple[str, ...]) -> Iterator[str]:
    if set(stored) != {f"{matrix}/{part}" for matrix in _matrices(index) for part in parts}:
        yield "holds other matrices than run.json names"


def _matrices(index: Index) -> list[str]:
    """Names of the matrices of all blocks: those of their first modules."""
    return [name.split("+")[0] for names in index.manifest["blocks"].values() for name in names]


def _number(name: str) -> int:
    return int(Path(name).stem)


def name_in(folder: RunFolder, path: Path) -> str:
    """What ``done.json`` calls a file of a run."""
    return path.relative_to(folder.path).as_posix()


_VIEWS: Mapping[str, Callable[[Index, str], Iterable[str]]] = {
    "run": _of_run,
    "examples": _of_examples,
    "index": _of_index,
    "hessian": _of_hessian,
    "whitening": _of_whitening,
    "sides": _of_sides,
    "moments": _of_moments,
}
