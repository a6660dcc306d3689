"""Swagger UI's files are in the repository as they were published."""

import hashlib
import re

from chatapi.rest.files import SWAGGER_FILES, WEB

FOLDER = WEB / "swagger"


def test_the_files_are_those_whose_sums_are_noted() -> None:
    noted = dict(re.findall(r"^\| `(.+)` \| `([0-9a-f]{64})` \|$", (FOLDER / "README.md").read_text(), re.MULTILINE))
    assert noted == {name: hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() for name in SWAGGER_FILES}


def test_they_come_with_their_licences() -> None:
    assert "Apache License" in (FOLDER / "LICENSE").read_text()
    assert "SmartBear" in (FOLDER / "NOTICE").read_text()
    mentioned = re.match(
        rb"/\*! For license information please see (\S+) \*/", (FOLDER / SWAGGER_FILES[1]).read_bytes()
    )
    assert mentioned is not None
    assert "MIT License" in (FOLDER / mentioned[1].decode()).read_text()
