"""Building a run in parts by processes that know nothing of each other: an array job of a scheduler."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace

import torch

from proponent.build.folder import building, check_folder, compared, sharing, threads_of
from proponent.build.indexing import begin
from proponent.build.local import Here, run_here
from proponent.build.marks import Marks
from proponent.build.opening import open_build, with_model
from proponent.build.plan import PLAN
from proponent.build.stages import Executor, feature_jobs, missing_features, run_stages
from proponent.build.worker import Setup
from proponent.corpus.corpus import Corpus
from proponent.errors import InputError
from proponent.files import locked
from proponent.gradients.model import load_model
from proponent.gradients.spec import FeatureSpec
from proponent.index.manifest import read_manifest
from proponent.index.run import Index, RunFolder, RunName
from proponent.progress import Progress, Silent
from proponent.remote import is_url
from proponent.threads import torch_threads

POLL, STORE_POLL = 1.0, 10.0  # seconds between looks at whether the shards are planned, here and in a store
NAMED = 20  # missing shards that are named


def build_part(
    corpus: Corpus,
    spec: FeatureSpec,
    path: RunName,
    part: tuple[int, int],
    device: str | None = None,
    progress: Progress | None = None,
    trust_remote_code: bool = False,
) -> int:
    """Make the features of the shards i, i + n, i + 2n, ... of a run; the number of those that were missing.

    part: (i, n), 0 <= i < n.  The first of all processes reads the corpus and plans the shards while the
    others wait; only it sees the corpus.  Of a run in a store, which has no locks, that is part 0.
    All may be killed, started again, and run twice at once.
    Raises InputError as ``build_index`` does.
    """
    progress, (number, count) = progress or Silent(), part
    if not 0 <= number < count:
        raise InputError(f"part {number} of {count}; parts of {count} are numbered from 0 to {count - 1}")
    if is_url(path) and number:
        wait = _waiting(progress, "part 0", STORE_POLL)
        while not _planned(RunFolder(path)):
            wait()
        _require_same_spec(RunFolder(path), spec)
    else:
        _plan(corpus, spec, path, device, progress, trust_remote_code)
    folder = RunFolder(path)
    if folder.done.is_file():
        return 0
    with sharing(folder), torch_threads(_threads(folder)):
        build = open_build(folder)
        ours = {job.name for job in feature_jobs([build])[number::count]}
        jobs = [job for job in missing_features([build]) if job.name in ours]
        if jobs:
            build = with_model(build, load_model(spec.model, device, trust_remote_code))
        with progress.stage("gradients", sum(job.units for job in jobs), "rows") as advance:
            run_here([build], spec.output, jobs, advance)
    return len(jobs)


def finish_index(
    spec: FeatureSpec, path: RunName, progress: Progress | None = None, executor: Executor | None = None
) -> Index:
    """The index of a run whose features were all made in parts; needs neither the corpus nor the model.

    Raises InputError where features are missing, naming the shards.
    """
    progress, executor, folder = progress or Silent(), executor or Here(), RunFolder(path)
    executor.check()
    if not _planned(folder):
        raise InputError(f"{path}: nothing to finish; make its features first, with --task")
    _require_same_spec(folder, spec)
    if folder.done.is_file():
        index = Index(path)
        index.check()
        return index
    _require_all_features(folder)
    with building(folder), torch_threads(_threads(folder)):
        builds = [open_build(folder)]
        setup = Setup((folder.kept.everywhere,), spec.output, torch.get_num_threads())
        with executor.workers(setup, builds, progress) as run:
            run_stages(builds, run, progress)
    return Index(path)


def _planned(folder: RunFolder) -> bool:
    return folder.manifest.is_file() and (folder.done.is_file() or Marks(folder).done(PLAN))


def _plan(
    corpus: Corpus,
    spec: FeatureSpec,
    path: RunName,
    device: str | None,
    progress: Progress,
    trust_remote_code: bool,
) -> None:
    """Plan the shards, or wait until another process has; then the run has the spec's settings."""
    place = RunFolder(path).path.absolute()
    lock = place.with_name(f".{place.name}.planning")
    with locked(lock, "", wait=_waiting(progress, "another process", POLL)):
        folder = RunFolder(path)
        if _planned(folder):
            _require_same_spec(folder, spec)
            return
        with ExitStack() as stack:
            threads = torch.get_num_threads()
            begin(corpus, {path: spec}, stack, device, progress, trust_remote_code, threads)


def _waiting(progress: Progress, planner: str, seconds: float) -> Callable[[], None]:
    said: list[str] = []

    def wait() -> None:
        if not said:
            said.append(f"waiting for {planner}, which plans the shards of this run")
            progress.say(said[0])
        time.sleep(seconds)

    return wait


def _require_same_spec(folder: RunFolder, spec: FeatureSpec) -> None:
    """Raise InputError for a run of another spec, naming what differs."""
    here = read_manifest(folder)
    asked = replace(spec, max_length=spec.max_length or here["spec"]["max_length"])
    made = compared(here)
    check_folder(folder, {**made, "spec": asked.to_dict()})


def _require_all_features(folder: RunFolder) -> None:
    builds = [open_build(folder)]
    shards, missing = builds[0].shards, [str(job.number) for job in missing_features(builds)]
    if missing:
        named = ", ".join(missing[:NAMED]) + (", ..." if len(missing) > NAMED else "")
        raise InputError(
            f"{folder.name}: the features of {len(missing)} of {shards} shards are missing ({named}); "
            "task i of n makes shards i, i + n, ...: run those tasks again, then --finish"
        )


def _threads(folder: RunFolder) -> int:
    """Those that the run was begun with."""
    return threads_of({folder: read_manifest(folder)}) or torch.get_num_threads()
