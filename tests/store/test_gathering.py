"""`database.commit_interval_ms`: writes share a commit, and nobody waits for longer than that, or for nothing."""

import asyncio
import time

import pytest
from conftest import StartServer
from writer_bench import Bench, bench, running

from chatapi.errors import ChatError
from chatapi.store import Transaction
from chatapi.store.wal import WalBound
from chatapi.store.writer import MAX_BATCH, MAX_GATHERED_CHARACTERS, Writer

__all__ = ["bench"]  # a fixture

SHORT, ENDLESS = 0.1, 3600.0  # seconds


async def turn_loop() -> None:
    """Long enough for a commit that does not wait to begin."""
    for _ in range(10):
        await asyncio.sleep(0)


def sizes(bench: Bench) -> list[int]:
    return [len(batch) for batch in bench.batches]


def count_commits(writer: Writer) -> float:
    return dict(writer.commit_writes.cumulate())["+Inf"]


async def test_a_message_alone_is_confirmed_after_the_interval(bench: Bench) -> None:
    bench.writer.set_commit_interval(SHORT)
    async with running(bench):
        for _ in range(2):  # also after a commit
            begun_s = time.monotonic()
            message = bench.message()
            await asyncio.sleep(SHORT / 2)
            assert not message.done()
            assert (await message).error is None
            assert time.monotonic() - begun_s >= SHORT * 0.99
    assert sizes(bench) == [1, 1]


async def test_writes_within_the_interval_are_one_commit(bench: Bench) -> None:
    bench.writer.set_commit_interval(ENDLESS)
    async with running(bench):
        messages = []
        for _ in range(5):
            messages += [bench.message(), bench.message()]
            await turn_loop()
        change = bench.change()
        await turn_loop()
        assert bench.batches == []
        bench.writer.set_commit_interval(0)
        assert [(await message).seq for message in messages] == list(range(1, 11))
        assert await change == 11
    assert sizes(bench) == [11]
    assert count_commits(bench.writer) == 1


@pytest.mark.parametrize(
    ("count", "size", "batches"),
    [(MAX_BATCH, 1, [MAX_BATCH]), (4, MAX_GATHERED_CHARACTERS // 4, [4])],
    ids=["writes", "characters"],
)
async def test_a_full_batch_does_not_wait(bench: Bench, count: int, size: int, batches: list[int]) -> None:
    bench.writer.set_commit_interval(ENDLESS)
    async with running(bench):
        messages = [bench.message("x" * size) for _ in range(count - 1)]
        await turn_loop()
        assert bench.batches == []
        for message in [*messages, bench.message("x" * size)]:
            assert (await message).error is None
    assert sizes(bench) == batches


async def test_a_barrier_does_not_wait_nor_do_those_queued_with_it(bench: Bench) -> None:
    async def apply(_: Transaction) -> str:
        return "done"

    bench.writer.set_commit_interval(ENDLESS)
    async with running(bench):
        before = bench.message()
        await turn_loop()
        barrier = bench.change(apply, barrier=True)
        await asyncio.sleep(0)
        after = bench.message()
        assert await barrier == "done"
        assert before.done()
        assert (await after).error is None
    assert sizes(bench) == [2, 1]


@pytest.mark.parametrize("ending", ["close", "set to 0"])
async def test_the_end_does_not_wait(bench: Bench, ending: str) -> None:
    bench.writer.set_commit_interval(ENDLESS)
    async with running(bench):
        message = bench.message()
        await turn_loop()
        if ending == "set to 0":
            bench.writer.set_commit_interval(0)
            assert (await message).seq == 1
    assert (await message).seq == 1


async def test_reads_that_wait_for_a_checkpoint_do_not_wait_for_more_writes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.writer.set_commit_interval(ENDLESS)
    async with running(bench):
        message = bench.message()
        await turn_loop()
        assert not message.done()
        monkeypatch.setattr(WalBound, "is_due", property(lambda _: True))
        bench.writer.wake()  # as the last read does that ends
        assert (await message).error is None
        monkeypatch.undo()


async def test_steps_of_the_background_do_not_wait(bench: Bench) -> None:
    """One of them for each commit would make an import wait for as long as all these commits."""
    bench.writer.set_commit_interval(ENDLESS)
    async with running(bench):
        message = bench.message()
        await turn_loop()
        for number in range(3):
            assert await bench.writer.step(lambda _connection, _is_over, number=number: number) == number
        assert not message.done()
    assert (await message).seq == 1


async def test_writes_that_were_gathered_fail_alone_and_all_when_the_database_refuses(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_: Transaction) -> None:
        raise RuntimeError("a bug")

    async def refuse(_: Transaction) -> None:
        raise MemoryError

    async with running(bench):
        for bad, statuses in ((fail, [None, 500, None]), (refuse, [503, 503, 503])):
            bench.writer.set_commit_interval(ENDLESS)
            first = bench.message()
            await turn_loop()
            change = bench.change(bad)
            await turn_loop()
            last = bench.message()
            bench.writer.set_commit_interval(SHORT)
            with pytest.raises(ChatError) as refused:
                await change
            errors = [(await first).error, refused.value, (await last).error]
            assert [error and error.status for error in errors] == statuses
        assert (await bench.message()).seq == 3  # the interval begins anew
    assert bench.writer.writable


async def test_a_server_gathers_and_stops_without_waiting(start_server: StartServer) -> None:
    server = await start_server({"database.commit_interval_ms": 100})
    alice = server.user("alice")
    room_id = await alice.make_room()
    writer = server.services.store.writer
    before, begun_s = count_commits(writer), time.monotonic()
    await asyncio.gather(*(alice.say(room_id) for _ in range(20)))
    assert time.monotonic() - begun_s >= 0.099
    assert count_commits(writer) - before < 20
    writer.set_commit_interval(ENDLESS)
    assert (await alice.get("/rooms")).status == 200
    async with asyncio.timeout(30):
        await server.app.close()  # which stores when the key was used last, among others
    assert not writer.has_work
