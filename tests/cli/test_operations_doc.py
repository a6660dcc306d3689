"""What docs/operations.md tells an operator to type and to write into files."""

import re
import shlex
from pathlib import Path

import pytest

from chatapi.cli import COMMANDS, load_command, main
from chatapi.config import SETTINGS, load_config
from chatapi.config.tenant import SERVERS_SETTINGS, TENANT_KINDS

TEXT = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)


PREFIXES = (
    ["docker", "exec", "chatapi"],
    ["kubectl", "exec", "deploy/chatapi", "--"],
    ["runuser", "-u", "chatapi", "--"],
)


def commands():
    script = "".join(blocks("sh")).replace("\\\n", " ")
    for line in script.splitlines():
        words = shlex.split(line, comments=True)
        for prefix in PREFIXES:
            if words[: len(prefix)] == prefix:
                words = words[len(prefix) :]
        if words[:1] == ["chatapi"]:
            yield words[1:]


@pytest.mark.parametrize("arguments", list(commands()), ids=" ".join)
def test_each_command_is_understood(arguments, monkeypatch):
    ran = []
    for module in map(load_command, COMMANDS):
        for name in [name for name in vars(module) if name == "run" or name.startswith("run_")]:
            monkeypatch.setattr(module, name, lambda args: ran.append(args) or 0)
    assert main(arguments) == 0
    assert len(ran) == 1


def test_the_commands_are_there():
    assert {arguments[0] for arguments in commands()} == {
        "audit",
        "backup",
        "check",
        "compact",
        "import",
        "tenant",
        "key",
    }


@pytest.mark.parametrize("text", blocks("toml"))
def test_each_settings_file_is_accepted(tmp_path, text):
    key = tmp_path / "master-key"
    key.write_text("0123456789abcdef" * 4)
    file = tmp_path / "chatapi.toml"
    file.write_text(text.replace("/etc/chatapi/master-key", str(key)))
    load_config(str(file), {}, {})


def test_each_variable_is_a_setting():
    variables = set(re.findall(r"\bCHATAPI_([A-Z]+_[A-Z_]*[A-Z])\b", TEXT))
    known = {f"{setting.section}_{setting.key}".upper() for setting in SETTINGS.values()}
    assert variables
    assert variables <= known | {"TO_MASTER_KEY"}  # of a command


def test_each_setting_that_is_named_exists():
    named = set(
        re.findall(r"`((?:server|database|auth|limits|websocket|webhooks|retention|log|metrics)\.[a-z_]+)`", TEXT)
    )
    assert named
    assert named <= set(SETTINGS)


def test_the_table_of_a_tenants_settings_is_complete():
    rows = re.findall(r"^\| `([a-z_]+)` \| (.+) \| (.+) \|$", TEXT, re.MULTILINE)
    without = {
        "webhook_url": "no webhooks",
        "webhook_events": "no events",
        **{key: f"`{name}`" for key, name in SERVERS_SETTINGS.items()},
    }
    assert rows == [(key, kind.expected, without[key]) for key, kind in TENANT_KINDS.items()]
