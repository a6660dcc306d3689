"""`python tests/checker/__main__.py --cycles 200`: a longer run than the tests make. Exits with 1 for any violation."""

import argparse
import asyncio
import math
import secrets
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from checker.run import Run


def main() -> int:
    parser = argparse.ArgumentParser(description="Random clients against a server that is killed again and again.")
    parser.add_argument("--cycles", type=int, default=20, help="kills and restarts (default: 20)")
    parser.add_argument("--seconds", type=float, default=math.inf, help="end after this long in any case")
    parser.add_argument("--seed", type=int, default=secrets.randbits(32), help="repeats a run as far as it can be")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="a server's setting")
    options = parser.parse_args()
    settings = dict(text.split("=", 1) for text in options.set)
    print(f"seed {options.seed}", flush=True)
    end_s = time.monotonic() + options.seconds

    def is_enough(cycles: int) -> bool:
        return cycles >= options.cycles or time.monotonic() >= end_s

    with tempfile.TemporaryDirectory() as directory:
        report = asyncio.run(Run(Path(directory), options.seed, settings).run(is_enough))
    print(report)
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
