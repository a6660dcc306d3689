"""The examples of docs/python-sdk.md run as they stand, one after the other, and name what there is."""

import ast
import asyncio
import inspect
import re
from pathlib import Path
from typing import Any

import pytest
from driver import Server

from chatapi.client import AdminAPI, ChatAPI, Connection

PAGE = (Path(__file__).parent.parent / "docs" / "python-sdk.md").read_text()
EXAMPLES = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
PATIENCE_S = 20.0


async def test_the_examples_run(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {"url": server.url, "api_key": server.api_key}
    try:
        async with asyncio.timeout(PATIENCE_S):
            for example in EXAMPLES:
                code = compile(example, "docs/python-sdk.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
                running = eval(code, names)
                if running is not None:
                    await running
    finally:
        await names["alice"].close()
    assert capsys.readouterr().out.splitlines() == [
        "1",
        "alice Hello, Bob",
        "While you were away",
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
