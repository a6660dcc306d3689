"""`python tests/bench/rival.py`: this server beside a small one of Node's `ws` and better-sqlite3 (rival.mjs).

Both store each message durably (WAL, synchronous=FULL) on the same disk, and get the same load from `chatapi bench` in
turns. The ratios are of each round's two halves; above 1 this server is the better one. It needs Node and npm, which
installs the packages beside this file at first; better-sqlite3 is compiled unless its authors' binary can be had.
"""

import argparse
import json
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

from npm import install_packages

FOLDER = Path(__file__).parent
TREE = FOLDER.parent.parent
LISTENING = "listening on "


class Race(NamedTuple):
    label: str
    scenario: str
    clients: int
    figure: str  # of `chatapi bench`
    unit: str
    more_is_better: bool


RACES = (
    Race("REST, one client, p50", "rest-send", 1, "p50_ms", "ms", False),
    Race("WebSocket, one client, p50", "ws-send", 1, "p50_ms", "ms", False),
    Race("REST, 64 clients", "rest-send", 64, "messages_per_s", "messages/s", True),
    Race("WebSocket, 64 clients", "ws-send", 64, "messages_per_s", "messages/s", True),
)


class Rival(NamedTuple):
    url: str
    master_key: str


@contextmanager
def open_rival() -> Iterator[Rival]:
    """The Node server, with an empty database where `chatapi bench` has those of its own servers."""
    master_key = f"mk_{secrets.token_urlsafe(32)}"
    with tempfile.TemporaryDirectory(prefix="chatapi-rival-") as folder:
        command = ["node", FOLDER / "rival.mjs", Path(folder) / "rival.db", master_key]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            if not said.startswith(LISTENING):
                raise SystemExit("the rival did not start")
            yield Rival(said.removeprefix(LISTENING).strip(), master_key)
        finally:
            process.kill()
            process.wait()


def run_bench(race: Race, rival: Rival, rounds: int, seconds: float) -> dict[str, Any]:
    """The report of a run in which both take turns. Ends the program if either of them lost a message that it had
    confirmed, doubled one, or got their order wrong."""
    options = {
        "--clients": race.clients,
        "--window": 1,
        "--seconds": seconds,
        "--warmup": min(1.0, seconds),
        "--rounds": rounds,
        "--url": rival.url,
        "--master-key": rival.master_key,
        "--against-tree": TREE,
    }
    command = [sys.executable, "-m", "chatapi", "bench", race.scenario, "--json"]
    command += [str(part) for option in options.items() for part in option]
    ran = subprocess.run(command, cwd=TREE, stdout=subprocess.PIPE, text=True)
    if ran.returncode:
        raise SystemExit(f"{race.label}: not all went well\n{ran.stdout}")
    report: dict[str, Any] = json.loads(ran.stdout)
    return report


def format_row(race: Race, report: dict[str, Any]) -> str:
    theirs, ours = (server["figures"][race.figure] for server in report["servers"])
    [ratios] = report["ratios"].values()  # of the rival's figures to this server's
    ratio = 1 / ratios[race.figure] if race.more_is_better else ratios[race.figure]
    form = "{:,.0f}" if race.more_is_better else "{:.3f}"
    return f"{race.label:<28}{form.format(ours):>10}{form.format(theirs):>10} {race.unit:<12}{ratio:>6.2f} x"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="of each row (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each half of a round (default: %(default)s)")
    parser.add_argument("--lone", action="store_true", help="only the rows of one client")
    args = parser.parse_args()
    install_packages(FOLDER, runs_scripts=True)
    print(f"{f'medians of {args.rounds} rounds':<28}{'chatapi':>10}{'node':>10} {'':<12}{'ratio':>8}")
    for race in RACES:
        if race.clients == 1 or not args.lone:
            with open_rival() as rival:  # a new one for each: the other's database is new in each round
                print(format_row(race, run_bench(race, rival, args.rounds, args.seconds)), flush=True)


if __name__ == "__main__":
    main()
