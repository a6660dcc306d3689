"""The packages from npm that tests run."""

import fcntl
import shutil
import subprocess
from pathlib import Path


def install_packages(folder: Path, *, runs_scripts: bool = False) -> None:
    """Installs what its package.json names, once for each state of that file. The packages' own scripts
    are run only if one of them has to compile something. Processes that share the tests wait for each other: two of npm
    in one folder break what they install."""
    modules, wanted = folder / "node_modules", folder / "package.json"
    modules.mkdir(exist_ok=True)
    stamp = modules / ".package.json"
    with (modules / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if stamp.is_file() and stamp.read_bytes() == wanted.read_bytes():
            return
        npm = shutil.which("npm") or "npm"
        options = ["--no-audit", "--no-fund", "--prefer-offline", *([] if runs_scripts else ["--ignore-scripts"])]
        subprocess.run([npm, "install", *options], cwd=folder, check=True)
        shutil.copy(wanted, stamp)
