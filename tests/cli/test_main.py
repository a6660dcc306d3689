"""What `chatapi` does before any of its commands."""

import subprocess
import sys

import pytest

from chatapi.cli import COMMANDS, main


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    for name, does in COMMANDS.items():
        assert any(line.split(maxsplit=1) == [name, does] for line in lines)


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_explains_itself(name, capsys):
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    output = capsys.readouterr().out
    assert output.startswith(f"usage: chatapi {name} ")
    assert len(output.splitlines()) > 5


def test_an_unknown_command_is_refused(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["nonsense"])
    assert ended.value.code == 2
    assert "invalid choice: 'nonsense'" in capsys.readouterr().err


def test_a_command_loads_none_of_the_others():
    script = """
import contextlib, io, sys
from chatapi.cli import main
with contextlib.redirect_stdout(io.StringIO()):
    main(["config", "--default"])
print(*sorted(name for name in sys.modules if name.startswith("chatapi.cli.")), "chatapi.client" in sys.modules)
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["chatapi.cli.config", "chatapi.cli.errors", "False"]
