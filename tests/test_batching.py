"""Look-ups joined into batches: shared, taken in turns by tenant, and made by somebody whatever is cancelled."""

import asyncio
from collections.abc import Sequence

import pytest
from driver import eventually

from chatapi.batching import Batcher, FairQueue


async def test_look_up_is_shared_by_all_who_ask_before_it_begins() -> None:
    asked: list[list[str]] = []
    release = asyncio.Event()

    async def load(keys: Sequence[str]) -> Sequence[int]:
        asked.append(list(keys))
        await release.wait()
        return [len(asked)] * len(keys)

    batcher = Batcher(load, 2, lambda _key: None)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(batcher.get("a"))]
        await eventually(lambda: asked)
        tasks += [group.create_task(batcher.get(key)) for key in ("a", "b", "a", "c")]
        await asyncio.sleep(0)
        release.set()
    assert asked == [["a"], ["a", "b"], ["c"]]
    assert [task.result() for task in tasks] == [1, 2, 2, 2, 3]


async def test_a_look_up_that_is_cancelled_is_made_by_another_one() -> None:
    begun = asyncio.Event()

    async def load(keys: Sequence[str]) -> Sequence[str]:
        if not begun.is_set():
            begun.set()
            await asyncio.Event().wait()
        return keys

    batcher = Batcher(load, 10, lambda _key: None)
    first = asyncio.create_task(batcher.get("a"))
    await asyncio.sleep(0)
    second = asyncio.create_task(batcher.get("a"))
    await begun.wait()
    first.cancel()
    assert await second == "a"


def test_owners_have_their_turns() -> None:
    queue: FairQueue[str, int] = FairQueue()
    for item in range(4):
        queue.put("a", item)
    queue.put("b", 10)
    queue.put("c", 20)
    queue.put("c", 21)
    assert (len(queue), queue.count("a"), queue.count("d")) == (7, 4, 0)
    assert [queue.take() for _ in range(len(queue))] == [0, 10, 20, 1, 21, 2, 3]
    assert not queue


async def test_look_up_of_one_key_is_not_behind_a_queue_of_another_tenant() -> None:
    batches: list[list[str]] = []
    begun = asyncio.Event()

    async def load(keys: Sequence[str]) -> Sequence[str]:
        batches.append(list(keys))
        await begun.wait()
        await asyncio.sleep(0)
        return keys

    batcher = Batcher(load, 2, lambda key: key[0])
    order: list[str] = []

    async def ask(key: str) -> None:
        order.append(await batcher.get(key))

    async with asyncio.TaskGroup() as group:
        for number in range(20):
            group.create_task(ask(f"a{number:02}"))
        await eventually(lambda: batches)
        group.create_task(ask("b00"))
        await asyncio.sleep(0)
        begun.set()
    assert "b00" in batches[1] + batches[2]
    assert order.index("b00") <= 6  # as soon as its batch has come, however many still wait before it
    assert sorted(order) == [*(f"a{number:02}" for number in range(20)), "b00"]


async def test_many_keys_of_one_task_come_a_batch_at_a_time() -> None:
    batches: list[list[str]] = []

    async def load(keys: Sequence[str]) -> Sequence[str]:
        batches.append(list(keys))
        await asyncio.sleep(0)
        return [key.upper() for key in keys]

    batcher = Batcher(load, 3, lambda key: key[0])
    async with asyncio.TaskGroup() as group:
        many = group.create_task(batcher.get_many([f"a{number}" for number in range(8)]))
        await asyncio.sleep(0)
        other = group.create_task(batcher.get("b"))
    assert many.result() == [f"A{number}" for number in range(8)]
    assert other.result() == "B"
    assert [sorted(batch) for batch in batches] == [["a0", "a1", "a2"], ["a3", "a4", "a5"], ["a6", "a7", "b"]]


@pytest.mark.parametrize("cancelled", [0, 1, 2])
async def test_others_are_answered_when_one_asker_is_cancelled(cancelled: int) -> None:
    gate = asyncio.Event()

    async def load(keys: Sequence[str]) -> Sequence[str]:
        await gate.wait()
        return keys

    batcher = Batcher(load, 1, lambda _key: None)
    keys = [["a"], ["b", "a"], ["c", "b"], ["d"]]
    tasks = [asyncio.create_task(batcher.get_many(wanted)) for wanted in keys]
    await asyncio.sleep(0)
    tasks[cancelled].cancel()
    await asyncio.sleep(0)
    gate.set()
    async with asyncio.timeout(5):
        results = [await task for number, task in enumerate(tasks) if number != cancelled]
        assert results == [wanted for number, wanted in enumerate(keys) if number != cancelled]
        assert await batcher.get("e") == "e"


async def test_a_turn_that_its_taker_is_too_late_for_is_passed_on() -> None:
    """The one whose turn it is has been told so, and is cancelled before it runs."""

    async def load(keys: Sequence[str]) -> Sequence[str]:
        await asyncio.sleep(0)
        return keys

    batcher = Batcher(load, 1, lambda _key: None)
    tasks = [asyncio.create_task(batcher.get(key)) for key in "abc"]
    await tasks[0]
    tasks[1].cancel()
    async with asyncio.timeout(5):
        assert await tasks[2] == "c"


async def test_every_waiter_of_a_batch_gets_its_error() -> None:
    async def load(keys: Sequence[str]) -> Sequence[str]:
        await asyncio.sleep(0)
        if "bad" in keys:
            raise ValueError("bad")
        return keys

    batcher = Batcher(load, 2, lambda _key: None)
    tasks = [asyncio.create_task(batcher.get(key)) for key in ("bad", "with it", "bad", "later")]
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(result, ValueError) for result in done] == [True, True, True, False]
