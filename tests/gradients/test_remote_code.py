"""Python code that comes with a model runs for those who ask for it, and for nobody else."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from tests.folders import edit_config, refusal

import proponent
from proponent.gradients.model import load_model

CODE = """
import pathlib
pathlib.Path({marker!r}).touch()
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
class OwnConfig(LlamaConfig):
    model_type = "own"
class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig
"""


@pytest.fixture
def marker(copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the model's own code, if it runs, leaves a file."""
    marker = tmp_path / "ran"
    (copy / "own.py").write_text(CODE.format(marker=str(marker)))
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("standard input was read"))
    return marker


OWN = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnForCausalLM"}


def test_code_of_a_model_is_not_run(copy: Path, marker: Path) -> None:
    edit_config(copy, model_type="own", architectures=["OwnForCausalLM"], auto_map=OWN)
    assert refusal(copy) == (
        f"model '{copy}' cannot be loaded: it needs Python code of its own, which is not run; "
        "pass trust_remote_code=True if you trust whoever wrote it"
    )
    assert not marker.exists()


def test_code_of_a_tokenizer_is_not_run(copy: Path, marker: Path) -> None:
    (copy / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": [null, "own.Own"]}}'
    )
    assert "has no tokenizer that can be loaded: it needs Python code of its own, which is" in refusal(copy)
    assert not marker.exists()


def test_code_of_a_model_that_transformers_knows_is_not_run_either(copy: Path, marker: Path) -> None:
    edit_config(copy, auto_map={"AutoModelForCausalLM": "own.OwnForCausalLM"})
    assert type(load_model(str(copy), device="cpu").causal).__module__.startswith("transformers.models.llama")
    assert not marker.exists()


def test_code_of_a_model_runs_for_those_who_ask_for_it(copy: Path, marker: Path) -> None:
    edit_config(copy, model_type="own", architectures=["OwnForCausalLM"], auto_map=OWN)
    model = load_model(str(copy), device="cpu", trust_remote_code=True)
    assert type(model.causal).__name__ == "OwnForCausalLM"
    assert marker.exists()


def test_every_load_says_whether_code_may_run() -> None:
    calls = [
        (path.name, node)
        for path in Path(proponent.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).endswith(("from_pretrained", "SentenceTransformer"))
    ]
    assert len(calls) >= 5
    for name, call in calls:
        assert "trust_remote_code" in {keyword.arg for keyword in call.keywords}, (name, ast.unparse(call))
