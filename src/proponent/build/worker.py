"""A worker: it opens the builds from their folders, loads the model by itself, and does what it is given."""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from proponent.build.opening import open_build, with_model
from proponent.build.tasks import Build, Task, features
from proponent.errors import InputError
from proponent.gradients.identity import versions
from proponent.gradients.model import load_model
from proponent.index.manifest import read_manifest
from proponent.index.run import RunFolder
from proponent.progress import Advance


@dataclass(frozen=True)
class Job:
    """What a worker is given: the features of a shard for all builds, or a later task of one of them.

    task: None for features.  number: of the shard, or of the build.  units, tokens: what it counts for.
    """

    name: str
    task: Task | None
    number: int
    units: int = 1
    tokens: int = 0

    def run(self, builds: Sequence[Build], output: str, advance: Advance) -> None:
        """Do it; builds: all of the pass.  Features report their rows as they are made."""
        if self.task is None:
            features(builds, self.number, output, advance)
        else:
            self.task.run(builds[self.number])
            advance(self.units)


@dataclass(frozen=True)
class Setup:
    """All that a worker is told; it reads the rest from the folders.

    runs: folders of one pass of the model, begun and planned.  output: function of the tokens that features
    are gradients of.  threads: of each worker, which decide how sums are rounded.  versions: of the packages
    that the work is done with, for the same reason.
    """

    runs: tuple[str, ...]
    output: str
    threads: int
    trust_remote_code: bool = False
    versions: Mapping[str, str] = field(default_factory=versions)


class Worker:
    """Does jobs one after the other; it loads the model when features are first wanted, and keeps it.

    device: of the model, None for the best one.
    """

    def __init__(self, setup: Setup, device: str | None) -> None:
        self._setup, self._device = setup, device
        self._builds: list[Build] = []

    def do(self, job: Job) -> Exception | None:
        """Do a job: None, or what went wrong, fit to be sent, with the lines where in a note."""
        try:
            torch.set_num_threads(self._setup.threads)
            job.run(self._opened(with_features=job.task is None), self._setup.output, _unwatched)
        except Exception as error:
            error.add_note(traceback.format_exc())
            return _sendable(error)
        return None

    def _opened(self, with_features: bool) -> list[Build]:
        if not self._builds:
            if (found := versions()) != self._setup.versions:
                words = [", ".join(map(" ".join, v.items())) for v in (found, self._setup.versions)]
                raise InputError(f"a worker has {words[0]}, not {words[1]}; install the same everywhere")
            self._builds = [open_build(RunFolder(name)) for name in self._setup.runs]
        if with_features and self._builds[0].extractor is None:
            name = read_manifest(self._builds[0].folder)["spec"]["model"]
            model = load_model(name, self._device, self._setup.trust_remote_code)
            self._builds = [with_model(build, model) for build in self._builds]
        return self._builds


def _unwatched(units: int, tokens: int = 0) -> None:
    pass


def _sendable(error: Exception) -> Exception:
    """The error itself where it survives the way to another process, or its words."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError("\n".join([f"{type(error).__name__}: {error}", *error.__notes__]))
    return error
