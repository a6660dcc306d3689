"""`chatapi bench transfer`: that it tells a tenant that lost something on its way. None asserts a time."""

from pathlib import Path

import pytest

from chatapi.cli import main

SMALL = ["--messages", "1500", "--clients", "4", "--rate", "50", "--seconds", "0.3", "--warmup", "0.2"]
FORGETFUL = """
from chatapi.store import tenant_import
insert_rows = tenant_import.insert_rows
def insert_badly(table, rows, *others):
    if table.name == "messages" and len(rows) > 1:
        rows.pop()
    return insert_rows(table, rows, *others)
tenant_import.insert_rows = insert_badly
"""


@pytest.mark.slow
def test_a_transfer_that_loses_a_message_is_found_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "sitecustomize.py").write_text(FORGETFUL)
    assert main(["bench", "transfer", *SMALL, "--tree", str(tmp_path)]) == 1
    assert "messages were exported, 1,500 imported" in capsys.readouterr().out
