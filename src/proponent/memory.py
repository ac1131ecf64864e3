"""How much memory a device has left."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

import torch

MEMINFO, GROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup")
STATM = Path("/proc/self/statm")


def available(device: torch.device) -> int | None:
    """Bytes that new tensors on a device may take: what is free, or cached and can be dropped.

    None where it is not known.  On a processor what the process's control group leaves counts as well, and
    what a limit of its address space does (``ulimit -v``).
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
    """What the limit of the control group leaves beside what cannot be dropped; None without a limit."""
    with suppress(OSError, ValueError):
        limit = int((GROUP / "memory.max").read_text("utf-8"))
        used = int((GROUP / "memory.current").read_text("utf-8"))
        cached = re.search(r"^file (\d+)$", (GROUP / "memory.stat").read_text("utf-8"), re.MULTILINE)
        return limit - used + (int(cached[1]) if cached else 0)
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
