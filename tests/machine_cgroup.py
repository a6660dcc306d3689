"""A cgroup with limits to memory and processor time, of either version, for a server that a test or a measurement
starts in it."""

import contextlib
import os
import time
from pathlib import Path

from chatapi.memory_left import MIB

ROOT = Path("/sys/fs/cgroup")
PERIOD_US = 100_000  # in which a cgroup has its share of the processor: the kernel's default
LEAVE_SECONDS = 10.0  # until a process that was killed has left


class NoCgroup(Exception):
    """The message says why none can be made."""


class Cgroup:
    """There until `close`, when its processes have ended."""

    def __init__(self, memory_mb: int, cores: float) -> None:
        """Raises NoCgroup."""
        name, quota_us = f"chatapi-{os.getpid()}", int(cores * PERIOD_US)
        self._folders: list[Path] = []  # that of memory first
        self._is_v2 = (ROOT / "cgroup.controllers").exists()
        try:
            if self._is_v2:
                (ROOT / "cgroup.subtree_control").write_text("+memory +cpu")
                self._make(ROOT / name, {"memory.max": memory_mb * MIB, "cpu.max": f"{quota_us} {PERIOD_US}"})
                with contextlib.suppress(FileNotFoundError):  # where the kernel knows no swap
                    (ROOT / name / "memory.swap.max").write_text("0")
            else:
                self._make(ROOT / "memory" / name, {"memory.limit_in_bytes": memory_mb * MIB})
                self._make(ROOT / "cpu" / name, {"cpu.cfs_period_us": PERIOD_US, "cpu.cfs_quota_us": quota_us})
        except OSError as error:
            self.close()
            raise NoCgroup(f"no cgroup with limits can be made here, which takes root: {error}") from error

    def _make(self, folder: Path, limits: dict[str, object]) -> None:
        folder.mkdir()
        self._folders.append(folder)
        for file, limit in limits.items():
            (folder / file).write_text(str(limit))

    @property
    def launcher(self) -> list[str]:
        """The beginning of a command that is to run in it."""
        enter = "; ".join(f"echo $$ > {folder}/cgroup.procs" for folder in self._folders)
        return ["sh", "-c", f'{enter}; exec "$@"', "sh"]

    def count_kills(self) -> int:
        """Processes that the kernel has killed for want of memory."""
        text = (self._folders[0] / ("memory.events" if self._is_v2 else "memory.oom_control")).read_text()
        return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("oom_kill "))

    def close(self) -> None:
        deadline_s = time.monotonic() + LEAVE_SECONDS
        while self._folders:
            try:
                self._folders[-1].rmdir()
                self._folders.pop()
            except OSError:  # its process has just ended
                if time.monotonic() > deadline_s:
                    raise
                time.sleep(0.05)
