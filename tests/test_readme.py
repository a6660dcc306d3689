"""README's examples, as they stand: what a newcomer types first."""

import asyncio
import os
import shutil
import subprocess
import sys
import textwrap
import time
import urllib.request
from pathlib import Path

import pytest
from conftest import StartServer
from driver import Server, eventually
from examples import example
from server_process import START_SECONDS, free_port

FIRST_CHAT = example("README.md", "sh", "ROOM=")
SERVE = example("README.md", "sh", "> master.key")
CREATE_TENANT = example("README.md", "sh", "tenant create")
PYTHON = {
    "README.md": example("README.md", "python"),
    "chatapi-python": example("packaging/chatapi-python/README.md", "python"),
}
# .ci/run sees to it that all of them are there.
SHELLS = [shell for shell in ("sh", "bash", "zsh", "dash") if shutil.which(shell)]


@pytest.mark.parametrize("shell", SHELLS)
async def test_the_first_chat(shell: str, start_server: StartServer) -> None:
    server = await start_server(dev=True)
    run = await asyncio.to_thread(
        subprocess.run,
        [shell, "-eu", "-c", FIRST_CHAT.replace("http://localhost:8080", server.url)],
        env={"KEY": str(server.services.tenants.dev_key), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.count('"success":true') == 3
    assert '"content":"Hello, Bob"' in run.stdout
    assert run.stderr == ""


@pytest.mark.slow
def test_the_first_tenant(tmp_path: Path) -> None:
    """In a directory that holds nothing but an environment, as after the commands above it, which is not activated."""
    script = tmp_path / ".venv" / "bin" / "chatapi"
    script.parent.mkdir(parents=True)
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m chatapi "$@"\n')
    script.chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CHATAPI_")}
    environment = {**kept, "CHATAPI_SERVER_PORT": str(free_port())}
    where = f"http://127.0.0.1:{environment['CHATAPI_SERVER_PORT']}/readyz"
    # `exec`, so that the shell is the server when it is stopped.
    serve = SERVE.replace("CHATAPI_AUTH", "exec env CHATAPI_AUTH")
    with subprocess.Popen(["sh", "-eu", "-c", serve], cwd=tmp_path, env=environment) as server:
        try:
            deadline = time.monotonic() + START_SECONDS
            while not answers(where):
                assert server.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.02)
            run = subprocess.run(
                ["sh", "-eu", "-c", CREATE_TENANT], cwd=tmp_path, env=environment, capture_output=True, text=True
            )
        finally:
            server.terminate()
    assert run.returncode == 0, run.stderr
    assert "sk_" in run.stdout
    assert (tmp_path / "master.key").stat().st_mode & 0o077 == 0


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=60):
            return True
    except OSError:
        return False


@pytest.mark.parametrize("document", PYTHON)
async def test_the_python_example(document: str, server: Server) -> None:
    alice = server.user("alice")
    room_id = await alice.make_room("bob")
    head, body = PYTHON[document].split("\n\n", 1)
    code = f"{head}\nasync def talk():\n{textwrap.indent(body, '    ')}"
    seen: list[dict[str, object]] = []
    names = {"KEY": server.api_key, "room_id": room_id, "print": seen.append}
    exec(code.replace("http://localhost:8080", server.url), names)
    running = asyncio.create_task(names["talk"]())
    await eventually(lambda: any(event.get("content") == "Hello, Alice" for event in seen))
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
