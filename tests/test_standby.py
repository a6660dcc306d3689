"""docs/operations.md on a warm standby: its units and its command, on one throw-away machine that is both."""

import re
import shutil
from collections.abc import Iterator

import pytest
from examples import example
from installation import Installation
from litestream import BINARY
from machine import SHARED

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(900)]

SETTINGS = example("docs/operations.md", "toml", "checkpoints")
CONFIGURATION = example("docs/operations.md", "yaml", "/etc/litestream.yml")
ENVIRONMENT = example("docs/operations.md", "sh", "AWS_ACCESS_KEY_ID=...")
REPLICATION = example("docs/operations.md", "ini", "chatapi-litestream.service")
STANDBY = example("docs/operations.md", "ini", "chatapi-standby.service")
TAKE_OVER = example("docs/operations.md", "sh", "# /usr/local/sbin/chatapi-take-over")
START = example("docs/operations.md", "sh", "enable --now chatapi-standby\n")
# No S3 server is inside.
DIRECTORY = "      sync-interval: 250ms\n      type: file\n      path: /srv/replicas/chatapi-${SITE}\n"


def install_litestream(installed: Installation) -> None:
    shutil.copy(BINARY, installed.machine.shared / "litestream")
    installed.run(f"install -m 755 {SHARED}/litestream /usr/local/bin/; install -d -o chatapi /srv/replicas")
    installed.write(re.sub(r"(      .*\n)+", DIRECTORY, CONFIGURATION))
    installed.write(REPLICATION)
    installed.write(STANDBY)
    installed.write(TAKE_OVER, 0o755)
    [line] = re.findall(r"^checkpoints = .*", SETTINGS, re.MULTILINE)
    settings = installed.run("cat /etc/chatapi/chatapi.toml").replace("[database]\n", f"[database]\n{line}\n")
    installed.machine.write("/etc/chatapi/chatapi.toml", settings)


def be(installed: Installation, site: str, other: str) -> None:
    written = ENVIRONMENT.replace("SITE=a", f"SITE={site}").replace("OTHER=b", f"OTHER={other}")
    installed.machine.write("/etc/chatapi/litestream.env", written, 0o600)


@pytest.fixture
def replicated(installed: Installation) -> Iterator[Installation]:
    yield installed
    installed.run("""
        systemctl disable --now chatapi-litestream chatapi-standby || true
        systemctl stop chatapi
        rm -rf /var/lib/chatapi/.chatapi.db-litestream
        systemctl enable chatapi
    """)


def test_standby_takes_over(replicated: Installation) -> None:
    installed = replicated
    installed.run("systemctl stop chatapi")
    install_litestream(installed)
    be(installed, "a", "b")
    units = "chatapi.service chatapi-litestream.service chatapi-standby.service"
    assert installed.run(f"systemd-analyze verify {units}") == ""
    installed.run("systemctl daemon-reload; systemctl enable chatapi-litestream; systemctl start chatapi")
    room_id = installed.say("on the first machine")
    installed.run("systemctl is-active chatapi-litestream")
    installed.run("for _ in $(seq 600); do [ -e /srv/replicas/chatapi-a/ltx/0 ] && break; sleep 0.1; done; sleep 6")

    installed.run("""
        systemctl kill --signal=KILL chatapi-litestream chatapi || true
        systemctl stop chatapi-litestream chatapi
        mv /var/lib/chatapi /var/lib/lost
        systemctl disable chatapi chatapi-litestream
    """)
    be(installed, "b", "a")
    installed.run(START)
    assert "First make sure that the other machine is off" in installed.run("chatapi-take-over", status=2)
    assert installed.run("chatapi-take-over --other-is-off").count("serving\n") == 1
    assert installed.read(room_id) == ["on the first machine"]
    installed.say("on the second", room_id)
    assert "the database was restored or copied" in installed.run("journalctl -u chatapi -n 20")
    assert "There is a database already" in installed.run("chatapi-take-over --other-is-off", status=1)
    assert installed.run("systemctl is-enabled chatapi-standby || true").strip() == "disabled"
    installed.run("for _ in $(seq 600); do [ -e /srv/replicas/chatapi-b/ltx/0 ] && exit; sleep 0.1; done; exit 1")
    assert ": ok: " in installed.run("runuser -u chatapi -- chatapi check")
