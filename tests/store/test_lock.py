import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from sample_database import damage, make_database, query

from chatapi.cli import main
from chatapi.store import StoreError, check_usable
from chatapi.store.lock import DatabaseInUse, DatabaseLock
from chatapi.store.standalone import UnusableDatabase, open_snapshot

# A process that makes others, which take a database as the server does: the lock, and then SQLite. Their confirmed
# messages are in the log (the WAL) alone. Each is killed when it is asked for.
HOLDERS = """
import os, signal, sqlite3, subprocess, sys
from chatapi.store import StoreError, check_usable
from chatapi.store.lock import DatabaseLock

def hold(path, with_child):
    os.chdir(os.path.dirname(path))
    name = os.path.basename(path)
    DatabaseLock(name).acquire()
    connection = sqlite3.connect(name, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    if connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'meta'").fetchone():
        connection.execute("INSERT INTO meta VALUES ('told', 'yes')")
    child = with_child and subprocess.Popen(["sleep", "60"], close_fds=False, stdout=subprocess.DEVNULL).pid
    print(os.getpid(), child, flush=True)
    signal.alarm(60)  # should nobody kill it
    signal.pause()

for line in sys.stdin:
    action, value = line.rstrip().split(" ", 1)
    if action == "kill":
        os.kill(int(value), signal.SIGKILL)
        os.waitpid(int(value), 0)
        print("gone", flush=True)
    elif not os.fork():
        hold(value, action == "hold-with-child")
"""
TOLD = "SELECT value FROM meta WHERE name = 'told'"


class Holders:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def _ask(self, action: str, value: object) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(action, value, file=self._process.stdin, flush=True)
        return self._process.stdout.readline()

    @contextmanager
    def hold(self, path: Path, action: str = "hold") -> Iterator[tuple[int, int]]:
        """The process that has the database, and its child's; at the end the first is killed."""
        holder, child = map(int, self._ask(action, path).replace("False", "0").split())
        try:
            yield holder, child
        finally:
            assert self._ask("kill", holder) == "gone\n"


@pytest.fixture(scope="module")
def holders() -> Iterator[Holders]:
    command = [sys.executable, "-c", HOLDERS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Holders(process)
        process.kill()


def test_one_process_keeps_others_out_until_it_is_killed(tmp_path: Path, holders: Holders) -> None:
    lock = DatabaseLock(str(tmp_path / "chat.db"))
    with holders.hold(tmp_path / "chat.db") as (holder, _):
        with pytest.raises(DatabaseInUse, match=f"chat.db is in use by process {holder}$"):
            lock.acquire()
        with pytest.raises(DatabaseInUse):
            lock.acquire()
    with lock:
        assert (tmp_path / "chat.db.lock").read_text().split() == [str(os.getpid())]


def link_beside(path: Path) -> Path:
    os.link(path, path.with_name("link.db"))
    return path.with_name("link.db")


def link_elsewhere(path: Path) -> Path:
    (path.parent / "elsewhere").mkdir()
    os.link(path, path.parent / "elsewhere" / path.name)
    return path.parent / "elsewhere" / path.name


def point_to_link(path: Path) -> Path:
    path.with_name("pointer.db").symlink_to(link_beside(path))
    return path.with_name("pointer.db")


def point(path: Path) -> Path:
    path.with_name("pointer.db").symlink_to(path.name)
    return path.with_name("pointer.db")


def point_to_folder(path: Path) -> Path:
    (path.parent / "pointer").symlink_to(path.parent)
    return path.parent / "pointer" / path.name


def go_around(path: Path) -> Path:
    return path.parent / ".." / path.parent.name / path.name


NAMES = [link_beside, link_elsewhere, point_to_link, point, point_to_folder, go_around]


@pytest.mark.parametrize("give_name", NAMES)
def test_another_name_of_the_database_is_the_same_lock(
    tmp_path: Path, holders: Holders, give_name: Callable[[Path], Path]
) -> None:
    path = tmp_path / "chat.db"
    with holders.hold(path):
        other = give_name(path)  # while it is in use
        with pytest.raises(DatabaseInUse, match=f"^the database {other} is in use"):
            DatabaseLock(str(other)).acquire()
    with holders.hold(other), pytest.raises(DatabaseInUse, match=r"chat\.db is in use"):
        DatabaseLock(str(path)).acquire()
    with DatabaseLock(str(other)), DatabaseLock(str(tmp_path / "another.db")):
        pass


def test_child_of_the_holder_does_not_have_the_lock(tmp_path: Path, holders: Holders) -> None:
    with holders.hold(tmp_path / "chat.db", "hold-with-child") as (_, child):
        pass
    try:
        with DatabaseLock(str(link_beside(tmp_path / "chat.db"))):
            os.kill(child, 0)
    finally:
        os.kill(child, 9)


def test_it_can_be_taken_again_after_release(tmp_path: Path) -> None:
    first, second = (DatabaseLock(str(tmp_path / "chat.db")) for _ in range(2))
    first.acquire()
    with pytest.raises(DatabaseInUse):
        second.acquire()
    first.release()
    first.release()
    with second:
        pass


def test_sqlite_has_its_own_locks_beside_it(tmp_path: Path) -> None:
    path = make_database(tmp_path / "chat.db")
    with DatabaseLock(str(path)), closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        # Through the other connection's own locks: within one process SQLite counts them itself.
        look = f"import sqlite3; sqlite3.connect({str(path)!r}, timeout=0).execute('BEGIN IMMEDIATE')"
        ended = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True)
        assert "database is locked" in ended.stderr
        connection.execute("COMMIT")


def test_nobody_else_may_read_the_files(tmp_path: Path) -> None:
    (tmp_path / "pointer.db").symlink_to("chat.db")  # which does not exist yet
    with DatabaseLock(str(tmp_path / "pointer.db")):
        for name in ("chat.db", "chat.db.lock"):
            assert (tmp_path / name).stat().st_mode & 0o777 == 0o600


def test_a_folder_that_does_not_exist_is_the_systems_own_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        DatabaseLock(str(tmp_path / "nowhere" / "chat.db")).acquire()


# The log of a server that was killed is beside the name by which it had the database.


@pytest.fixture
def killed(tmp_path: Path, holders: Holders) -> Path:
    path = make_database(tmp_path / "chat.db")
    with holders.hold(path):
        pass
    assert (tmp_path / "chat.db-wal").stat().st_size > 0
    return path


@pytest.mark.parametrize("give_name", [link_beside, link_elsewhere, point_to_link])
def test_a_link_is_refused_while_the_log_is_beside_another_name(
    killed: Path, give_name: Callable[[Path], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    link = give_name(killed)
    with pytest.raises(
        StoreError, match=f"{link}: is another name .a hard link. of {killed}, which has a log of its own"
    ):
        check_usable(str(link))
    assert main(["check", str(link)]) == 1
    assert main(["backup", "--db", str(link), str(killed.with_name("copy.db"))]) == 1
    assert capsys.readouterr().err.count("is another name (a hard link)") == 2
    with pytest.raises(DatabaseInUse, match="is another name"):
        DatabaseLock(str(link)).acquire()
    assert query(killed, TOLD) == [("yes",)]  # and with that closed: now the log is in the database
    with DatabaseLock(str(link)), open_snapshot(str(link)) as connection:
        assert connection.execute(TOLD).fetchall() == [("yes",)]


@pytest.mark.parametrize("give_name", [point, point_to_folder, go_around])
def test_another_path_to_the_same_name_finds_the_log(killed: Path, give_name: Callable[[Path], Path]) -> None:
    other = str(give_name(killed))
    with DatabaseLock(other), open_snapshot(other) as connection:
        assert connection.execute(TOLD).fetchall() == [("yes",)]


def test_a_database_that_was_moved_without_its_log_is_refused(killed: Path) -> None:
    moved = killed.with_name("moved.db")
    killed.rename(moved)
    log = killed.with_name("chat.db-wal")
    left = f"moved.db: was moved here without its log, {log}, .* move that to {moved}-wal$"
    with pytest.raises(UnusableDatabase, match=left), open_snapshot(str(moved)):
        pass
    log.rename(moved.with_name("moved.db-wal"))
    with DatabaseLock(str(moved)), open_snapshot(str(moved)) as connection:
        assert connection.execute(TOLD).fetchall() == [("yes",)]


def test_a_copy_is_no_link(killed: Path) -> None:
    copy = killed.with_name("copy.db")
    for suffix in ("", "-wal"):
        shutil.copy2(f"{killed}{suffix}", f"{copy}{suffix}")  # extended attributes included
    with DatabaseLock(str(copy)), open_snapshot(str(copy)) as connection:
        assert connection.execute(TOLD).fetchall() == [("yes",)]


def test_a_link_is_told_of_at_the_start(killed: Path, caplog: pytest.LogCaptureFixture) -> None:
    link_beside(killed)
    with DatabaseLock(str(killed)):
        assert "has 2 names (hard links)" in caplog.text


def test_no_extended_attributes_are_no_obstacle(killed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "setxattr")
    monkeypatch.delattr(os, "getxattr")
    with DatabaseLock(str(killed)), suppress(sqlite3.Error):
        damage(killed, "DELETE FROM meta WHERE name = 'told'")
