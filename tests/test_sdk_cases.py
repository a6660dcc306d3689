"""docs/conformance.md and the file that it describes have the same in them; the command of the page runs."""

import json
import re
import shlex
import subprocess
import sys
from typing import Any

import pytest
from examples import ROOT, example

PAGE = (ROOT / "docs" / "conformance.md").read_text(encoding="utf-8")
FILE: dict[str, Any] = json.loads((ROOT / "tests" / "sdk_cases.json").read_text(encoding="utf-8"))
CASES: list[dict[str, Any]] = FILE["cases"]
STEPS = "\n".join(step for case in CASES for step in case["steps"])
RUN = example("docs/conformance.md", "sh")
TABLE = re.compile(r"^(\|.*\|)\n\|(?:---\|)+\n((?:\|.*\n)+)", re.MULTILINE)
QUOTED = re.compile(r"`([^`]+)`")
USER = re.compile(r"\b(?:alice|bob|carol|dave|dora|erin|eve|frank|grace|mallory)\b")
VARIABLE = re.compile(r"CHATAPI_TEST_\w+")


def rows_of(header: str, below: str = "") -> list[tuple[str, str]]:
    """Both columns of the first table with this header below that heading."""
    text = PAGE[PAGE.index(below) :]
    rows = next(found[2] for found in TABLE.finditer(text) if found[1] == header)
    return [
        (cells[0].strip(), cells[1].strip()) for row in rows.splitlines() if (cells := row.strip("|").split(" | ", 1))
    ]


def names_of(header: str, below: str = "") -> list[str]:
    """What is quoted in the first column."""
    return [name for first, _ in rows_of(header, below) for name in QUOTED.findall(first)]


def section(title: str) -> str:
    start = PAGE.index(f"### {title}\n")
    return PAGE[start : PAGE.index("\n##", start)]


def used(key: str) -> list[str]:
    values = [case[key] for case in CASES if key in case]
    return sorted({value for item in values for value in (item if isinstance(item, list) else [item])})


def test_each_case_shows_one_promise() -> None:
    rows = rows_of("| an SDK promises | the cases that show it |")
    assert sorted(name for _, cases in rows for name in QUOTED.findall(cases)) == sorted(case["name"] for case in CASES)


def test_every_key_and_value_of_a_case_is_described() -> None:
    assert sorted(names_of("| key | holds |", "## The file")) == sorted(FILE)
    assert sorted(names_of("| key | holds |", "### A case")) == sorted({key for case in CASES for key in case})
    assert sorted(names_of("| `needs` | what it is |")) == used("needs")
    assert sorted(names_of("| `over` | what carries the connection |")) == sorted({*used("over"), "poll"})
    assert sorted(names_of("| `subject` | what it is about |")) == used("subject")


def test_every_word_of_the_steps_is_described() -> None:
    words = [word for first, _ in rows_of("| words | meaning |") for word in first.split(", ")]
    assert [word for word in words if word not in STEPS] == []
    assert set(USER.findall(STEPS)) == set(USER.findall(" ".join(words)))


def test_every_table_of_values_is_described() -> None:
    assert all(f"`{key}`" in section("`kept_messages`") for entry in FILE["kept_messages"] for key in entry)
    streams = QUOTED.findall(section("`kept_streams`"))
    assert {event["type"] for entry in FILE["kept_streams"] for event in entry["events"]} == {
        name for name in streams if name.startswith("message")
    } - {"message_id"}
    assert {key for entry in FILE["kept_streams"] for key in entry} <= set(streams)
    assert sorted(names_of("| key | what the proxy does with it |")) == sorted(FILE["newer_server"])
    [values] = [text for key, text in rows_of("| key | what the proxy does with it |") if key == "`values`"]
    assert QUOTED.findall(values) == list(FILE["newer_server"]["values"])
    assert all(isinstance(answer, str) for answer in FILE["foreign_answers"].values())


def test_every_step_of_a_fault_is_described() -> None:
    described = set(names_of("| step | what the runner does |"))
    steps = [step for case in FILE["faults"]["cases"] for step in case["steps"]]
    assert all(len(step) == 1 for step in steps)
    assert {key for step in steps for key in step} == described


def test_every_variable_of_a_runner_is_described() -> None:
    described = sorted(names_of("| variable | what it is |"))
    for file in ("tests/sdk_stage.py", "tests/js/rig.mjs"):
        found = sorted(set(VARIABLE.findall((ROOT / file).read_text(encoding="utf-8"))))
        assert [name for name in found if name != "CHATAPI_TEST_KEY"] == described


@pytest.mark.slow
def test_the_pages_command_runs_a_runner() -> None:
    """The command itself, with a runner that prints what it was given."""
    words = shlex.split(RUN)
    assert (ROOT / words[-1]).is_file()
    assert words[:2] == ["python", "tests/sdk_stage.py"]
    probe = "import os, sys; print(sorted(name for name in os.environ if 'CHATAPI_TEST_' in name)); sys.exit(3)"
    command = [sys.executable, *words[1:2], "--transport", "sse", sys.executable, "-c", probe]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=250, check=False)
    assert (ran.returncode, ran.stderr) == (3, "")
    assert VARIABLE.findall(ran.stdout) == sorted(names_of("| variable | what it is |"))
    none = subprocess.run(command[:2], cwd=ROOT, capture_output=True, text=True, timeout=250, check=False)
    assert (none.returncode, "give the command" in none.stderr) == (2, True)
