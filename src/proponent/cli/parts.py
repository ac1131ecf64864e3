"""Who does the work of 'proponent index': this process, others, Ray, or the tasks of an array job."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

import proponent as pp
from proponent.cli.options import option
from proponent.cli.printing import show
from proponent.errors import InputError
from proponent.progress import OnStderr

if TYPE_CHECKING:
    from proponent.build.stages import Executor

Task = Annotated[str | None, option("Only the features of part I of N, from 0.", metavar="I/N")]
Finish = Annotated[bool, typer.Option("--finish", help="Only what is left once all parts are done.")]


@dataclass(frozen=True)
class Ways:
    """The options that say who does the work, as they were given."""

    workers: int | None
    ray: str | None
    task: str | None
    finish: bool

    @property
    def part(self) -> tuple[int, int] | None:
        """Part and number of parts; InputError for what is none, and for options that exclude each other."""
        if self.task is None:
            return None
        if self.finish or self.workers or self.ray:
            raise InputError("--task is the work of one process; leave out --finish, --workers and --ray")
        if not (found := re.fullmatch(r"(\d+)/(\d+)", self.task)) or int(found[1]) >= int(found[2]):
            raise InputError(f"--task is '{self.task}'; give I/N with I from 0 to N - 1")
        return int(found[1]), int(found[2])

    def executor(self, device: str | None) -> Executor | None:
        """What runs the tasks; None for this process."""
        from proponent.build.processes import Processes
        from proponent.build.ray import OnRay

        if self.ray is not None:
            return OnRay(self.ray, self.workers or 1, device)
        return None if self.workers is None else Processes(self.workers, device)


def build(
    how: Ways, corpus: pp.Corpus, spec: pp.FeatureSpec, run: str, device: str | None, trust: bool
) -> pp.Index | None:
    """The finished index; None where only a part of its features was made, which is then said."""
    from proponent.build.array import build_part, finish_index
    from proponent.scale.room import require_room

    progress = OnStderr()
    if not how.finish and how.ray is None:  # on Ray the memory is that of other machines
        require_room(spec, device, trust, how.workers or 1)
    if part := how.part:
        made = build_part(corpus, spec, run, part, device, progress, trust)
        show(f"{run}: part {how.task} is done, {made:,} shards made; when all parts are: --finish")
        return None
    if how.finish:
        return finish_index(spec, run, progress, how.executor(device))
    return pp.build_index(corpus, spec, run, device, progress, trust, how.executor(device))
