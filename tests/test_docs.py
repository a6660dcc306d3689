"""What the documents say is held to what the server does."""

import re
import tomllib
from pathlib import Path

import pytest
from examples import list_documents

from chatapi.config import SETTINGS
from chatapi.config.tenant import TENANT_KINDS
from chatapi.errors import Code
from chatapi.protocol.frames import CLIENT_FRAMES
from chatapi.protocol.server_frames import SERVER_FRAMES
from chatapi.rest import ROUTES
from chatapi.rest.documents.asyncapi import CLOSE_CODES

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
GUIDE = (ROOT / "docs/guide.md").read_text(encoding="utf-8")
CONTRACT = (ROOT / "docs/contract.md").read_text(encoding="utf-8")
DOCUMENTS = [ROOT / name for name in list_documents()]


def in_words(value: object) -> str:
    """A default as the settings table writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(list(value)) if isinstance(value, tuple) else str(value)


def test_readme_names_every_setting_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `\[(\w+)\]` \| (.*) \|$", README, re.MULTILINE))
    for setting in SETTINGS.values():
        listed = re.search(rf"`{setting.key}`(?: \((.*?)\))?(?:,|$)", rows[setting.section])
        assert listed is not None, setting.name
        told = (listed[1] or "").split(" ")[0] if not (listed[1] or "").startswith("[") else listed[1]
        assert told == in_words(setting.default), setting.name


def test_readme_says_why_each_dependency_is_there() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {re.split(r"[<>=\[ ]", line)[0] for line in project["dependencies"]}
    table = README[README.index("## What it is made of") :]
    told = set(re.findall(r"^\| \[([\w-]+)\]", table, re.MULTILINE))
    assert wanted <= told


def test_the_guide_explains_every_error_code() -> None:
    assert set(re.findall(r"^\| `([A-Z_]+)` \|", GUIDE, re.MULTILINE)) == set(Code)


def find_anchors(document: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    for path, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)]+))?\)", document.read_text(encoding="utf-8")):
        if not path.startswith("http"):
            target = document.parent / path if path else document
            assert target.exists(), path
            assert not anchor or anchor in find_anchors(target), f"{path}#{anchor}"


def test_the_guide_explains_every_close_code() -> None:
    table = GUIDE[GUIDE.index("## Close codes") : GUIDE.index("## Errors")]
    assert set(CLOSE_CODES) <= {int(code) for code in re.findall(r"\b[14]\d{3}\b", table)}


def test_pictures_are_small() -> None:
    assert max(picture.stat().st_size for picture in (ROOT / "docs").glob("*.png")) <= 300_000


def test_the_contract_names_every_route() -> None:
    missing = [
        f"{route.method} {route.path}"
        for route in ROUTES
        if not re.search(rf"`{route.method} {re.escape(route.path)}[`?]", CONTRACT)
    ]
    assert missing == []


def test_the_contract_names_every_frame() -> None:
    sections = CONTRACT[CONTRACT.index("## 13.") : CONTRACT.index("## 15.")].split("## 14.")
    sent_by_server = [frame.__struct_config__.tag for frame in SERVER_FRAMES]
    for section, frame_types in zip(sections, (CLIENT_FRAMES, sent_by_server), strict=True):
        named = set(re.findall(r"`([a-z._]+)(?= \{|`)", section))
        assert {str(frame_type) for frame_type in frame_types} - named == set()


def test_the_contract_names_every_code_and_every_setting_of_a_tenant() -> None:
    assert set(re.findall(r"^\| `([A-Z_]+)` \|", CONTRACT, re.MULTILINE)) == set(Code)
    table = CONTRACT[CONTRACT.index("**Close codes.**") : CONTRACT.index("## 12.")]
    assert set(CLOSE_CODES) <= {int(code) for code in re.findall(r"\b[14]\d{3}\b", table)}
    [listed] = re.findall(r"A tenant's `config` may hold (.*?)\.", CONTRACT, re.DOTALL)
    assert set(re.findall(r"`(\w+)`", listed)) == set(TENANT_KINDS)
