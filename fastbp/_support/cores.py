"""How many cores this process may use."""

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

# Version 2 of Linux's control groups has one hierarchy and an empty list of controllers, version 1
# several; where they are mounted, and the files of quota and period in microseconds.
_VERSIONS = {
    "": (("", "unified"), ("cpu.max",)),
    "cpu": (("cpu", "cpu,cpuacct"), ("cpu.cfs_quota_us", "cpu.cfs_period_us")),
}


def available_cores() -> int:
    """Return how many cores this process may use: by its affinity, and its container's quota."""
    if hasattr(os, "process_cpu_count"):  # Python 3.13
        cores = os.process_cpu_count()
    elif hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count()
    # Of a core and a half, one: of two threads that wait for each other one would often be stopped.
    return max(1, min(cores or 1, _quota(Path("/"))))


@cache  # it takes up to half a millisecond
def _quota(root: Path) -> int:
    """Return how many whole cores this process's control groups, and those above, allow."""
    return min(_quotas(root), default=sys.maxsize)


def _quotas(root: Path) -> Iterator[int]:
    with suppress(OSError, ValueError):
        for line in os.fsdecode((root / "proc/self/cgroup").read_bytes()).splitlines():
            _, controllers, group = line.split(":", 2)
            for controller in _VERSIONS.keys() & controllers.split(","):
                mounts, files = _VERSIONS[controller]
                for top in (root / "sys/fs/cgroup" / mount for mount in mounts):
                    # A container may see the path on its host: its own is then at the top.
                    own = top / group.strip("/")
                    for folder in (own, *own.parents):
                        if folder.is_relative_to(top):
                            yield from _quota_in([folder / name for name in files])


def _quota_in(files: list[Path]) -> Iterator[int]:
    with suppress(OSError, ValueError):  # no such file; "max"
        quota, period = map(int, " ".join(path.read_text() for path in files).split())
        if quota > 0 and period > 0:  # -1: no quota
            yield quota // period
