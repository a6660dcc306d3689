"""A throw-away machine for the operator's documents: systemd as its first process, in namespaces of its own.

It sees this machine's files through an overlay, so that what is installed and configured in it is gone with it, and has
a network of its own with nothing but loopback. It takes root on Linux, and systemd, which need not run outside.
"""

import os
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path

BOOT_SECONDS = 180.0
RUN_SECONDS = 300.0
POLL_SECONDS = 0.1
SYSTEMD = "/lib/systemd/systemd"
CGROUPS = (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup"))  # beside the older ones, or alone
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
WITH_US = ("setpriv", "--pdeathsig=KILL")  # it ends with the tests, also where they are killed
SHARED = "/mnt"  # where a directory of the test is seen inside

# Runs in the new namespaces: $1 is an empty directory, $2 the one to share.
BOOT = f"""
set -eu
mount --make-rprivate /
mount -t tmpfs tmpfs "$1"
cd "$1"
mkdir upper work root
mount -t overlay overlay -o lowerdir=/,upperdir=upper,workdir=work root
cd root
mount -t proc proc proc
mount -t sysfs sysfs sys -o ro
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs tmpfs run -o mode=755
mount -t tmpfs tmpfs tmp -o mode=1777
mount -t tmpfs tmpfs dev -o mode=755
for name in null zero full random urandom tty; do touch dev/$name; mount --bind /dev/$name dev/$name; done
mkdir dev/pts dev/shm
mount -t devpts devpts dev/pts -o newinstance,ptmxmode=0666
mount -t tmpfs tmpfs dev/shm -o mode=1777
ln -s pts/ptmx dev/ptmx; ln -s /proc/self/fd dev/fd
mount --bind "$2" .{SHARED}
ip link set lo up
mkdir -p .outside
pivot_root . .outside
umount -l /.outside
exec env -i container=chatapi-tests PATH={PATH} {SYSTEMD} --system --unit=basic.target
"""


class Machine:
    """`with Machine(scratch, shared) as machine:` it has booted to its basic target."""

    def __init__(self, scratch: Path, shared: Path) -> None:
        assert os.geteuid() == 0, "this takes root: it makes namespaces, and boots systemd in them"
        assert Path(SYSTEMD).exists(), "this takes systemd (Debian's package of that name)"
        assert shutil.which("ip"), "this takes iproute2"
        self._root = scratch / "machine"
        self._root.mkdir()
        self.shared = shared
        self._log = scratch / "machine.log"
        self._cgroup = next(path for path in CGROUPS if (path / "cgroup.controllers").exists()) / f"tests-{os.getpid()}"

    def __enter__(self) -> "Machine":
        self._cgroup.mkdir()
        # The cgroup first: it is the top of what the new namespace shows.
        enter = f'echo $$ > {self._cgroup}/cgroup.procs; exec "$@"'
        namespaces = ["unshare", "--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup", "--fork", "--kill-child"]
        boot = ["sh", "-c", BOOT, "boot", str(self._root), str(self.shared)]
        with self._log.open("wb") as log:
            self._outside = subprocess.Popen(
                [*WITH_US, "sh", "-c", enter, "enter", *namespaces, *boot],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            self._wait_until_booted()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._outside.kill()  # and with it, by --kill-child, the first process of the namespace and so all others
        self._outside.wait()
        deadline = time.monotonic() + BOOT_SECONDS
        while True:
            with suppress(OSError):
                for group in sorted(self._cgroup.rglob("*/"), reverse=True):
                    group.rmdir()
                self._cgroup.rmdir()
                return
            assert time.monotonic() < deadline, f"processes are left in {self._cgroup}"
            time.sleep(POLL_SECONDS)

    def run(self, script: str, *, status: int = 0, cwd: str = "/root", **environment: str) -> str:
        """What root's shell prints; the script ends at its first error."""
        command = ["nsenter", f"--target={self._find_first_process()}", "--all", "--root"]
        variables = {"PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8", **environment}
        done = subprocess.run(
            [
                *command,
                "env",
                "-i",
                *(f"{name}={value}" for name, value in variables.items()),
                "bash",
                "-euo",
                "pipefail",
            ],
            input=f"cd {cwd}\n{script}",
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS,
        )
        assert done.returncode == status, f"{script}\n-> {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """As an editor does it."""
        staged = self.shared / "written"
        staged.write_text(text)
        self.run(f"install -D -m {mode:o} {SHARED}/written {path}")

    def _find_first_process(self) -> int:
        children = Path(f"/proc/{self._outside.pid}/task/{self._outside.pid}/children").read_text().split()
        assert children, f"it ended:\n{self._log.read_text()}"
        return int(children[0])

    def _wait_until_booted(self) -> None:
        deadline = time.monotonic() + BOOT_SECONDS
        while True:
            assert self._outside.poll() is None, f"it did not boot:\n{self._log.read_text()}"
            with suppress(AssertionError, subprocess.SubprocessError):
                self.run("systemctl is-active basic.target")
                return
            assert time.monotonic() < deadline, f"it did not boot in time:\n{self._log.read_text()}"
            time.sleep(POLL_SECONDS)
