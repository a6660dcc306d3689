"""`python tests/measure_replica.py WHAT`: what Litestream beside the server costs, and what a lost machine costs.

losses    kills the server and Litestream at random moments, with the disk gone: how much of what was confirmed is lost
sends     chatapi bench ws-send with Litestream beside the server and without, in turns: the ratio
restore   a database of many messages: how long it takes until another machine serves it
wal       with checkpoints = "external" and no Litestream: the log grows to its bound of 1 GiB, and no further
"""

import argparse
import asyncio
import contextlib
import json
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from driver import eventually
from litestream import INTERVAL, SETTINGS, Chatting, Litestream, Loss, count_loss, lose_machine, start_s3
from server_process import ServerProcess, free_port

from chatapi.clock import Clock
from chatapi.store.check import check_database
from chatapi.store.prefill import prefill

LOAD_SECONDS = (2.0, 4.0)  # before a kill, at random
BENCH_SECONDS = 4
LARGE = 60_000  # characters of a message


@contextlib.contextmanager
def open_replica(kind: str, folder: Path) -> Iterator[str | Path]:
    if kind == "directory":
        yield folder / "replica"
    else:
        with start_s3(folder) as address:
            yield address


async def lose(kind: str, interval: str, folder: Path) -> tuple[Loss, int]:
    """What was lost, and how many messages had been confirmed."""
    lost, spare = folder / "lost", folder / "spare"
    for made in (lost, spare):
        made.mkdir()
    port = free_port()
    with open_replica(kind, folder) as replica, contextlib.ExitStack() as undo:
        first, second = (ServerProcess(where, SETTINGS, dev=False, port=port) for where in (lost, spare))
        litestream = Litestream(folder, lost / "chatapi.db", replica, interval)
        undo.callback(litestream.kill)
        await asyncio.to_thread(first.start)
        await asyncio.to_thread(litestream.start)
        chatting = Chatting(first.url, await asyncio.to_thread(first.create_tenant, "acme"))
        async with asyncio.TaskGroup() as group:
            group.create_task(chatting.run())
            await asyncio.sleep(random.uniform(*LOAD_SECONDS))
            killed_s = await asyncio.to_thread(lose_machine, first, litestream, lost)
            await asyncio.to_thread(litestream.restore, spare / "chatapi.db")
            assert (await asyncio.to_thread(check_database, str(spare / "chatapi.db"))).findings == []
            with closing(sqlite3.connect(spare / "chatapi.db")) as connection:
                stored = {content for (content,) in connection.execute("SELECT content FROM messages")}
            confirmed = len(chatting.confirmed)
            await asyncio.to_thread(second.start)
            await eventually(lambda: len(chatting.confirmed) > confirmed)
            chatting.is_over = True
        second.kill()
        return count_loss(chatting, stored, killed_s), confirmed


def measure_losses(kind: str, interval: str, kills: int) -> None:
    losses = []
    for number in range(kills):
        with tempfile.TemporaryDirectory() as folder:
            loss, confirmed = asyncio.run(lose(kind, interval, Path(folder)))
        losses.append(loss.seconds * 1000)
        print(f"kill {number + 1}: {loss.messages} of {confirmed} messages, {losses[-1]:.0f} ms", flush=True)
    median = statistics.median(losses)
    print(f"{kind}, intervals {interval}, {kills} kills: median {median:.0f}, most {max(losses):.0f} ms")


def measure_sends(kind: str, interval: str, rounds: int) -> None:
    ratios, costs = [], []
    with tempfile.TemporaryDirectory() as name, open_replica(kind, Path(name)) as replica:
        folder = Path(name)
        (folder / "server").mkdir()
        with ServerProcess(folder / "server", {**SETTINGS, "log.level": "warning"}, dev=False) as server:
            litestream = Litestream(folder, folder / "server" / "chatapi.db", replica, interval)
            for number in range(rounds):
                runs: dict[bool, tuple[float, float]] = {}
                # In turns which comes first, so that a machine that gets slower favours neither.
                for is_beside in (False, True) if number % 2 else (True, False):
                    if is_beside:
                        litestream.start()
                    runs[is_beside] = run_bench(server)
                    litestream.kill()
                (beside, beside_us), (alone, alone_us) = runs[True], runs[False]
                ratios.append(beside / alone)
                costs.append(beside_us / alone_us)
                print(
                    f"round {number + 1}: {alone:,.0f}/s of {alone_us:.0f} us, beside it {beside:,.0f}/s of"
                    f" {beside_us:.0f} us",
                    flush=True,
                )
    for what, found in (("messages per second", ratios), ("the server's processor time for each", costs)):
        print(
            f"{kind}, intervals {interval}, {what}: {statistics.median(found):.2f} times as without Litestream"
            f" ({min(found):.2f} to {max(found):.2f})"
        )


def run_bench(server: ServerProcess) -> tuple[float, float]:
    """Messages per second, and the server's microseconds of the processor for each."""
    command = [sys.executable, "-m", "chatapi", "bench", "ws-send", "--url", server.url, "--json"]
    environment = {"CHATAPI_AUTH_MASTER_KEY": server.master_key, "PYTHONPATH": str(Path(__file__).parent.parent)}
    before_s = server.find_cpu_seconds()
    run = subprocess.run([*command, "--seconds", str(BENCH_SECONDS)], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    [measured] = json.loads(run.stdout)["servers"]
    [done] = measured["rounds"]
    confirmed = int(done["check"].split()[1].replace(",", ""))
    return float(measured["figures"]["messages_per_s"]), (server.find_cpu_seconds() - before_s) * 1e6 / confirmed


def measure_restore(kind: str, messages: int) -> None:
    with tempfile.TemporaryDirectory() as name, open_replica(kind, Path(name)) as replica:
        folder = Path(name)
        for made in ("first", "spare"):
            (folder / made).mkdir()
        prefill(str(folder / "first" / "chatapi.db"), messages, Clock())
        with ServerProcess(folder / "first", SETTINGS, dev=False) as first:
            key = first.create_tenant("acme")
            while first.call("GET", "/health", key=key, user="bob")["search"]["lag"]:
                time.sleep(0.5)
            size = (folder / "first" / "chatapi.db").stat().st_size
            litestream = Litestream(folder, folder / "first" / "chatapi.db", replica)
            started_s = time.monotonic()
            litestream.start(wait_seconds=600.0)
            print(
                f"{messages:,} messages, {size / 1e6:.0f} MB: replicated after {time.monotonic() - started_s:.1f} s",
                flush=True,
            )
            room: dict[str, object] = {"type": "group"}
            room_id = first.call("POST", "/rooms", room, key=key, user="bob")["room_id"]
            for number in range(100):
                body: dict[str, object] = {"content": f"{number}"}
                first.call("POST", f"/rooms/{room_id}/messages", body, key=key, user="bob")
                time.sleep(0.02)
            time.sleep(2.0)
            litestream.kill()
        started_s = time.monotonic()
        litestream.restore(folder / "spare" / "chatapi.db")
        restored_s = time.monotonic()
        with ServerProcess(folder / "spare", SETTINGS, dev=False) as spare:
            ready_s = time.monotonic()
            found = spare.call("GET", f"/rooms/{room_id}/messages", key=key, user="bob")["messages"]
            assert len(found) >= 50, "the newest messages are missing"
        print(f"restored in {restored_s - started_s:.1f} s, started in {ready_s - restored_s:.1f} s")


def measure_wal() -> None:
    with tempfile.TemporaryDirectory() as name, ServerProcess(Path(name), SETTINGS, dev=False) as server:
        key = server.create_tenant("acme")
        room: dict[str, object] = {"type": "group"}
        room_id = server.call("POST", "/rooms", room, key=key, user="bob")["room_id"]
        database, wal = Path(name) / "chatapi.db", Path(name) / "chatapi.db-wal"
        body: dict[str, object] = {"content": LARGE * "x"}
        most, longest_s, after = 0, 0.0, 0
        while after < 2_000:
            started_s = time.monotonic()
            server.call("POST", f"/rooms/{room_id}/messages", body, key=key, user="bob")
            longest_s = max(longest_s, time.monotonic() - started_s)
            most = max(most, wal.stat().st_size)
            after += database.stat().st_size > 1024**3 // 2
        lines = [line for line in server.log.read_text().splitlines() if "grown past" in line]
        print(
            f"the log grew to {most / 1024**2:.0f} MiB; the database has {database.stat().st_size / 1024**2:.0f} MiB,"
            f" {after} messages later the log has {wal.stat().st_size / 1024**2:.0f}; longest send {longest_s:.2f} s"
        )
        print(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("losses", "sends", "restore", "wal"))
    parser.add_argument("--replica", choices=("directory", "s3"), default="s3")
    parser.add_argument("--interval", default=INTERVAL, help="monitor-interval and sync-interval")
    parser.add_argument("--count", type=int, default=10, help="kills, or rounds")
    parser.add_argument("--messages", type=int, default=1_000_000)
    args = parser.parse_args()
    if args.what == "losses":
        measure_losses(args.replica, args.interval, args.count)
    elif args.what == "sends":
        measure_sends(args.replica, args.interval, args.count)
    elif args.what == "restore":
        measure_restore(args.replica, args.messages)
    else:
        measure_wal()


if __name__ == "__main__":
    main()
