"""What the shared cases of SDKs need around their runner: a server that can be killed, the proxies before it, and
another server to which tenants move.

`python tests/sdk_stage.py COMMAND…` starts them, runs the command with their addresses in its environment, and ends
with its exit status. docs/conformance.md describes the environment.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from newer import NewerServerThread
from proxy import Proxy
from server_process import Control, ServerProcess

SETTINGS = {"limits.sync_limit": "20"}
SHORT_LIVES = {"websocket.heartbeat_seconds": "1", "websocket.timeout_seconds": "3"}
"""So that a network that is dead for a moment is noticed in a moment."""


@contextlib.contextmanager
def open_stage(
    directory: Path, *, adds: bool = False, transport: str = "", faults: bool = False
) -> Iterator[dict[str, str]]:
    """The environment of the runner. `adds`: between it and the server there is one that adds fields and frames of a
    later version. `transport` is to carry the connections. `faults`: the server has `/dev`, and allows every origin.
    Its log is in the directory."""
    settings = {**SETTINGS, **(SHORT_LIVES if faults else {})}
    server, other = (ServerProcess(make(directory / name), settings, dev=faults) for name in ("", "other"))
    with (
        server,
        contextlib.ExitStack() as stack,
        Proxy(server.port) as proxy,
        NewerServerThread(server.url) as newer,
        NewerServerThread(server.url, renames=False) as adding,
        Control(server, proxy, other) as control,
    ):
        stack.push(other.__exit__)  # it starts when a tenant moves to it
        yield {
            "CHATAPI_TEST_URL": adding.url if adds else server.url,
            "CHATAPI_TEST_MASTER_KEY": server.master_key,
            "CHATAPI_TEST_CONTROL": control.url,
            "CHATAPI_TEST_PROXY": proxy.url,
            "CHATAPI_TEST_NEWER": newer.url,
            "CHATAPI_TEST_OTHER": other.url,
            "CHATAPI_TEST_TRANSPORT": transport,
        }


def make(directory: Path) -> Path:
    directory.mkdir(exist_ok=True)
    return directory


def main() -> int:
    parser = argparse.ArgumentParser(description="Runs the tests of an SDK against a server of their own.")
    parser.add_argument("--adds", action="store_true", help="the server has fields and frames of a later version")
    parser.add_argument(
        "--transport", default="", choices=("websocket", "sse", "poll"), help="what carries connections"
    )
    parser.add_argument("--faults", action="store_true", help="the server has /dev/faults")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="the runner, with its arguments")
    args = parser.parse_args()
    if not args.command:
        parser.error("give the command that runs the tests")
    with (
        tempfile.TemporaryDirectory() as directory,
        open_stage(Path(directory), adds=args.adds, transport=args.transport, faults=args.faults) as environment,
    ):
        return subprocess.run(args.command, env={**os.environ, **environment}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
