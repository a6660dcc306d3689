"""`python tests/move_checker/__main__.py --moves 20`: a longer run than CI makes. Exits with 1 for any violation."""

import argparse
import asyncio
import secrets
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from npm import install_packages

from move_checker.run import Run


def main() -> int:
    parser = argparse.ArgumentParser(description="A tenant that moves between two servers which are killed meanwhile.")
    parser.add_argument("--moves", type=int, default=20, help="how often the tenant moves (default: 20)")
    parser.add_argument("--seed", type=int, default=secrets.randbits(32), help="repeats a run as far as it can be")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    install_packages(Path(__file__).parents[1] / "js")
    with tempfile.TemporaryDirectory() as directory:
        report = asyncio.run(
            Run(Path(directory), options.seed, tell=lambda line: print(line, flush=True)).run(options.moves)
        )
    print(report)
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
