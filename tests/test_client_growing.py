"""Messages that grow, where deltas are missing: what the server itself makes up for only by a state."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from chatapi.client.growing import Growth


def show(index: int, content: str) -> Any:
    stream = {"state": "open", "index": index}
    return {"room_id": "r", "message_id": "m", "seq": 1, "content": content, "deleted_at": None, "stream": stream}


def delta(after: int, index: int, text: str) -> dict[str, Any]:
    return {"type": "message.delta", "room_id": "r", "message_id": "m", "after": after, "index": index, "text": text}


async def test_a_newer_delta_makes_it_read_again_and_keeps_those_that_come_meanwhile() -> None:
    asked: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    tasks: list[asyncio.Task[None]] = []

    async def read(_room_id: str, _message_id: str) -> Any:
        return await asked

    def run(work: Coroutine[Any, Any, None]) -> bool:
        tasks.append(asyncio.create_task(work))
        return True

    growth = Growth(read, run)
    growing = growth.follow(show(1, "a"))
    growth.receive(delta(1, 2, "b"))
    assert (growing.message["content"], tasks) == ("ab", [])
    growth.receive(delta(1, 2, "b"))  # an older one
    assert (growing.message["content"], tasks) == ("ab", [])
    growth.receive(delta(3, 4, "d"))
    growth.receive(delta(4, 5, "e"))
    asked.set_result(show(4, "abcd"))
    await asyncio.gather(*tasks)
    assert (growing.message["content"], len(tasks)) == ("abcde", 1)
    growth.receive(delta(5, 6, "f"))
    assert growing.message["content"] == "abcdef"
    growth.receive({"type": "room.deleted", "room_id": "r"})
    assert not growing.is_open
    assert [text async for text in growing.text()] == ["abcdef"]
