"""Running the tasks of builds in this process, one after the other."""

from __future__ import annotations

from collections.abc import Sequence

from proponent.build.folder import remove_leftovers
from proponent.build.plan import PLAN
from proponent.build.tasks import Build, features, features_name, finish, later_stages
from proponent.errors import InputError
from proponent.progress import Progress


def run_tasks(builds: Sequence[Build], output: str, progress: Progress) -> None:
    """Run what is not done of builds over the same rows, with one pass of the model for all, to the end.

    Raises InputError where no row has a finite gradient, and for a file that was damaged meanwhile.
    """
    first = builds[0]
    counts = [shard["rows"] for shard in first.marks.read(PLAN)["shards"]]
    names = map(features_name, range(first.shards))
    if done := sum(all(build.marks.done(name) for build in builds) for name in names):
        progress.say(f"going on after {done:,} of {first.shards:,} shards")
    with progress.stage("gradients", sum(counts), "rows") as advance:
        for shard in range(first.shards):
            features(builds, shard, output, advance)
    for build in builds:
        _finish(build, progress)


def _finish(build: Build, progress: Progress) -> None:
    if not any(map(build.rows, range(build.shards))):
        raise InputError("no passage of the corpus gave a finite gradient; is the model sound?")
    for title, tasks in later_stages(build).items():
        with progress.stage(title, len(tasks), "tasks") as advance:
            for task in tasks:
                if not build.marks.done(task.name):
                    task.run(build)
                advance(1)
    finish(build)
    remove_leftovers(build.folder)
