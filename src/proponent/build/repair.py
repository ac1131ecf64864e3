"""Making damaged files of a finished run again, with the same bytes, and nothing else.

The run becomes a build of its own in its work folder, in which all that is sound is linked and marked as
done; the ordinary tasks make the rest, and a file takes its place once it has the checksum that it had.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from proponent.build.compact import compacted_again, full_run
from proponent.build.folder import alone, remove_leftovers
from proponent.build.indexing import Work
from proponent.build.opening import open_build, require_same_model, with_model
from proponent.build.plan import StagedShard, cut_shards, head_chunks, passage_columns, stage
from proponent.build.soundness import REMOVE, Soundness, check
from proponent.build.tasks import (
    GROUP_SHARDS,
    START,
    Build,
    Task,
    factor,
    features,
    features_name,
    hessian,
    hessian_part,
    whiten,
)
from proponent.build.texts import WITH_CORPUS, cut_again, sampled_again
from proponent.build.totals import totals_again
from proponent.corpus.corpus import Corpus
from proponent.corpus.example import Chunk
from proponent.corpus.survey import Survey
from proponent.errors import InputError
from proponent.files import called, checksum, read_checksummed_json, write_json, written_whole
from proponent.gradients.layers import plan_layers
from proponent.gradients.model import LanguageModel, load_model
from proponent.gradients.spec import FeatureSpec
from proponent.index.manifest import ANEW, COMPACTED, COPY, MADE_WITH
from proponent.index.run import Index, RunFolder, RunName
from proponent.index.storage import write_table, write_tensors
from proponent.progress import Progress, Silent
from proponent.threads import torch_threads


def repair(
    run: RunName,
    corpus: Corpus | None = None,
    device: str | None = None,
    progress: Progress | None = None,
    trust_remote_code: bool = False,
    full: RunName | None = None,
) -> Soundness:
    """Make what ``check`` finds wrong in a finished run again; what it finds afterwards.

    Of an unfinished run, damaged files of the work are removed: the next build makes them.
    corpus: what the run was made of, needed for its texts, and where a passage of it was not kept.
    full: where the full run is that a compact one was made of, if it was moved.
    Interrupted and called again, it goes on.  Raises InputError where something needed is not there.
    """
    folder, progress = RunFolder(run), progress or Silent()
    found, made = check(run, progress), list[str]()
    if found.sound:
        return found
    with alone(folder):
        if not folder.done.is_file():
            for finding in found.findings:
                if finding.remedy == REMOVE:
                    folder.kept.remove(folder.path / finding.file)
        else:
            folder.kept.fetch_all()
            load = partial(_load, device, trust_remote_code)
            made = _made_again(folder, corpus, load, progress, full)
            remove_leftovers(folder)
    return replace(check(run), repaired=tuple(made))


def _made_again(
    folder: RunFolder,
    corpus: Corpus | None,
    load: Callable[[str], LanguageModel],
    progress: Progress,
    full: RunName | None,
) -> list[str]:
    """Make all damaged files of a finished run again; the names of those that are in their place."""
    made = _with_totals(folder, corpus, load)
    index, wrong = Index(folder.name), {finding.file for finding in check(folder.name).findings}
    damaged = [name for name in index.summary["checksums"] if name in wrong]
    if not damaged:
        return made
    with torch_threads(int(index.manifest[MADE_WITH]["threads"])):
        if COMPACTED not in index.manifest:
            return made + _Again(index, damaged, corpus, load, progress).run()
        again = RunFolder(folder.again)
        compacted_again(index, full_run(index, full), again, damaged)
        return made + [name for name in damaged if _put_back(index, again, name, progress)]


def _load(device: str | None, trust_remote_code: bool, name: str) -> LanguageModel:
    return load_model(name, device, trust_remote_code)


def _with_totals(folder: RunFolder, corpus: Corpus | None, load: Callable[[str], LanguageModel]) -> list[str]:
    """Make ``done.json`` or ``run.json`` again, which all else needs; the names of what was made."""
    try:
        Index(folder.name)
    except InputError as error:
        if called(folder.done) in str(error):
            totals_again(folder, corpus, load)
            return ["done.json"]
        totals = read_checksummed_json(folder.done)
        if (copy := totals.get(COPY)) is None:
            raise InputError(
                f"{called(folder.manifest)}: damaged, and this older run has no copy; {ANEW}"
            ) from error
        write_json(folder.manifest, copy)
        return ["run.json"]
    return []


@dataclass
class _Again:
    """A finished run as a build in its work folder, in which damaged files and what they need are missing."""

    index: Index
    damaged: Collection[str]
    corpus: Corpus | None
    load: Callable[[str], LanguageModel]
    progress: Progress
    build: Build = field(init=False)
    _model: LanguageModel | None = None

    def run(self) -> list[str]:
        """Make the damaged files; the names of those that have their old bytes, which are in their place."""
        folder = RunFolder(self.index.folder.again)
        for name in ("run.json", *self.index.summary["checksums"]):
            self._link(folder, name)
        self.build = open_build(folder)
        self._mark_sound()
        self._plan()
        if not self.build.marks.done(START):
            self._start()
        for block in self._numbers("hessian"):
            self._hessian(block)
        for block in self._numbers("whitening") if self.build.sketch is None else ():
            self._once(Task(factor, (block,)))
        if self.build.sketch is not None:
            self._features(self._numbers("index"))
        for group in sorted(self._groups()):
            for block in range(self.build.blocks):
                self._once(Task(factor, (block,)))
            self._features(self.build.groups[group])
            self._once(Task(whiten, (group,)))
        return [name for name in self.damaged if _put_back(self.index, folder, name, self.progress)]

    def _link(self, folder: RunFolder, name: str) -> None:
        link, target = folder.path / name, (self.index.folder.path / name).absolute()
        if name in self.damaged or link.exists():
            return
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(target)

    def _mark_sound(self) -> None:
        """Mark the tasks as done whose files are sound."""
        folder, blocks = self.build.folder, range(self.build.blocks)
        tasks = {START: [folder.moments, folder.sides]}
        if self.build.sketch is not None:
            tasks[START] += map(folder.whitening, blocks)
        else:
            tasks |= {Task(hessian, (b,)).name: [folder.hessian(b)] for b in blocks}
            tasks |= {Task(factor, (b,)).name: [folder.whitening(b)] for b in blocks}
        known = self.index.summary["checksums"]
        for task, files in tasks.items():
            names = [file.relative_to(folder.path).as_posix() for file in files]
            if not set(names) & set(self.damaged):
                found = {file: known[name] for file, name in zip(files, names, strict=True)}
                self.build.marks.write(task, found)

    def _numbers(self, place: str) -> list[int]:
        """Numbers of the damaged files of a folder of the run."""
        return sorted(int(Path(name).stem) for name in self.damaged if name.startswith(f"{place}/"))

    def _groups(self) -> set[int]:
        """Numbers of the groups of shards that are whitened again; none of a compact run."""
        compact = self.build.sketch is not None
        return set() if compact else {shard // GROUP_SHARDS for shard in self._numbers("index")}

    def _plan(self) -> None:
        """The token rows of the shards whose features are needed, and the texts that are damaged."""
        shards, texts = range(len(self.index.summary["shards"])), self._numbers("examples")
        needed = set(shards if self._numbers("hessian") else ())
        needed |= {shard for shard in shards if shard // GROUP_SHARDS in self._groups()}
        needed |= set(self._numbers("index"))
        cut = self._cut_again(needed | set(texts)) if needed or texts else (StagedShard() for _ in shards)
        dropped = set(self.index.summary["skipped"]["not_finite"])

        def with_texts() -> Iterator[StagedShard]:
            for number, shard in enumerate(cut):
                if number in texts:
                    kept = [passage for passage in shard.passages if passage.id not in dropped]
                    write_table(self.build.folder.examples(number), passage_columns(kept))
                yield shard

        stage([self.build.marks], with_texts(), needed)

    def _cut_again(self, needed: Collection[int]) -> Iterable[StagedShard]:
        """The shards of the corpus; without one, of the run's texts, those that are not needed empty."""
        texts = self._numbers("examples")
        if self.corpus is not None:
            self._survey()
            return cut_shards(self.corpus, self.model.encoder, self.spec.max_length)
        if texts:
            raise InputError(f"{called(self.index.folder.examples(texts[0]))}: damaged; {WITH_CORPUS}")
        return cut_again(self.index, self.model.encoder, self.spec.max_length, needed)

    @property
    def spec(self) -> FeatureSpec:
        """The spec that the run was made with."""
        return FeatureSpec.from_dict(self.index.spec)

    @property
    def model(self) -> LanguageModel:
        """The model, loaded when it is first needed."""
        if self._model is None:
            self._model = self.load(self.spec.model)
            require_same_model(self.index.folder.name, self.index.manifest, self._model)
        return self._model

    def _start(self) -> None:
        """Second moments and the projections that they are folded into."""
        path, folder = self.index.folder.name, self.build.folder
        plan = plan_layers(self.model, self.spec.dim, self.spec.layer_groups)
        survey = Survey(self.index.manifest["corpus"]["passages"], 0, "", ())
        samples = {self.spec.moment_sample: self._sample()}
        work = Work(Corpus.of([]), survey, self.model, {path: self.spec}, {}, samples, self.progress)
        checksums = dict[Path, str]()
        for file, tensors in work.first_files(path, plan, folder).items():
            write_tensors(file, tensors, partial(checksums.setdefault, file))
        self.build.marks.write(START, checksums)

    def _sample(self) -> list[Chunk]:
        if self.spec.second_moment not in ("sample", "kronecker") and not self.spec.size:
            return []
        if self.corpus is None:
            return sampled_again(self.index, self.model.encoder, self.spec.max_length)
        return head_chunks(self._survey().sample, self.model, self.spec.max_length)

    def _survey(self) -> Survey:
        """The corpus that was given, if it is the one that the run was made of."""
        assert self.corpus is not None
        survey = self.corpus.survey(self.spec.moment_sample, self.spec.seed)
        if survey.fingerprint != self.index.manifest["corpus"]["fingerprint"]:
            raise InputError(
                f"{self.index.folder.name}: was made of another corpus than is given; give the same files "
                "with the same options"
            )
        return survey

    def _hessian(self, block: int) -> None:
        self._features(range(self.build.shards))
        for span in range(len(self.build.spans)):
            self._once(Task(hessian_part, (span, block)))
        self._once(Task(hessian, (block,)))

    def _features(self, shards: Sequence[int]) -> None:
        missing = [shard for shard in shards if not self.build.marks.done(features_name(shard))]
        if missing and self.build.extractor is None:
            self.build = with_model(self.build, self.model)
        rows = sum(self.index.summary["shards"][shard] for shard in missing)
        with self.progress.stage("gradients", rows, "rows") as advance:
            for shard in missing:
                features([self.build], shard, self.spec.output, advance)

    def _once(self, task: Task) -> None:
        if not self.build.marks.done(task.name):
            task.run(self.build)


def _put_back(index: Index, folder: RunFolder, name: str, progress: Progress) -> bool:
    """Move a file that was made again in a folder to its place in a run, if it has its old bytes."""
    made, place = folder.path / name, index.folder.path / name
    if checksum(made) != index.summary["checksums"][name]:
        there = ", ".join(map(" ".join, index.manifest[MADE_WITH]["versions"].items()))
        progress.say(f"{called(place)}: comes out otherwise here, and is left; it was made with {there}")
        return False
    with written_whole(place) as part:
        os.replace(made, part)
    return True
