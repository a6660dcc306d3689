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


@pytest.mark.parametrize(
    ("arguments", "prog", "reason"),
    [
        ([], "chatapi", "the following arguments are required: COMMAND"),
        (["nonsense"], "chatapi", "argument COMMAND: invalid choice: 'nonsense'"),
        (["serve", "--port", "x"], "chatapi serve", "argument --port: "),
        (["serve", "a\nb"], "chatapi", "unrecognized arguments: a b"),
        (["backup"], "chatapi backup", "the following arguments are required: TARGET"),
        (["tenant"], "chatapi tenant", "the following arguments are required: ACTION"),
        (["tenant", "show"], "chatapi tenant show", "the following arguments are required: ID"),
        (["key", "revoke", "t"], "chatapi key revoke", "the following arguments are required: KEY_ID"),
        (["bench", "nonsense"], "chatapi bench", "argument SCENARIO: invalid choice: 'nonsense'"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(capsys, arguments, prog, reason):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(f"{prog}: {reason}")
    assert shown.err.endswith(f"; see {prog} --help\n")
    assert shown.err.count("\n") == 1


def test_a_command_loads_none_of_the_others():
    script = """
import contextlib, gc, io, sys
from chatapi.cli import main
usual = gc.get_threshold()
with contextlib.redirect_stdout(io.StringIO()):
    main(["config", "--default"])
print(*sorted(name for name in sys.modules if name.startswith("chatapi.cli.")), "chatapi.client" in sys.modules)
print(gc.get_threshold() == usual, gc.get_freeze_count() > 10_000)
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["chatapi.cli.config", "chatapi.cli.errors", "False", "True", "True"]
