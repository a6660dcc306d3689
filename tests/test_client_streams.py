"""The cases of sdk_cases.json on streams, as the Python SDK shows them."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from client_rig import PATIENCE_S, Rig, make_rig
from client_streams import Stream, follow, grown_to, show
from newer import open_newer
from server_process import ServerProcess

from chatapi.client import (
    ApiError,
    Closed,
    StreamFailed,
    apply_event,
    writing,
)

KEPT_STREAMS = json.loads((Path(__file__).parent / "sdk_cases.json").read_text())["kept_streams"]


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("server"), {"limits.sync_limit": "20"}) as process:
        yield process


@pytest.fixture(
    params=["this server", *(pytest.param(way, marks=pytest.mark.slow) for way in ("a newer server", "sse"))]
)
def way(request: pytest.FixtureRequest) -> str:
    """Each case holds over event streams, and also where a newer server adds fields and frames of its own."""
    return str(request.param)


@pytest.fixture
async def url(process: ServerProcess, way: str) -> AsyncIterator[str]:
    if way != "a newer server":
        yield process.url
        return
    async with open_newer(process.url, renames=False) as (_, url):
        yield url


@pytest.fixture
async def rig(process: ServerProcess, url: str, way: str) -> AsyncIterator[Rig]:
    async with make_rig(url, process.master_key) as rig:
        if way == "sse":
            rig.options["transports"] = (way,)
        yield rig


async def test_kept_streams_grow() -> None:
    room: dict[str, Any] = {"room_id": "r", "message_id": "m", "seq": 1, "deleted_at": None}
    for case in KEPT_STREAMS:
        for times in (1, 2):
            message: Any = {**room, **case["shown"]}
            for event in case["events"] * times:
                shown = {**room, **event["message"]} if "message" in event else {}
                message = apply_event(message, {**room, **event, "message": shown})
            assert {name: message[name] for name in ("content", "stream") if name in message} == case["shows"], case
            assert message["seq"] == 1


async def test_stream_is_written_and_followed(rig: Rig) -> None:
    room = await rig.group("alice", "bob")
    alice, bob = await rig.connect("alice"), await rig.connect("bob")
    for count, writer in enumerate((alice.connection, rig.client("alice")), start=1):
        stream = Stream(writer, room, meta={"model": "none"})
        growing = await follow(bob, room, count)
        for piece, text in (("One", "One"), (", two", "One, two"), (", three", "One, two, three")):
            stream.source.put(piece)
            await grown_to(growing, text)
        assert growing.is_open
        stream.source.put(None)
        message = await stream.done()
        assert show(await growing.finished()) == show(growing.message) == show(message)
        assert show(message) == ("One, two, three", "done")
        stored = await rig.client("bob").get_message(room, message["message_id"])
        assert {name: message[name] for name in ("seq", "content", "meta")}.items() <= dict(stored).items()
        assert [text async for text in bob.connection.follow(message).text()] == ["One, two, three"]


@pytest.mark.slow
async def test_stream_outlasts_a_kill(process: ServerProcess, rig: Rig) -> None:
    room, other = await rig.group("alice", "bob"), await rig.group("carol", "bob")
    alice, bob = await rig.connect("alice"), await rig.connect("bob")
    streams = [Stream(alice.connection, room), Stream(rig.client("carol"), other)]
    growing = [await follow(bob, room), await follow(bob, other)]
    for stream, followed in zip(streams, growing, strict=True):
        stream.source.put("before ")
        await grown_to(followed, "before ")
    await asyncio.to_thread(process.kill)
    for stream in streams:
        stream.source.put("during ")
    await asyncio.to_thread(process.start)
    for stream, followed in zip(streams, growing, strict=True):
        stream.source.put("after", None)
        message = await stream.done()
        assert show(message) == ("before during after", "done")
        async with asyncio.timeout(PATIENCE_S):
            assert (await followed.finished())["content"] == "before during after"


async def test_stream_is_followed_from_the_middle(rig: Rig) -> None:
    room = await rig.group("alice", "bob")
    alice, carol = await rig.connect("alice"), await rig.connect("bob")
    stream = Stream(alice.connection, room)
    await grown_to(await follow(carol, room), "")
    stream.source.put("one")
    await grown_to(await follow(carol, room), "one")
    [found] = (await rig.client("bob").list_messages(room))["messages"]
    stream.source.put(" and a half")
    await grown_to(await follow(carol, room), "one and a half")
    bob = await rig.connect("bob")
    for inbox in (carol, bob):
        await grown_to(inbox.connection.follow(found), "one and a half")
    growing = bob.connection.follow(found)
    await bob.connection.pause()
    stream.source.put(", two")
    await grown_to(await follow(carol, room), "one and a half, two")
    await bob.connection.resume()
    await grown_to(growing, "one and a half, two")
    stream.source.put(", three")
    await grown_to(growing, "one and a half, two, three")
    await bob.connection.close()
    assert (await growing.finished())["stream"]["state"] == "open"
    stream.source.put(None)
    await stream.done()
    await carol.until("message.finished")
    async with asyncio.timeout(PATIENCE_S):
        assert show(await carol.connection.follow(found).finished()) == ("one and a half, two, three", "done")


async def test_stream_is_cancelled_by_a_member(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "SIGN_OF_LIFE_S", PATIENCE_S * 2)  # so that no answer tells of it
    room = await rig.group("alice", "bob")
    alice, bob = await rig.connect("alice"), await rig.connect("bob")
    stream = Stream(alice.connection, room)
    stream.source.put("one")
    growing = await follow(bob, room)
    await grown_to(growing, "one")
    message_id = growing.message["message_id"]
    await bob.connection.cancel(room, message_id)
    message = await stream.done()
    assert stream.source.has_ended.is_set()
    assert show(message) == ("one", "cancelled")
    [event] = await alice.until("message.cancel_requested")
    assert (event["message_id"], event["user_id"]) == (message_id, "bob")
    with pytest.raises(ApiError) as ended:
        await rig.client("bob").cancel_message(room, message_id)
    assert (ended.value.status, ended.value.details) == (409, {"index": 1, "state": "cancelled"})

    stream = Stream(rig.client("alice"), room)
    stream.source.put("one")
    growing = await follow(bob, room, 2)
    await grown_to(growing, "one")
    await rig.client("bob").cancel_message(room, growing.message["message_id"])
    stream.source.put(" two")
    message = await stream.done()
    assert stream.source.has_ended.is_set()
    assert show(message) == ("one two", "cancelled")


async def test_stream_ends_with_its_source(rig: Rig) -> None:
    room = await rig.group("alice", "bob")
    alice, bob = await rig.connect("alice"), await rig.connect("bob")

    async def fail() -> AsyncIterator[str]:
        yield "one"
        raise LookupError("no more words")

    for count, writer in enumerate((alice.connection, rig.client("alice")), start=1):
        with pytest.raises(LookupError, match="no more words"):
            await writer.stream(room, fail())
        ended = (await bob.until("message.finished", count))[-1]
        assert show(ended) == ("one", "failed")

    async def tell(reason: str) -> AsyncIterator[str]:
        yield "one"
        raise StreamFailed(reason)

    reasons = [("no more\0\udc00 words", {"model": "none"}, {"model": "none", "error": "no more?? words"})]
    reasons.append(("why " * 400, None, {"error": "why " * 250}))
    reasons.append(("why " * 400, {"long": "x" * 16_000}, {"long": "x" * 16_000}))
    for count, (reason, before, after) in enumerate(reasons, start=3):
        with pytest.raises(StreamFailed):
            await (alice.connection if count % 2 else rig.client("alice")).stream(room, tell(reason), meta=before)
        ended = (await bob.until("message.finished", count))[-1]
        assert (*show(ended), ended["meta"]) == ("one", "failed", after)

    for count, writer in enumerate((alice.connection, rig.client("alice")), start=6):
        stream = Stream(writer, room, client_message_id=f"cancelled-{count}")
        stream.source.put("one")
        await grown_to(await follow(bob, room, count), "one")
        stream.writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stream.done()
        assert stream.source.has_ended.is_set()
        ended = (await bob.until("message.finished", count))[-1]
        assert show(ended) == ("one", "cancelled")

        again = Stream(writer, room, client_message_id=f"cancelled-{count}")
        again.source.put("not this")
        assert (await again.done())["content"] == "one"
        await rig.client("alice").delete_message(room, ended["message_id"])
        deleted = Stream(writer, room, client_message_id=f"cancelled-{count}")
        with pytest.raises(ApiError) as refusal:
            await deleted.done()
        assert refusal.value.status == 404


async def test_stream_ends_with_its_connection(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "SIGN_OF_LIFE_S", 3600.0)
    room = await rig.group("alice", "bob")
    alice, bob = await rig.connect("alice"), await rig.connect("bob")
    stream = Stream(alice.connection, room)
    stream.source.put("one")
    await grown_to(await follow(bob, room), "one")
    await alice.connection.close()
    with pytest.raises(Closed):
        await stream.done()
    assert stream.source.has_ended.is_set()
    assert show((await bob.until("message.finished"))[0]) == ("one", "cancelled")


async def test_long_text_is_streamed(rig: Rig) -> None:
    room = await rig.group("alice", "bob")
    alice, bob = await rig.connect("alice"), await rig.connect("bob")
    stream = Stream(alice.connection, room)
    stream.source.put("", "🚢" * 9_000, "", "é" * 10_000, None)
    message = await stream.done()
    assert message["content"] == "🚢" * 9_000 + "é" * 10_000

    stream = Stream(rig.client("alice"), room)
    stream.source.put("x" * 60_000, "y" * 10_000)
    with pytest.raises(ApiError) as refused:
        await stream.done()
    assert (refused.value.status, refused.value.field) == (400, "text")
    ended = (await bob.until("message.finished", 2))[-1]
    assert ended["stream"]["state"] == "failed"
    assert ended["content"].startswith("x" * 49_152)
