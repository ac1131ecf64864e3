"""How much memory a device has left."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import torch

MEMINFO, GROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup")
OWN, STATM = Path("/proc/self/cgroup"), Path("/proc/self/statm")
# Of a control group, by version: its limit and what it uses; and, in its memory.stat, cached files and what
# of them is in memory alone (tmpfs).
SECOND = ("memory.max", "memory.current", "file", "shmem")
FIRST = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_cache", "total_shmem")


def available(device: torch.device) -> int | None:
    """Bytes that new tensors on a device may take: what is free, or cached and can be dropped.

    None where it is not known.  On a processor what the process's control groups leave counts as well, those
    of a batch scheduler's job for instance, and what a limit of its address space does (``ulimit -v``).
    """
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type != "cpu":
        return None
    with suppress(OSError):
        found = re.search(r"^MemAvailable:\s+(\d+) kB", MEMINFO.read_text("utf-8"), re.MULTILINE)
        if found:
            rooms = (int(found[1]) * 1024, _left_to_group(), _left_to_process())
            return max(0, min(room for room in rooms if room is not None))
    return None


def _left_to_group() -> int | None:
    """What the limits of the process's control groups leave it; None without a limit."""
    rooms = (_left_in(folder) for folder in _groups())
    return min((room for room in rooms if room is not None), default=None)


def _groups() -> Iterator[Path]:
    """Folders of the groups that the process is in, those around them too: their limits hold as well.

    In a container that shows its own group as the topmost, the path may be that of the host: then only the
    topmost is there.
    """
    yield GROUP
    with suppress(OSError):
        for line in OWN.read_text("utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers or "memory" in controllers.split(","):
                top = GROUP / "memory" if controllers else GROUP
                parts = Path(path).parts[1:]
                yield from (top.joinpath(*parts[:count]) for count in range(len(parts) + 1))


def _left_in(group: Path) -> int | None:
    """What the limit of a control group leaves beside what cannot be dropped; None without a limit."""
    for limit, used, files, kept in (SECOND, FIRST):
        with suppress(OSError, ValueError):
            left = int((group / limit).read_text("utf-8")) - int((group / used).read_text("utf-8"))
            stat = dict(
                re.findall(r"^(\w+) (\d+)$", (group / "memory.stat").read_text("utf-8"), re.MULTILINE)
            )
            return left + int(stat.get(files, 0)) - int(stat.get(kept, 0))
    return None


def _left_to_process() -> int | None:
    """What the limit of this process's address space leaves; None without a limit."""
    with suppress(ImportError, OSError, ValueError):  # some systems have no such limits
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit == resource.RLIM_INFINITY:
            return None
        return limit - int(STATM.read_text("utf-8").split()[0]) * resource.getpagesize()
    return None
