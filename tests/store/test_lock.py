import os
import subprocess
import sys

import pytest

from chatapi.store.lock import DatabaseInUse, DatabaseLock

HOLD = """
import sys
from chatapi.store.lock import DatabaseLock
DatabaseLock(sys.argv[1]).acquire()
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock of `chat.db`, and ends when its stdin closes."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "chat.db")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_one_process_keeps_others_out_until_it_is_killed(tmp_path, holder):
    lock = DatabaseLock(str(tmp_path / "chat.db"))
    with pytest.raises(DatabaseInUse, match=f"chat.db is in use by process {holder.pid}$"):
        lock.acquire()
    holder.kill()
    holder.wait()
    with lock:
        assert (tmp_path / "chat.db.lock").read_text() == f"{os.getpid()}\n"


def test_another_name_of_the_database_is_the_same_lock(tmp_path, holder):
    (tmp_path / "other.db").symlink_to(tmp_path / "chat.db")
    with pytest.raises(DatabaseInUse, match=r"other\.db is in use"):
        DatabaseLock(str(tmp_path / "other.db")).acquire()


def test_it_can_be_taken_again_after_release(tmp_path):
    first, second = (DatabaseLock(str(tmp_path / "chat.db")) for _ in range(2))
    first.acquire()
    with pytest.raises(DatabaseInUse):
        second.acquire()
    first.release()
    first.release()
    with second:
        pass


def test_nobody_else_may_read_the_lock_file(tmp_path):
    with DatabaseLock(str(tmp_path / "chat.db")):
        assert (tmp_path / "chat.db.lock").stat().st_mode & 0o777 == 0o600


def test_a_folder_that_does_not_exist_is_the_systems_own_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        DatabaseLock(str(tmp_path / "nowhere" / "chat.db")).acquire()
