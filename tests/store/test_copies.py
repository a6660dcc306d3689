"""A database that was restored or copied is recognised at the start, and no other."""

import asyncio
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from sample_database import make_database

from chatapi.clock import Clock
from chatapi.store import open_store
from chatapi.store.backup import back_up
from chatapi.store.lock import DatabaseLock

STARTS = 50
# Starts over and over, as `serve` opens its database, until it is killed.
STARTING = """
import asyncio, sys
from chatapi.clock import Clock
from chatapi.store import open_store
from chatapi.store.lock import DatabaseLock

async def start():
    with DatabaseLock(sys.argv[1]) as lock:
        store = await open_store(sys.argv[1], synchronous="full", readers=1, clock=Clock(), lock=lock)
        await store.close()

while True:
    asyncio.run(start())
    print("started", flush=True)
"""


def start(path: Path) -> None:
    async def open_and_close() -> None:
        with DatabaseLock(str(path)) as lock:
            store = await open_store(str(path), synchronous="normal", readers=1, clock=Clock(), lock=lock)
            await store.close()

    asyncio.run(open_and_close())


def read_epochs(path: Path) -> list[tuple[str]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT epoch FROM tenants ORDER BY tenant_key").fetchall()


@pytest.fixture
def served(tmp_path: Path) -> Path:
    """A database that was started twice."""
    (folder := tmp_path / "data").mkdir()
    path = make_database(folder / "chat.db")
    start(path)
    start(path)
    return path


def copy_elsewhere(path: Path) -> Path:
    (other := path.parent.with_name("other")).mkdir()
    return Path(shutil.copy2(path, other / "chat.db"))


def copy_back(path: Path) -> Path:
    """As Litestream restores: another file replaces the original."""
    copy = shutil.copyfile(path, path.with_name("copy"))
    path.unlink()
    return Path(copy).rename(path)


def copy_back_with_attributes(path: Path) -> Path:
    subprocess.run(["cp", "-a", path, path.with_name("copy")], check=True)
    return path.with_name("copy").replace(path)


def write_earlier_over_it(path: Path) -> Path:
    """The same file: what it holds is of before the last start."""
    earlier = shutil.copyfile(path, path.with_name("earlier"))
    start(path)
    path.write_bytes(Path(earlier).read_bytes())
    return path


def remove_lock(path: Path) -> Path:
    path.with_name("chat.db.lock").unlink()
    return path


def restore_backup(path: Path) -> Path:
    back_up(str(path), str(path.with_name("backup")))
    return path.with_name("backup").replace(path)


def restore_one_without_id(path: Path) -> Path:
    """Made by an earlier version."""
    copy = copy_back(path)
    with closing(sqlite3.connect(copy, isolation_level=None)) as connection:
        connection.execute("DELETE FROM meta WHERE name = 'database_id'")
    return copy


COPIES = (
    copy_elsewhere,
    copy_back,
    copy_back_with_attributes,
    write_earlier_over_it,
    remove_lock,
    restore_backup,
    restore_one_without_id,
)


@pytest.mark.parametrize("make_copy", COPIES)
def test_copy_gets_new_epochs_once(
    served: Path, caplog: pytest.LogCaptureFixture, make_copy: Callable[[Path], Path]
) -> None:
    before = read_epochs(served)
    copy = make_copy(served)
    caplog.clear()
    start(copy)
    assert caplog.messages == ["the database was restored or copied: its tenants have new epochs"]
    renewed = read_epochs(copy)
    assert not set(renewed) & set(before)
    assert len(set(renewed)) == len(before)
    start(copy)
    assert read_epochs(copy) == renewed
    assert len(caplog.messages) == 1


def move_folder(path: Path) -> Path:
    return path.parent.rename(path.parent.with_name("moved")) / path.name


def move_to_another_disk(path: Path) -> Path:
    """Both files become others; attributes may be lost on the way."""
    shutil.copytree(path.parent, path.parent.with_name("moved"), copy_function=shutil.copyfile)
    shutil.rmtree(path.parent)
    return path.parent.with_name("moved") / path.name


def restart(path: Path) -> Path:
    return path


def use_link(path: Path) -> Path:
    (link := path.parent.with_name("link.db")).symlink_to(path)
    return link


def forget_attributes(path: Path) -> Path:
    """As before the version that sets them: the ids were not there either."""
    path.with_name("chat.db.lock").write_text("12345\n")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DELETE FROM meta WHERE name = 'database_id'")
    return path


@pytest.mark.parametrize("act", [restart, move_folder, move_to_another_disk, use_link, forget_attributes])
def test_database_that_is_no_copy_keeps_its_epochs(
    served: Path, caplog: pytest.LogCaptureFixture, act: Callable[[Path], Path]
) -> None:
    before = read_epochs(served)
    caplog.clear()
    path = act(served)
    for _ in range(2):
        start(path)
        assert read_epochs(path) == before
    assert caplog.messages == []


def test_file_system_without_attributes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "setxattr")
    monkeypatch.delattr(os, "getxattr")
    served: Path = request.getfixturevalue("served")
    before = read_epochs(served)
    start(served.parent.rename(served.parent.with_name("moved")) / served.name)
    path = served.parent.with_name("moved") / served.name
    start(path)
    assert read_epochs(path) == before
    start(copy_back_with_attributes(path))
    assert read_epochs(path) != before


@pytest.mark.slow
def test_kills_at_any_moment_of_a_start_change_no_epoch(served: Path) -> None:
    before = read_epochs(served)
    for _ in range(STARTS):
        process = subprocess.Popen([sys.executable, "-c", STARTING, served], stdout=subprocess.PIPE)
        with process:
            assert process.stdout is not None
            assert process.stdout.readline()
            # Within the second or third start, which take some milliseconds each.
            asyncio.run(asyncio.sleep(random.uniform(0, 0.03)))
            process.kill()
        start(served)
        assert read_epochs(served) == before
