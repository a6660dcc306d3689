"""docs/operations.md followed on a throw-away machine as far as its first tenant."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from examples import ROOT, example
from machine import SHARED, Machine

INSTALL = example("docs/operations.md", "sh", "useradd")
SETTINGS = example("docs/operations.md", "toml", "master_key_file")
UNIT = example("docs/operations.md", "ini", "# /etc/systemd/system/chatapi.service\n")
START = example("docs/operations.md", "sh", "enable --now chatapi\n")
FIRST_BACKUP = example("docs/operations.md", "sh", "install -d -m 0700 -o chatapi -g chatapi /var/backups/chatapi\n")

CHECKOUT = f"{SHARED}/checkout"
NOT_OURS = shutil.ignore_patterns(
    ".git", ".venv*", "node_modules", "build", "dist", "*.egg-info", "chatapi_server-*", "__pycache__", ".*_cache"
)
# No registry can be reached inside.
PIP = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": f"{SHARED}/wheels", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


class Installation:
    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.run = machine.run
        self.run(INSTALL, cwd=CHECKOUT, **PIP)
        self.write(SETTINGS)
        self.write(UNIT)
        made = self.run(START, cwd=CHECKOUT)
        self.key = re.search(r"^api_key +(sk_\S+)", made, re.MULTILINE)[1]
        self.tenant_id = re.search(r"^tenant_id +(\S+)", made, re.MULTILINE)[1]

    def write(self, text: str, mode: int = 0o644) -> None:
        """Into the file that its first comment names."""
        path = re.search(r"^# (/[^\s,:]+)", text, re.MULTILINE)[1]
        self.machine.write(path, text, mode)

    def restart(self) -> None:
        self.run("systemctl daemon-reload; systemctl restart chatapi")

    def start_over(self) -> None:
        """As the document has it, whatever a test has done to it."""
        self.run("rm -rf /etc/systemd/system/chatapi.service.d; systemctl reset-failed")
        self.write(SETTINGS)
        self.restart()

    def make_backup(self) -> None:
        self.run(f"rm -rf /var/backups/chatapi\n{FIRST_BACKUP}")

    def curl(self, path: str, *options: str, url: str = "http://127.0.0.1:8080", user: str = "alice") -> str:
        headers = f"-H 'X-API-Key: {self.key}' -H 'X-User-Id: {user}' -H 'Content-Type: application/json'"
        return self.run(f"curl -sS {headers} {' '.join(options)} '{url}{path}'")

    def say(self, text: str, room_id: str | None = None) -> str:
        """Its room."""
        if room_id is None:
            made = self.curl("/rooms", "-d", """'{"type": "group", "members": ["bob"]}'""")
            room_id = json.loads(made)["data"]["room_id"]
        sent = self.curl(f"/rooms/{room_id}/messages", "-d", f"""'{json.dumps({"content": text})}'""")
        assert json.loads(sent)["success"], sent
        return room_id

    def read(self, room_id: str) -> list[str]:
        messages = json.loads(self.curl(f"/rooms/{room_id}/messages"))["data"]["messages"]
        return [message["content"] for message in messages]


@contextmanager
def install(machine: Path, shared: Path) -> Iterator[Installation]:
    """Two empty directories: for the machine, and for what it shares with this one."""
    shared.chmod(0o755)
    shutil.copytree(ROOT, shared / "checkout", ignore=NOT_OURS)
    make_wheels(shared)
    with Machine(machine, shared) as booted:
        yield Installation(booted)


def make_wheels(shared: Path) -> None:
    """What pip will want inside, for that machine's own Python."""
    subprocess.run(["/usr/bin/python3", "-m", "venv", shared / "venv"], check=True)
    pip = [shared / "venv/bin/pip", "wheel", "--quiet", "--wheel-dir", shared / "wheels"]
    subprocess.run([*pip, f"{shared / 'checkout'}[uvloop]", "setuptools>=77"], check=True)
    for wheel in (shared / "wheels").glob("chatapi_*"):
        wheel.unlink()  # the document's own line makes it
