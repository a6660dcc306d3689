"""docs/operations.md on a machine with systemd: what it has an operator write and paste. And README's first line."""

import json
import re
import sqlite3

import pytest
from examples import ROOT, example
from go_database import make_go_database
from installation import CHECKOUT, PIP, Installation
from machine import SHARED

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(900)]

TENANTS = example("docs/operations.md", "sh", "chatapi tenant list\n")
BACKUP_SCRIPT = example("docs/operations.md", "sh", "# /usr/local/sbin/chatapi-backup")
BACKUP_UNIT = example("docs/operations.md", "ini", "chatapi-backup.service")
BACKUP_TIMER = example("docs/operations.md", "ini", "chatapi-backup.timer")
START_TIMER = example("docs/operations.md", "sh", "enable --now chatapi-backup.timer")
SQLITE_VERSION = example("docs/operations.md", "sh", "sqlite_version")
RESTORE = example("docs/operations.md", "sh", "BROKEN")
CHECK = example("docs/operations.md", "sh", "chatapi check   ")
COMPACT = example("docs/operations.md", "sh", "chatapi compact   ")
COMPACT_ONCE = example("docs/operations.md", "sh", "chatapi compact\nsystemctl start")
UPGRADE = example("docs/operations.md", "sh", "pip install --upgrade")
IMPORT = example("docs/operations.md", "sh", "chatapi import")
NEWCOMER = example("README.md", "sh", "serve --dev")

BACKEND_UNIT = """[Unit]
Requires=chatapi.service
After=chatapi.service

[Service]
Type=oneshot
ExecStart=/usr/bin/curl -sSf http://127.0.0.1:8080/readyz
"""
LONG_START = """
import asyncio, threading
from chatapi.cli import systemd

systemd.START_SECONDS, systemd.START_INTERVAL_SECONDS = 3.0, 1.0

async def start():
    with systemd.starting():
        {wait}
    systemd.tell_ready()

asyncio.run(start())
"""

MAIN_PID = "systemctl show -P MainPID chatapi"
RESTARTS = "systemctl show -P NRestarts chatapi"


def test_the_installed_server_runs_as_the_unit_says(installed: Installation) -> None:
    pid = installed.run(MAIN_PID).strip()
    status = installed.run(f"cat /proc/{pid}/status; stat -c %U /proc/{pid}")
    assert re.search(r"^CapEff:\s+0+$", status, re.MULTILINE)
    assert re.search(r"^Seccomp:\s+2$", status, re.MULTILINE)
    assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE)
    assert status.endswith("chatapi\n")
    assert re.search(r" / / ro[ ,]", installed.run(f"cat /proc/{pid}/mountinfo"))
    assert "/uvloop/" in installed.run(f"cat /proc/{pid}/maps")
    assert installed.read(installed.say("Hello")) == ["Hello"]
    assert "process_start_time_seconds 1." in installed.run("curl -s localhost:8080/metrics"), "of now, not of 1970"


def test_systemds_exposure_score_is_as_documented(installed: Installation) -> None:
    assert installed.run("systemd-analyze verify chatapi.service") == ""
    [told] = re.findall(r"exposure at ([\d.]+) of 10", (ROOT / "docs/operations.md").read_text())
    rated = installed.run("systemd-analyze security --no-pager chatapi.service")
    assert f"Overall exposure level for chatapi.service: {told} OK" in rated
    assert float(told) <= 1.5


def test_after_a_crash_all_that_was_confirmed_is_there(installed: Installation) -> None:
    room_id = installed.say("confirmed")
    installed.run("""
        before=$(systemctl show -P MainPID chatapi)
        systemctl kill --signal=KILL chatapi
        until curl -sf localhost:8080/readyz && [ $(systemctl show -P MainPID chatapi) != $before ]; do sleep 0.1; done
    """)
    assert installed.read(room_id) == ["confirmed"]


def test_units_that_need_the_server_start_when_it_answers(installed: Installation) -> None:
    installed.machine.write("/run/systemd/system/backend.service", BACKEND_UNIT)
    installed.run("systemctl daemon-reload; systemctl stop chatapi; systemctl start backend")


def test_a_server_that_hangs_is_restarted_by_the_watchdog(installed: Installation) -> None:
    room_id = installed.say("confirmed")
    installed.machine.write("/etc/systemd/system/chatapi.service.d/watchdog.conf", "[Service]\nWatchdogSec=4\n")
    installed.restart()
    installed.run("""
        show() { systemctl show -P $1 chatapi; }
        began=$(show ActiveEnterTimestampMonotonic)
        until [ $(show WatchdogTimestampMonotonic) -gt $((began + 1500000)) ]; do sleep 0.1; done
        [ $(show NRestarts) = 0 ]
        before=$(show MainPID)
        kill -STOP $before
        until curl -sf --max-time 1 localhost:8080/readyz && [ $(show MainPID) != $before ]; do sleep 0.1; done
    """)
    assert "Fatal Python error: Aborted" in installed.run("journalctl -u chatapi -n 100")
    assert installed.read(room_id) == ["confirmed"]


def test_a_start_may_take_longer_than_the_unit_says(installed: Installation) -> None:
    run = f"systemd-run --collect --service-type=notify -p TimeoutStartSec=4 /opt/chatapi/bin/python {SHARED}/start.py"
    for wait, status in (("await asyncio.sleep(6)", 0), ("threading.Event().wait()", 1)):
        (installed.machine.shared / "start.py").write_text(LONG_START.format(wait=wait))
        installed.run(run, status=status)


def test_a_start_that_cannot_be_is_told(installed: Installation) -> None:
    installed.machine.write("/etc/chatapi/chatapi.toml", "[server]\nprot = 1\n")
    installed.run("systemctl restart chatapi", status=1)
    assert "server.prot: expected port, got an unknown key" in installed.run("journalctl -u chatapi -n 30")


def test_the_commands_find_the_master_key(installed: Installation) -> None:
    key_id = json.loads(installed.run(f"chatapi key create {installed.tenant_id} --json"))["key_id"]
    script = TENANTS.replace("tenant_1", installed.tenant_id).replace("key_1", key_id)
    done = installed.run(script.replace("--url https://chat.example.com", "--url http://127.0.0.1:8080"))
    assert "webhook_url=https://app.example.com/hooks" in done
    assert f"{key_id} is revoked" in done
    assert installed.tenant_id in installed.run("runuser -u chatapi -- chatapi tenant list")
    assert "master_key_file: expected a readable file (Permission denied)" in installed.run(
        "runuser -u www-data -- chatapi tenant list", status=1
    )


def test_a_backup_a_loss_and_a_restore(installed: Installation) -> None:
    room_id = installed.say("before the backup")
    installed.make_backup()
    installed.say("lost with the disk", room_id)
    for _ in range(2):  # it may be needed more than once
        installed.run("dd if=/dev/zero of=/var/lib/chatapi/chatapi.db bs=4096 count=8 conv=notrunc; sleep 1")
        installed.run(RESTORE)
        assert installed.read(room_id) == ["before the backup"]
    assert installed.run("stat -c '%U:%G %a' /var/lib/chatapi/chatapi.db").strip() == "chatapi:chatapi 600"
    assert installed.run(RESTARTS).strip() == "0"
    installed.say("after the restore", room_id)
    installed.restart()
    assert installed.read(room_id) == ["before the backup", "after the restore"]
    assert installed.run(CHECK).count(": ok: ") == 2


def test_every_night_there_is_a_checked_copy_and_old_ones_go(installed: Installation) -> None:
    installed.make_backup()
    for block in (BACKUP_SCRIPT, BACKUP_UNIT, BACKUP_TIMER):
        installed.write(block)
    installed.run("""
        cd /var/backups/chatapi
        touch -d '9 days ago' chatapi-20250101T031500Z.db chatapi-20250102T031500Z.db.new notes.txt
        touch -d '6 days ago' chatapi-20250105T031500Z.db
    """)
    installed.run(START_TIMER)
    names = set(installed.run("ls /var/backups/chatapi").split())
    [copy] = names - {"by-hand.db", "chatapi-20250105T031500Z.db", "notes.txt"}
    assert re.fullmatch(r"chatapi-\d{8}T\d{6}Z\.db", copy)
    assert ": ok: " in installed.run(f"runuser -u chatapi -- chatapi check /var/backups/chatapi/{copy}")
    assert installed.run("systemctl is-active chatapi-backup.timer").strip() == "active"
    assert installed.run("systemd-analyze verify chatapi-backup.service chatapi-backup.timer") == ""
    [calendar] = re.findall(r"^OnCalendar=(.+)$", BACKUP_TIMER, re.MULTILINE)
    assert "Normalized form: *-*-* 03:15:00" in installed.run(f"systemd-analyze calendar '{calendar}'")


def test_a_copy_that_is_not_sound_keeps_the_old_ones(installed: Installation) -> None:
    installed.make_backup()
    installed.write(BACKUP_SCRIPT, 0o755)
    installed.write(BACKUP_UNIT)
    installed.machine.write("/run/fake/chatapi", "#!/bin/sh\n[ $1 = backup ] && : > $2\n", 0o755)
    installed.machine.write(
        "/run/systemd/system/chatapi-backup.service.d/fake.conf", "[Service]\nEnvironment=PATH=/run/fake:/usr/bin\n"
    )
    installed.run("touch -d '9 days ago' /var/backups/chatapi/chatapi-20250101T031500Z.db; systemctl daemon-reload")
    try:
        installed.run("systemctl start chatapi-backup", status=1)
        assert "chatapi-backup.service" in installed.run("systemctl --failed")
    finally:
        installed.run("rm -r /run/systemd/system/chatapi-backup.service.d; systemctl daemon-reload")
    assert "chatapi-20250101T031500Z.db\n" in installed.run("ls /var/backups/chatapi")


def test_commands_of_root_leave_nothing_that_keeps_the_server_from_starting(installed: Installation) -> None:
    """The document says otherwise, and somebody will forget it: what only reads does no harm."""
    installed.run("systemctl stop chatapi; chatapi check; rm -f /root/copy.db; chatapi backup /root/copy.db")
    installed.run("systemctl start chatapi")
    installed.say("Hello")


def test_an_upgrade(installed: Installation) -> None:
    installed.make_backup()
    before = installed.run(MAIN_PID)
    installed.run(UPGRADE, cwd=CHECKOUT, **PIP)
    assert installed.run(MAIN_PID) != before
    installed.say("Hello")
    assert "before-" in installed.run("ls /var/backups/chatapi")


def test_free_space_is_given_back_by_the_server_or_without_it(installed: Installation) -> None:
    installed.say("Hello")
    assert "/var/lib/chatapi/chatapi.db: " in installed.run(COMPACT)
    assert "/var/lib/chatapi/chatapi.db: " in installed.run(COMPACT_ONCE)
    installed.say("Hello")


def test_the_database_of_the_go_chatapi_is_taken_over(installed: Installation) -> None:
    folder = installed.machine.shared / "go"
    folder.mkdir()
    make_go_database(folder / "chatapi.db")
    installed.run(IMPORT.replace("/path/of/the/old", f"{SHARED}/go"))
    installed.say("Hello")
    assert installed.run("stat -c %U /var/lib/chatapi/chatapi.db.lock").strip() == "chatapi"


def test_database_that_is_restored_gets_new_epochs(installed: Installation) -> None:
    installed.make_backup()
    before = read_epochs(installed, "/var/backups/chatapi/by-hand.db")
    installed.run(RESTORE)
    installed.say("Hello")
    assert "the database was restored or copied" in installed.run("journalctl -u chatapi -n 20")
    installed.run("systemctl stop chatapi")
    after = read_epochs(installed, "/var/lib/chatapi/chatapi.db")
    assert after != before
    installed.run("systemctl start chatapi; systemctl stop chatapi")
    assert read_epochs(installed, "/var/lib/chatapi/chatapi.db") == after


def read_epochs(installed: Installation, path: str) -> str:
    installed.run(f"cp {path} {SHARED}/copy.db")
    with sqlite3.connect(installed.machine.shared / "copy.db") as database:
        return str(database.execute("SELECT tenant_id, epoch FROM tenants ORDER BY tenant_key").fetchall())


def test_the_servers_sqlite_is_shown(installed: Installation) -> None:
    assert re.fullmatch(r"3\.\d+\.\d+\n", installed.run(SQLITE_VERSION))


def test_readmes_first_line_in_a_fresh_checkout(installed: Installation) -> None:
    installed.machine.write("/root/first-line", NEWCOMER)
    settings = " ".join(f"--setenv={name}={value}" for name, value in PIP.items())
    installed.run(f"""
        systemctl stop chatapi
        cp -r {CHECKOUT} /root/checkout
        systemd-run --unit=newcomer --working-directory=/root/checkout {settings} sh -e /root/first-line
        until curl -sf http://127.0.0.1:8080/readyz; do systemctl is-active --quiet newcomer; sleep 0.2; done
    """)
    printed = installed.run("journalctl --output=cat --unit=newcomer")
    assert "API key     sk_" in printed
    installed.run("systemctl stop newcomer")
