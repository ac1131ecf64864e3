"""From a corpus to a finished run, whatever happens on the way."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.killing import Death, Killed
from tests.models import byte_tokenizer, make_model
from tests.reliability.forked import forked
from tests.runs import (
    CHUNKS,
    CORPUS,
    LONG,
    TEXTS,
    SlowRun,
    contents,
    model_without_letter,
    small_spec,
)
from torch import Tensor

from proponent.attribute.tracing import Tracer
from proponent.build import indexing, plan, tasks
from proponent.build.indexing import build_index, build_indexes
from proponent.build.marks import Marks
from proponent.corpus import Corpus, Example
from proponent.errors import InputError
from proponent.gradients.features import FeatureExtractor
from proponent.gradients.model import LanguageModel, load_model
from proponent.gradients.spec import FeatureSpec
from proponent.index.run import Index, RunFolder
from proponent.progress import Silent


@pytest.fixture
def loaded(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> LanguageModel:
    """The model, loaded once for all the lives of a test."""
    model = load_model(str(model_folder), device="cpu")
    monkeypatch.setattr(indexing, "load_model", lambda *_: model)
    return model


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "SHARD_ROWS", 3)
    monkeypatch.setattr(plan, "SHARD_TOKENS", 100)


def whitened(index: Index) -> Tensor:
    """ψ [n, d] of all rows."""
    return torch.cat([shard.rows.decode() for shard in index.shards()])


# --- what is in a run -------------------------------------------------------------------------------


def test_features_are_those_of_the_definition(run: SlowRun) -> None:
    found = whitened(run.index).double()
    assert found.shape == (len(CHUNKS), 64)
    back = run.index.whitening.unwhiten(found)
    assert ((back - run.passages).norm(dim=1) / run.passages.norm(dim=1)).max() < 2e-3


def test_bfloat16_runs_weigh_coordinates_as_float32_runs_do(model_folder: Path, tmp_path: Path) -> None:
    """Second moments of gradients that bfloat16 has rounded would change every feature."""
    moments = []
    for dtype in ("float32", "bfloat16"):
        spec = small_spec(model_folder, dtype=dtype)
        moments.append(build_index(CORPUS, spec, tmp_path / dtype, "cpu").moments)
        Tracer(tmp_path / dtype, "cpu")  # does not take the rounded model for another one
    assert moments[0].keys() == moments[1].keys()
    assert all(torch.equal(moments[0][name], moments[1][name]) for name in moments[0])


def test_r_train_is_the_mean_over_the_whole_corpus(run: SlowRun) -> None:
    for block, part in zip(run.index.hessian(), run.passages.split(16, 1), strict=True):
        expected = part.T @ part / len(part)
        error = (block.matrix.double() - expected).abs().max() / expected.diagonal().max()
        assert error < 1e-3


def test_norms_are_of_exact_features(run: SlowRun) -> None:
    found = torch.cat([shard.feature_norms for shard in run.index.shards()])
    torch.testing.assert_close(found.double(), run.passages.norm(dim=1), rtol=1e-3, atol=0)


def test_passages_are_in_corpus_order_with_long_ones_cut(run: SlowRun) -> None:
    passages = run.index.passages(range(len(run.index)))
    assert [passages[n].id for n in range(len(passages))] == CHUNKS
    assert [passages[n].source for n in range(2, 5)] == ["long"] * 3
    assert "".join(passages[n].text for n in range(2, 5)) == LONG
    assert passages[0].text == TEXTS["paris"]


def test_what_was_passed_over_is_counted(run: SlowRun) -> None:
    summary = run.index.summary
    assert summary["skipped"] == {"empty": 2, "too_short": 0, "not_finite": []}
    assert summary["rows"] == len(CHUNKS)
    letters = sum(len(text) for text in TEXTS.values() if text.strip())
    assert summary["tokens"] == letters + len(CHUNKS)  # each chunk has its beginning-of-text token
    assert run.index.manifest["corpus"]["passages"] == len(TEXTS)


def test_passages_with_nothing_to_predict_are_counted(tmp_path: Path) -> None:
    model = make_model(tmp_path / "model")
    byte_tokenizer(with_bos=False).save_pretrained(model)
    made = build_index(Corpus.of(["a", "", "bc", "d", "efg"]), small_spec(model), tmp_path / "run", "cpu")
    assert made.summary["skipped"] == {"empty": 1, "too_short": 2, "not_finite": []}
    assert [passage.text for passage in made.passages([0, 1]).values()] == ["bc", "efg"]


@pytest.mark.parametrize("shard_rows", [1, 5])
def test_shards_are_cut_by_rows(
    shard_rows: int, loaded: LanguageModel, run: SlowRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "SHARD_ROWS", shard_rows)
    made = build_index(CORPUS, FeatureSpec.from_dict(run.index.spec), tmp_path / "run", "cpu")
    whole, rest = divmod(len(CHUNKS), shard_rows)
    assert made.summary["shards"] == [shard_rows] * whole + [rest] * (rest > 0)
    assert made.summary["skipped"] == run.index.summary["skipped"]
    one, other = whitened(made), whitened(run.index)
    assert ((one - other).norm(dim=1) / other.norm(dim=1)).max() < 2e-3


def test_shards_are_cut_by_tokens(loaded: LanguageModel, model_folder: Path) -> None:
    spec = small_spec(model_folder)
    tokens = [len(chunk.tokens) for e in CORPUS for chunk in loaded.encoder.chunks(e, spec.max_length)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "SHARD_TOKENS", 60)
        shards = list(plan.cut_shards(CORPUS, loaded.encoder, spec.max_length))
    assert [size for shard in shards for size in map(len, shard.rows)] == tokens
    assert all(shard.tokens == sum(map(len, shard.rows)) <= 60 for shard in shards)
    for shard, following in pairwise(shards):
        assert shard.tokens + len(following.rows[0]) > 60


# --- killed and started again -----------------------------------------------------------------------


def test_staged_shards_come_back_as_they_were_cut(
    loaded: LanguageModel, model_folder: Path, small_shards: None, tmp_path: Path
) -> None:
    shards = list(plan.cut_shards(CORPUS, loaded.encoder, small_spec(model_folder).max_length))
    assert len(shards) > 3
    marks = Marks(RunFolder(tmp_path / "run"))
    plan.stage([marks], shards)
    again = Marks(marks.folder)
    assert [plan.read_staged(again, number) for number in range(len(shards))] == shards


@pytest.mark.parametrize("step", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_at_every_moment_it_ends_with_the_same_bytes(
    step: int, loaded: LanguageModel, model_folder: Path, small_shards: None, tmp_path: Path
) -> None:
    """Its folder as a kill would leave it before and after every change, or each so many, gone on from."""
    spec = small_spec(model_folder)
    whole, copies = tmp_path / "whole", tmp_path / "copies"
    known: list[set[tuple[str, bytes]]] = []

    def copying(operation: Callable[..., Any]) -> Callable[..., Any]:
        def operate(*arguments: Any, **options: Any) -> Any:
            if whole.is_dir() and (found := set(contents(whole).items())) not in known[-1:]:
                shutil.copytree(whole, copies / f"{len(known)}")
                known.append(found)
            return operation(*arguments, **options)

        return operate

    with pytest.MonkeyPatch.context() as patch:
        for name in ("fsync", "replace", "unlink", "rmdir"):
            patch.setattr(os, name, copying(getattr(os, name)))
        build_index(CORPUS, spec, whole, "cpu")
    expected = contents(whole)
    assert len(known) > 50  # 22 files, each half written and then whole; and 8 that are removed in the end
    for number in range(0, len(known), step):
        copy = copies / str(number)
        for part in copy.rglob("*.part"):
            part.write_bytes(part.read_bytes()[:-7])
        build_index(CORPUS, spec, copy, "cpu")
        assert contents(copy) == expected, f"killed after {sorted(name for name, _ in known[number])}"


@pytest.mark.parametrize("operations", [5, 26, 47, 71])
def test_killed_once_it_ends_with_the_same_bytes(
    operations: int, loaded: LanguageModel, model_folder: Path, small_shards: None, tmp_path: Path
) -> None:
    spec = small_spec(model_folder)
    with pytest.MonkeyPatch.context() as patch:
        Death(patch, after=operations)
        with pytest.raises(Killed):
            build_index(CORPUS, spec, tmp_path / "killed", "cpu")
    with pytest.raises(InputError, match="unfinished"):
        Index(tmp_path / "killed")
    build_index(CORPUS, spec, tmp_path / "killed", "cpu")
    build_index(CORPUS, spec, tmp_path / "whole", "cpu")
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def rows_computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of rows of every pass of the model from now on, as they come."""
    computed: list[int] = []
    extract = tasks.extract

    def noted(extractors: Any, rows: Sequence[Sequence[int]], *rest: Any) -> list[Tensor]:
        computed.append(len(rows))
        return extract(extractors, rows, *rest)

    monkeypatch.setattr(tasks, "extract", noted)
    return computed


def test_going_on_does_not_compute_again_what_is_done(
    loaded: LanguageModel,
    model_folder: Path,
    small_shards: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spec = small_spec(model_folder)
    computed = rows_computed(monkeypatch)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("proponent.build.tasks.read_staged", stopping_at(2))
        with pytest.raises(Killed):
            build_index(CORPUS, spec, tmp_path / "run", "cpu")
    before = len(computed)
    made = build_index(CORPUS, spec, tmp_path / "run", "cpu")
    assert before == 2
    assert computed[before:] == made.summary["shards"][2:]


def test_a_process_that_is_really_killed(
    loaded: LanguageModel, model_folder: Path, small_shards: None, tmp_path: Path
) -> None:
    corpus, spec = tmp_path / "corpus.txt", small_spec(model_folder, damping="oas")
    corpus.write_text("".join(f"{text}\n" for text in TEXTS.values() if text.strip()))
    replace, replaced = os.replace, count(1)

    def mortal(*paths: Any) -> None:
        if next(replaced) == 12:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(*paths)

    def work() -> None:
        os.replace = mortal
        build_index(Corpus.read(corpus), spec, tmp_path / "killed", "cpu")

    assert forked(work)
    left = contents(tmp_path / "killed")
    assert any(name.endswith(".part") for name in left)
    build_index(Corpus.read(corpus), spec, tmp_path / "killed", "cpu")
    build_index(Corpus.read(corpus), spec, tmp_path / "whole", "cpu")
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    kept = {name for name in left if not name.endswith(".part") and "work/" not in name} - {".lock"}
    assert contents(tmp_path / "killed").items() >= {name: left[name] for name in kept}.items()


def test_a_full_disk_keeps_what_is_done(
    loaded: LanguageModel, model_folder: Path, small_shards: None, tmp_path: Path
) -> None:
    spec = small_spec(model_folder)
    calls = count()
    sync = os.fsync

    def fills_up(descriptor: int) -> None:
        if next(calls) >= 13:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(descriptor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", fills_up)
        with pytest.raises(InputError, match="no space left on the disk; free some and start again"):
            build_index(CORPUS, spec, tmp_path / "run", "cpu")
    assert not [name for name in contents(tmp_path / "run") if name.endswith(".part")]
    build_index(CORPUS, spec, tmp_path / "run", "cpu")
    build_index(CORPUS, spec, tmp_path / "whole", "cpu")
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")


def test_a_finished_run_is_left_as_it_is(loaded: LanguageModel, run: SlowRun) -> None:
    before = contents(run.index.folder.path)
    with pytest.MonkeyPatch.context() as patch:
        Death(patch, after=0)
        build_index(CORPUS, FeatureSpec.from_dict(run.index.spec), run.index.folder.path, "cpu")
    assert contents(run.index.folder.path) == before


def test_several_runs_from_one_pass_are_those_of_passes_of_their_own(
    loaded: LanguageModel, model_folder: Path, small_shards: None, tmp_path: Path
) -> None:
    specs = {
        "corrected": small_spec(model_folder),
        "plain": small_spec(model_folder, second_moment="none", dim=40, damping=2.0),
    }
    for name, spec in specs.items():
        build_index(CORPUS, spec, tmp_path / "own" / name, "cpu")
    # one of the two is ahead of the other when it is killed
    for operations in (30, 60):
        with pytest.MonkeyPatch.context() as patch:
            Death(patch, after=operations)
            with pytest.raises(Killed):
                build_indexes(CORPUS, {tmp_path / "both" / n: spec for n, spec in specs.items()}, "cpu")
    build_indexes(CORPUS, {tmp_path / "both" / name: spec for name, spec in specs.items()}, "cpu")
    assert contents(tmp_path / "both") == contents(tmp_path / "own")


# --- refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"seed": 1}, "spec.seed was 0, now 1"),
        ({"damping": 2.0}, "spec.damping was 0.5, now 2.0"),
        ({"dim": 200}, "spec.dim was 70, now 200; side was 4, now 7"),
        ({"layer_groups": 1}, "spec.layer_groups was 2, now 1"),
        ({"second_moment": "none"}, "spec.second_moment was sample, now none"),
    ],
)
def test_another_spec_is_refused(
    changes: dict[str, Any], complaint: str, loaded: LanguageModel, run: SlowRun, model_folder: Path
) -> None:
    before = contents(run.index.folder.path)
    with pytest.raises(InputError) as raised:
        build_index(CORPUS, small_spec(model_folder, **changes), run.index.folder.path, "cpu")
    assert complaint in str(raised.value)
    assert "give another folder, or the same settings to go on" in str(raised.value)
    assert contents(run.index.folder.path) == before


@pytest.mark.parametrize("change", ["text", "id", "order", "more"])
def test_another_corpus_is_refused(
    change: str, loaded: LanguageModel, run: SlowRun, model_folder: Path
) -> None:
    examples = list(CORPUS)
    if change == "text":
        examples[0] = Example("paris", "The capital of France is Lyon!!", "")
    elif change == "id":
        examples[0] = Example("Paris", TEXTS["paris"], "")
    elif change == "order":
        examples[0], examples[2] = examples[2], examples[0]
    else:
        examples.append(Example("more", "One more.", ""))
    with pytest.raises(InputError, match=r"corpus.fingerprint was \w+, now \w+;") as raised:
        build_index(Corpus.of(examples), small_spec(model_folder), run.index.folder.path, "cpu")
    assert ("corpus.passages was 12, now 13" in str(raised.value)) == (change == "more")


def test_another_model_or_tokenizer_in_the_same_place_is_refused(tmp_path: Path) -> None:
    model = make_model(tmp_path / "model")
    corpus = Corpus.of(["one", "two"])
    build_index(corpus, small_spec(model), tmp_path / "run", "cpu")
    byte_tokenizer(with_bos=False).save_pretrained(model)
    with pytest.raises(InputError, match=r"settings: tokenizer was \w+\.\.\., now \w+\.\.\.; give"):
        build_index(corpus, small_spec(model), tmp_path / "run", "cpu")
    make_model(model, seed=1)
    with pytest.raises(InputError, match=r"settings: model was \w+, now \w+; give"):
        build_index(corpus, small_spec(model), tmp_path / "run", "cpu")


def test_a_folder_of_other_things_is_refused(
    loaded: LanguageModel, model_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match="exists and is not a run"):
        build_index(CORPUS, small_spec(model_folder), tmp_path, "cpu")
    assert contents(tmp_path) == {"letter.txt": b"dear"}


def not_an_optimizer(folder: Path) -> dict[str, Any]:
    torch.save({"a": torch.ones(2)}, folder / "optimizer.pt")
    return {"second_moment": str(folder / "optimizer.pt")}


@pytest.mark.parametrize(
    ("changes", "texts", "complaint"),
    [
        (lambda _: {"max_length": 65}, ["text"], "max_length is 65 but the model reads at most 64 tokens"),
        (lambda _: {"max_length": 3}, ["text"], "a max-length of 3 tokens is too short"),
        (lambda _: {"max_length": 3, "second_moment": "none"}, ["text"], "a max-length of 3 tokens is too"),
        (lambda _: {"dim": 3}, ["text"], "dim 3 is smaller than the number of blocks, 4"),
        (not_an_optimizer, ["text"], "not an optimizer checkpoint"),
        (lambda _: {}, [], "the corpus is empty"),
        (lambda _: {}, ["", " "], "all 2 passages are empty"),
    ],
)
def test_bad_input_leaves_no_folder(
    changes: Callable[[Path], dict[str, Any]],
    texts: list[str],
    complaint: str,
    loaded: LanguageModel,
    model_folder: Path,
    tmp_path: Path,
) -> None:
    with pytest.raises(InputError, match=complaint):
        build_index(Corpus.of(texts), small_spec(model_folder, **changes(tmp_path)), tmp_path / "run", "cpu")
    assert not (tmp_path / "run").exists()


def test_a_corpus_of_passages_without_a_token_to_predict_leaves_no_folder(tmp_path: Path) -> None:
    model = make_model(tmp_path / "model")
    byte_tokenizer(with_bos=False).save_pretrained(model)
    with pytest.raises(InputError, match="no passage of the corpus has a token to predict"):
        build_index(Corpus.of(["a", "b"]), small_spec(model), tmp_path / "run", "cpu")
    assert not (tmp_path / "run").exists()


# --- gradients that are not finite ------------------------------------------------------------------


def test_a_passage_without_a_finite_gradient_is_skipped_named_and_never_reaches_r(
    model_folder: Path, tmp_path: Path
) -> None:
    broken = model_without_letter(model_folder, tmp_path / "model", "z")
    examples = [Example(id, text, "") for id, text in {**TEXTS, "jazz": "Jazz is music."}.items()]
    spec = small_spec(broken, second_moment="none")
    made = build_index(Corpus.of(examples), spec, tmp_path / "with", "cpu")
    assert made.summary["skipped"]["not_finite"] == ["last", "jazz"]
    assert len(made) == len(CHUNKS) - 1
    assert [p.id for p in made.passages(range(len(made))).values()] == CHUNKS[:-1]

    sound = [example for example in examples if "z" not in example.text]
    without = build_index(Corpus.of(sound), spec, tmp_path / "without", "cpu")
    assert without.summary["skipped"]["not_finite"] == []
    for one, other in zip(made.hessian(), without.hessian(), strict=True):
        largest = float(other.matrix.diagonal().max())
        torch.testing.assert_close(one.matrix, other.matrix, rtol=0, atol=1e-3 * largest)
    one_psi, other_psi = whitened(made), whitened(without)
    assert one_psi.isfinite().all()
    assert ((one_psi - other_psi).norm(dim=1) / other_psi.norm(dim=1)).max() < 2e-3


def test_second_moments_of_a_sample_with_broken_passages_are_finite(
    model_folder: Path, tmp_path: Path
) -> None:
    broken = model_without_letter(model_folder, tmp_path / "model", "z")
    made = build_index(CORPUS, small_spec(broken), tmp_path / "run", "cpu")
    assert all(value.isfinite().all() for value in made.moments.values())
    assert made.summary["skipped"]["not_finite"] == ["last"]


# --- damaged, shared or changed while it is built ---------------------------------------------------


# What has to be made again before files of a kind in `work` are read.
LATER = {"rows": ("features",), "features": ("hessian_part", "whiten"), "hessian": ("hessian",)}


def stopped_in_the_end(folder: Path, spec: FeatureSpec) -> None:
    """A run that lacks nothing but done.json."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("proponent.build.stages.finish", killed)
        with pytest.raises(Killed):
            build_index(CORPUS, spec, folder, "cpu")


def killed(*_: object) -> None:
    raise Killed


@pytest.mark.parametrize("all_files", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_flipped_byte_in_an_unfinished_run_is_named_and_removing_the_file_is_enough(
    all_files: bool, loaded: LanguageModel, model_folder: Path, small_shards: None, tmp_path: Path
) -> None:
    """Of each file, or of one of each kind."""
    spec = small_spec(model_folder)
    expected = contents(build_index(CORPUS, spec, tmp_path / "whole", "cpu").folder.path)
    stopped_in_the_end(tmp_path / "stopped", spec)
    stopped = contents(tmp_path / "stopped")
    kinds = {re.sub(r"\d+", "", name): name for name in sorted(stopped.keys() - {"run.json"})}
    assert len(kinds) > 8
    for name in sorted(stopped.keys() - {"run.json"}) if all_files else kinds.values():
        copy = tmp_path / "copies" / name.replace("/", "-")
        shutil.copytree(tmp_path / "stopped", copy)
        for later in LATER.get(name.split("/")[1], ()) if name.startswith("work/") else ():
            for mark in (copy / "work" / "marks").glob(f"{later}-*"):
                mark.unlink()
        content = bytearray(stopped[name])
        content[len(content) // 2] ^= 1
        (copy / name).write_bytes(content)
        with pytest.raises(InputError, match=f"{name}: damaged .*; remove it and run the same command again"):
            build_index(CORPUS, spec, copy, "cpu")
        (copy / name).unlink()
        build_index(CORPUS, spec, copy, "cpu")
        assert contents(copy) == expected, name


def test_damaged_marks_are_found(
    loaded: LanguageModel, model_folder: Path, small_shards: None, tmp_path: Path
) -> None:
    spec = small_spec(model_folder)
    expected = contents(build_index(CORPUS, spec, tmp_path / "whole", "cpu").folder.path)
    stopped_in_the_end(tmp_path / "run", spec)
    mark = tmp_path / "run" / "work" / "marks" / "hessian-00000.json"
    mark.write_text(mark.read_text().replace('.safetensors": "', '.safetensors": "0'))
    with pytest.raises(InputError, match=r"hessian-00000.json: damaged .*; remove it and run"):
        build_index(CORPUS, spec, tmp_path / "run", "cpu")
    mark.unlink()
    build_index(CORPUS, spec, tmp_path / "run", "cpu")
    assert contents(tmp_path / "run") == expected


def test_a_removed_shard_alone_is_computed_again(
    loaded: LanguageModel,
    model_folder: Path,
    small_shards: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spec = small_spec(model_folder)
    stopped_in_the_end(tmp_path / "run", spec)
    (tmp_path / "run" / "examples" / "00001.parquet").unlink()
    computed = rows_computed(monkeypatch)
    made = build_index(CORPUS, spec, tmp_path / "run", "cpu")
    assert computed == made.summary["shards"][1:2]


def test_a_run_is_built_by_one_process_at_a_time(
    loaded: LanguageModel, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("fcntl")
    spec = small_spec(model_folder)
    refused: list[str] = []
    extract = tasks.extract

    def meanwhile(*arguments: Any) -> list[Tensor]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(indexing, "load_model", killed)  # the refusal comes before what takes long
            patch.setattr(Corpus, "survey", killed)
            with pytest.raises(InputError) as raised:
                build_index(CORPUS, spec, tmp_path / "run", "cpu")
        refused.append(str(raised.value))
        return extract(*arguments)

    monkeypatch.setattr(tasks, "extract", meanwhile)
    build_index(CORPUS, spec, tmp_path / "run", "cpu")
    assert refused == [f"{tmp_path / 'run'}: another process is building this run; wait until it is done"]
    assert ".lock" not in contents(tmp_path / "run")


def test_the_lock_of_a_dead_process_does_not_count(
    loaded: LanguageModel, model_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").touch()
    build_index(CORPUS, small_spec(model_folder), tmp_path / "run", "cpu")
    assert ".lock" not in contents(tmp_path / "run")


@dataclass(frozen=True)
class ChangingCorpus(Corpus):
    """Another text in its last passage once it was surveyed."""

    reads: list[int] = field(default_factory=list)

    def __iter__(self) -> Iterator[Example]:
        self.reads.append(len(self.reads))
        for example in super().__iter__():
            changed = self.reads[-1] and example.id == "last"
            yield replace(example, text="yyy") if changed else example


def test_a_corpus_that_changes_meanwhile_is_refused_and_none_of_it_is_kept(
    loaded: LanguageModel, model_folder: Path, small_shards: None, tmp_path: Path
) -> None:
    spec = small_spec(model_folder)
    with pytest.raises(InputError, match="the corpus changed while it was indexed: it had 12 passages"):
        build_index(ChangingCorpus(CORPUS.sources), spec, tmp_path / "run", "cpu")
    assert not (tmp_path / "run" / "done.json").exists()
    build_index(CORPUS, spec, tmp_path / "run", "cpu")
    build_index(CORPUS, spec, tmp_path / "whole", "cpu")
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")


def test_a_chunk_with_the_id_of_another_passage_is_refused(
    loaded: LanguageModel, model_folder: Path, tmp_path: Path
) -> None:
    def of(**passages: str) -> Corpus:
        return Corpus.of([Example(id, text, f"place of {id}") for id, text in passages.items()])

    with pytest.raises(InputError) as raised:
        build_index(
            of(**{"a": LONG, "b": "text", "a#1": "text"}), small_spec(model_folder), tmp_path / "run", "cpu"
        )
    assert "place of a: passage 'a' is longer than 48 tokens" in str(raised.value)
    assert "'a#1', which is the id of the passage at place of a#1" in str(raised.value)
    assert not (tmp_path / "run").exists()
    # neither is cut, or not into so many chunks
    sound = of(**{"a": "text", "a#1": LONG, "b": LONG, "b#7": "text", "c#0": LONG})
    made = build_index(sound, small_spec(model_folder), tmp_path / "run", "cpu")
    ids = [passage.id for passage in made.passages(range(len(made))).values()]
    assert len(set(ids)) == len(ids)


# --- how far it has come ----------------------------------------------------------------------------


class Recorded(Silent):
    """Remembers the total of each stage, and its units and tokens."""

    def __init__(self) -> None:
        self.totals: dict[str, int | None] = {}
        self.steps: dict[str, list[tuple[int, int]]] = {}

    @contextmanager
    def stage(self, name: str, total: int | None, unit: str) -> Iterator[Callable[..., None]]:
        self.totals[name] = total
        steps = self.steps.setdefault(name, [])
        yield lambda units, tokens=0: steps.append((units, tokens))


@pytest.mark.parametrize("resumed", [0, 1, 2])
def test_progress_counts_rows_up_to_the_total(
    resumed: int, loaded: LanguageModel, model_folder: Path, small_shards: None, tmp_path: Path
) -> None:
    spec = small_spec(model_folder)
    if resumed:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("proponent.build.tasks.read_staged", stopping_at(resumed))
            with pytest.raises(Killed):
                build_index(CORPUS, spec, tmp_path / "run", "cpu")
    done = [mark["rows"] for mark in marks_of(tmp_path / "run", "features")]
    assert len(done) == resumed
    progress = Recorded()
    made = build_index(CORPUS, spec, tmp_path / "run", "cpu", progress)
    assert progress.totals["gradients"] == len(made)
    assert progress.totals.get("second moments") == (None if resumed else len(CHUNKS) - 2)
    units, tokens = zip(*progress.steps["gradients"], strict=True)
    assert sum(units) == len(made)
    assert units[0] == sum(done)
    assert not tokens[0], "what was done before counts no tokens a second"
    assert len([count for count in tokens if count]) >= len(made.summary["shards"]) - resumed


def stopping_at(shard: int) -> Callable[..., Any]:
    def read(marks: Any, number: int) -> Any:
        if number == shard:
            raise Killed
        return plan.read_staged(marks, number)

    return read


def marks_of(run: Path, task: str) -> list[dict[str, Any]]:
    marks = sorted((run / "work" / "marks").glob(f"{task}-*.json"))
    return [json.loads(mark.read_text()) for mark in marks]


# --- memory -----------------------------------------------------------------------------------------


def test_no_more_than_a_shard_of_features_is_alive(
    loaded: LanguageModel, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "SHARD_ROWS", 2)
    made: list[weakref.ref[Tensor]] = []
    alive: list[int] = []
    extract = tasks.extract

    def noted(
        extractors: Sequence[FeatureExtractor], rows: Sequence[Sequence[int]], *rest: Any
    ) -> list[Tensor]:
        assert len(rows) <= 2
        alive.append(sum(reference() is not None for reference in made))
        features = extract(extractors, rows, *rest)
        made.extend(map(weakref.ref, features))
        return features

    monkeypatch.setattr(tasks, "extract", noted)
    build_index(CORPUS, small_spec(model_folder), tmp_path / "run", "cpu")
    assert len(alive) == len(CHUNKS) / 2
    assert max(alive) == 0


def test_the_manifest_tells_what_a_run_is_made_of(run: SlowRun, model_folder: Path) -> None:
    manifest = json.loads((run.index.folder.path / "run.json").read_text())
    assert manifest["spec"] == small_spec(model_folder).to_dict()
    assert list(manifest["blocks"]) == ["attention 0-0", "mlp 0-0", "attention 1-2", "mlp 1-2"]
    assert manifest["blocks"]["mlp 0-0"] == [
        "model.layers.0.mlp.gate_proj+model.layers.0.mlp.up_proj",
        "model.layers.0.mlp.down_proj",
    ]
    assert manifest["side"] == 4
