"""The examples of docs/python-sdk.md run as they stand, one after the other, and name what there is."""

import asyncio
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
from driver import Server
from examples import examples

from chatapi.client import AdminAPI, ChatAPI, Connection, Event

PAGE = (Path(__file__).parent.parent / "docs" / "python-sdk.md").read_text()
EXAMPLES = examples("docs/python-sdk.md", "python")
PATIENCE_S = 30.0
PROMPTS = re.compile(r"^(?:(?:>>>|\.\.\.) )+", re.MULTILINE)


@pytest.mark.slow
async def test_the_examples_can_be_pasted_one_after_the_other(server: Server) -> None:
    given = f"url = {server.url!r}\napi_key = {server.api_key!r}\n"
    run = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "asyncio"],
        input="\n\n".join([given, *EXAMPLES, "await alice.close()\n"]),
        env={**os.environ, "PYTHON_BASIC_REPL": "1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert "Error" not in run.stderr, run.stderr
    assert not re.search("Traceback|Unclosed", run.stderr), run.stderr
    printed = PROMPTS.sub("", run.stdout).splitlines()
    # What an expression gives is shown as well: a dictionary, an id.
    assert [line for line in printed if line and not line.startswith(("{'", "'"))] == [
        "1",
        "alice Hello, Bob",
        "While you were away",
        "[{'emoji': '👍', 'count': 1, 'user_ids': ['bob']}]",
        "Once upon a time",
        "done",
        "NOT_FOUND 404",
        "None",
        "deploys {'version': '1.4'}",
        "[]",
    ]


@pytest.mark.parametrize("documented", [ChatAPI, AdminAPI, Connection])
def test_every_call_is_in_the_reference(documented: type) -> None:
    reference = PAGE[PAGE.index("## Reference") :]
    calls = {name for name, _ in inspect.getmembers(documented, inspect.isfunction) if not name.startswith("_")}
    assert not {name for name in calls - {"close", "connect"} if not re.search(rf"`{name}[`(]", reference)}


def test_every_event_is_in_the_table() -> None:
    table = PAGE[PAGE.index("## Events") : PAGE.index("## Errors")]
    named = set(re.findall(r"`([a-z._]+)`", "".join(line for line in table.splitlines() if line.startswith("| `"))))
    assert {get_args(get_type_hints(event)["type"])[0] for event in get_args(Event)} - named == set()
