"""The documents in the tools that people import them into: Postman, Insomnia, and AsyncAPI's own parser."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from chatapi.protocol.frames import CLIENT_FRAMES
from chatapi.protocol.server_frames import SERVER_FRAMES
from chatapi.rest import ROUTES
from chatapi.rest.documents.asyncapi import build_asyncapi
from chatapi.rest.documents.openapi import build_openapi
from chatapi.rest.documents.schemas import get_type

HERE = Path(__file__).parent / "documents"

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]


def read_with(tool: str, document: dict[str, Any], directory: Path) -> Any:
    file = directory / "document.json"
    file.write_text(json.dumps(document))
    run = subprocess.run(["node", "import.cjs", tool, str(file)], cwd=HERE, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.mark.parametrize("tool", ["postman", "insomnia"])
def test_every_route_is_imported(tool: str, document_tools: None, tmp_path: Path) -> None:
    requests = read_with(tool, build_openapi(ROUTES, "http://localhost:8080"), tmp_path)
    assert sorted(request["method"] for request in requests) == sorted(route.method for route in ROUTES)
    # Insomnia's importer leaves out bodies of text.
    bodies = [json.loads(request["body"]) for request in requests if (request["body"] or "").startswith("{")]
    assert len(bodies) == sum(route.body is not None for route in ROUTES)
    assert all(bodies)


def test_asyncapi_is_valid(document_tools: None, tmp_path: Path) -> None:
    names = read_with("asyncapi", build_asyncapi("https://chat.example.com/base"), tmp_path)
    assert sorted(names) == sorted([*CLIENT_FRAMES, *map(get_type, SERVER_FRAMES)])
