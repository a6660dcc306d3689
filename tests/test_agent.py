"""`chatapi agent`: questions, answers, and the ways in which an answer ends."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from agent_rig import ENDPOINT_KEY, Agents, acked_up_to, answered, ask, open_agents, show, show_failure, until
from driver import Server
from fake_endpoint import FakeEndpoint, open_endpoint

from chatapi.cli.agent import agent
from chatapi.cli.agent import endpoint as agent_endpoint
from chatapi.cli.agent.context import read_prompt
from chatapi.cli.agent.desk import Question
from chatapi.client import ChatAPI


@pytest_asyncio.fixture(loop_scope="session")
async def endpoint() -> AsyncIterator[FakeEndpoint]:
    async with open_endpoint() as endpoint:
        yield endpoint


@pytest_asyncio.fixture(loop_scope="session")
async def agents(
    shared_server: Server, endpoint: FakeEndpoint, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Agents]:
    async with open_agents(shared_server, endpoint, monkeypatch) as agents:
        yield agents


async def test_mention_is_answered_while_everybody_watches(
    shared_server: Server, endpoint: FakeEndpoint, agents: Agents
) -> None:
    alice, bob = shared_server.user("alice"), shared_server.user("bob")
    await alice.put("/users/alice", {"name": "Alice A."})
    room = await alice.make_room("bob", "agent")
    socket = await bob.connect()
    agents.start(room, name="Robot")
    await bob.say(room, "Not for the agent")
    question = await ask(alice, room)
    exchange = await endpoint.asked()
    assert exchange.headers["Authorization"] == f"Bearer {ENDPOINT_KEY}"
    assert exchange.body["model"] == "fake"
    system, *others = exchange.messages
    assert system["role"] == "system"
    assert "Robot" in system["content"]
    assert others == [
        {"role": "user", "content": "bob: Not for the agent"},
        {"role": "user", "content": "Alice A.: What is it?"},
    ]
    await until(socket, "typing", room_id=room, user_id="agent", action="start")
    opened = await socket.expect("message", sender_id="agent", content="", reply_to=question["message_id"])
    assert opened["stream"] == {"state": "open", "index": 0}
    await until(socket, "typing", action="start")  # the message had ended it
    await exchange.say("It is")
    await until(socket, "typing", action="stop")
    await socket.expect("message.delta", text="It is")
    await exchange.end(" a test.")
    event = await answered(socket, question)
    assert show(event) == ("It is a test.", "done")
    assert event["sender_id"] == "agent"
    assert (await bob.get("/users/agent")).data["name"] == "Robot"
    await acked_up_to(bob, room, event["seq"])

    question = await ask(bob, room, "Are you sure?")
    exchange = await endpoint.asked()
    assert [message["role"] for message in exchange.messages] == ["system", "user", "user", "assistant", "user"]
    assert exchange.messages[3]["content"] == "It is a test."
    await exchange.end("Yes.")
    assert show(await answered(socket, question)) == ("Yes.", "done")


async def test_dm_is_always_answered(shared_server: Server, endpoint: FakeEndpoint, agents: Agents) -> None:
    alice = shared_server.user("alice")
    room = await alice.make_room("agent", room_type="dm")
    socket = await alice.connect()
    endpoint.script = ["Hello!"]
    deleted = await alice.say(room, "A slip")
    await alice.delete(f"/rooms/{room}/messages/{deleted['message_id']}")
    agents.start(room)
    question = await alice.say(room, "Hello, agent")
    assert show(await answered(socket, question)) == ("Hello!", "done")
    assert len(endpoint.exchanges) == 1


async def test_question_that_is_deleted_at_the_last_moment_is_not_asked(shared_server: Server) -> None:
    alice = shared_server.user("alice")
    room = await alice.make_room("agent")
    for is_deleted in (False, True):
        asked = await ask(alice, room)
        if is_deleted:
            await alice.delete(f"/rooms/{room}/messages/{asked['message_id']}")
        question = Question(room, asked["message_id"], asked["seq"], None, asked["created_at"])
        async with ChatAPI(shared_server.url, api_key=shared_server.api_key, user_id="agent") as client:
            prompt = await read_prompt(client, "agent", question, limit=1, system_prompt="")
        assert prompt == (None if is_deleted else [{"role": "user", "content": "alice: What is it?"}])


async def test_thread_is_answered_in_the_thread(shared_server: Server, endpoint: FakeEndpoint, agents: Agents) -> None:
    alice = shared_server.user("alice")
    room = await alice.make_room("agent")
    socket = await alice.connect()
    root = await alice.say(room, "The root")
    await alice.say(room, "Another subject")
    await alice.say(room, "A reply", thread_id=root["message_id"])
    agents.start(room, context=3)
    question = await ask(alice, room, "In the thread", thread_id=root["message_id"])
    exchange = await endpoint.asked()
    told = [message["content"] for message in exchange.messages[1:]]
    assert told == ["alice: The root", "alice: A reply", "alice: In the thread"]
    await exchange.end("I see.")
    event = await answered(socket, question)
    assert (event["content"], event["thread_id"]) == ("I see.", root["message_id"])

    question = await ask(alice, room, "Outside of it")
    told = [message["content"] for message in (await endpoint.asked()).messages[1:]]
    assert told == ["alice: The root", "alice: Another subject", "alice: Outside of it"]


async def test_room_has_one_answer_at_a_time_and_rooms_have_theirs_at_once(
    shared_server: Server, endpoint: FakeEndpoint, agents: Agents
) -> None:
    alice = shared_server.user("alice")
    first_room, second_room = [await alice.make_room("agent") for _ in range(2)]
    socket = await alice.connect()
    agents.start(first_room, second_room)
    questions = [await ask(alice, first_room, f"Question {number}") for number in range(3)]
    first = await endpoint.asked()
    await first.say("One")
    elsewhere = await ask(alice, second_room, "Elsewhere")
    other = await endpoint.asked()
    assert other.messages[-1]["content"] == "alice: Elsewhere"
    await other.end("There.")
    assert show(await answered(socket, elsewhere)) == ("There.", "done")
    await alice.delete(f"/rooms/{first_room}/messages/{questions[1]['message_id']}")
    await first.end()
    assert show(await answered(socket, questions[0])) == ("One", "done")
    last = await endpoint.asked()
    assert last.messages[-1]["content"] == "alice: Question 2"
    await last.end("Three")
    assert show(await answered(socket, questions[2])) == ("Three", "done")
    assert len(endpoint.exchanges) == 3


@pytest.mark.parametrize("text", ["", pytest.param("A part", marks=pytest.mark.slow)])
async def test_cancel_stops_an_endpoint_that_is_silent(
    shared_server: Server, endpoint: FakeEndpoint, agents: Agents, text: str
) -> None:
    alice = shared_server.user("alice")
    room = await alice.make_room("agent")
    socket = await alice.connect()
    agents.start(room)
    question = await ask(alice, room)
    opened = await until(socket, "message", sender_id="agent")
    exchange = await endpoint.asked()
    await until(socket, "typing", action="start")
    if text:
        await exchange.say(text)
        await socket.expect("message.delta", text=text)
    await alice.post(f"/rooms/{room}/messages/{opened['message_id']}/cancel")
    assert show(await answered(socket, question)) == (text, "cancelled")
    if not text:
        await until(socket, "typing", action="stop")
    await asyncio.wait_for(exchange.has_left.wait(), 20)
    question = await ask(alice, room, "And now?")
    await (await endpoint.asked()).end("Now I go on.")
    assert show(await answered(socket, question)) == ("Now I go on.", "done")


FAILURES: dict[str, tuple[Any, str]] = {
    "an error": (lambda found: found.refuse(500, {"error": {"message": "Overloaded"}}), "HTTP 500: Overloaded"),
    "a refused key": (
        lambda found: found.refuse(401, {"error": {"message": f"Wrong key:\n{ENDPOINT_KEY}"}}),
        "HTTP 401: Wrong key: ***",
    ),
    "an error as text": (lambda found: found.refuse(404, {"error": "no such model"}), "HTTP 404: no such model"),
    "an error without reason": (lambda found: found.refuse(502, ["nothing"]), "HTTP 502"),
    "garbage": (lambda found: found.stop(b"<html>Welcome</html>", "text/html"), "the answer broke off"),
    "broken JSON": (
        lambda found: found.stop(b'data: {"choi\n\n'),
        "An event of the stream is not valid JSON",
    ),
    "no text": (lambda found: found.end(), "the model answered without text"),
    "a break": (lambda found: found.break_off(), "the connection to the model broke"),
    "an error in mid-stream": (
        lambda found: found.stop(b'data: {"error": {"message": "Overloaded"}}\n\n'),
        "The stream ended with an error: Overloaded",
    ),
}


def is_late(name: str) -> bool:
    """Whether it may come after a part of the answer."""
    return name != "no text" and not FAILURES[name][1].startswith("HTTP")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("an error", ""),
        ("an error in mid-stream", "A part"),
        *(
            pytest.param(name, text, marks=pytest.mark.slow)
            for name in FAILURES
            for text in ("", "A part")[: 1 + is_late(name)]
        ),
    ],
)
async def test_failure_of_the_endpoint_is_told_in_the_room(
    shared_server: Server,
    endpoint: FakeEndpoint,
    agents: Agents,
    name: str,
    text: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    fail, reason = FAILURES[name]
    alice = shared_server.user("alice")
    room = await alice.make_room("agent")
    socket = await alice.connect()
    agents.start(room)
    question = await ask(alice, room)
    exchange = await endpoint.asked()
    if text:
        await exchange.say(text)
        await socket.expect("message.delta", text=text)
    if (ending := fail(exchange)) is not None:
        await ending
    event = await answered(socket, question)
    assert show_failure(event) == (text, reason)
    question = await ask(alice, room, "And now?")
    exchange = await endpoint.asked()
    assert [message["content"] for message in exchange.messages[1:]] == ["alice: What is it?", "alice: And now?"]
    await exchange.end("Now I go on.")
    assert show(await answered(socket, question)) == ("Now I go on.", "done")
    assert ENDPOINT_KEY not in caplog.text
    assert shared_server.api_key not in caplog.text


BUSY = {"error": {"message": "Slow down"}}


@pytest.mark.slow
async def test_busy_endpoint_is_asked_again(
    shared_server: Server, endpoint: FakeEndpoint, agents: Agents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_endpoint, "RETRY_S", 0.02)
    alice = shared_server.user("alice")
    room = await alice.make_room("agent")
    socket = await alice.connect()
    agents.start(room)
    loop = asyncio.get_running_loop()

    question = await ask(alice, room)
    (await endpoint.asked()).refuse(429, BUSY, Retry_After="1")
    refused_s = loop.time()
    (await endpoint.asked()).refuse(503, ["nothing"])
    assert loop.time() - refused_s >= 1
    await (await endpoint.asked()).end("Here it is.")
    assert show(await answered(socket, question)) == ("Here it is.", "done")

    question = await ask(alice, room)
    for _ in range(3):
        (await endpoint.asked()).refuse(429, BUSY)
    assert show_failure(await answered(socket, question)) == ("", "HTTP 429: Slow down")

    question = await ask(alice, room)
    (await endpoint.asked()).refuse(429, BUSY, Retry_After="61")  # nobody waits for so long
    assert show_failure(await answered(socket, question)) == ("", "HTTP 429: Slow down")

    question = await ask(alice, room)
    opened = await until(socket, "message", sender_id="agent")
    (await endpoint.asked()).refuse(503, BUSY, Retry_After="50")
    await alice.post(f"/rooms/{room}/messages/{opened['message_id']}/cancel")
    cancelled_s = loop.time()
    assert show(await answered(socket, question)) == ("", "cancelled")
    assert loop.time() - cancelled_s < 25  # and not the 50 s
    assert len(endpoint.exchanges) == 8


@pytest.mark.slow
async def test_endpoint_may_be_away_for_a_while(shared_server: Server, endpoint: FakeEndpoint, agents: Agents) -> None:
    alice = shared_server.user("alice")
    room = await alice.make_room("agent")
    socket = await alice.connect()
    agents.start(room)
    question = await ask(alice, room)
    await (await endpoint.asked()).say("A part")
    await socket.expect("message.delta", text="A part")
    await endpoint.kill()
    assert show_failure(await answered(socket, question)) == ("A part", "the connection to the model broke")
    question = await ask(alice, room)
    assert show_failure(await answered(socket, question)) == ("", "no connection to the model")
    await endpoint.start()
    question = await ask(alice, room)
    await (await endpoint.asked()).end("I am back.")
    assert show(await answered(socket, question)) == ("I am back.", "done")


@pytest.mark.slow
async def test_reading_stops_where_too_many_questions_wait(
    shared_server: Server, endpoint: FakeEndpoint, agents: Agents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent, "MAX_WAITING", 2)
    alice = shared_server.user("alice")
    room, other_room = [await alice.make_room("agent") for _ in range(2)]
    socket = await alice.connect()
    for _ in range(5):
        await ask(alice, room)
    agents.start(room, other_room)
    first = await endpoint.asked()
    await ask(alice, other_room, "Elsewhere")
    endpoint.script = ["Here."]
    await first.end("Here.")
    for _ in range(6):
        assert show(await until(socket, "message.finished")) == ("Here.", "done")
    told = [exchange.messages[-1]["content"] for exchange in endpoint.exchanges]
    assert told.index("alice: Elsewhere") >= 4


@pytest.mark.slow
async def test_silence_of_the_endpoint_is_a_failure(
    shared_server: Server, endpoint: FakeEndpoint, agents: Agents
) -> None:
    alice = shared_server.user("alice")
    room = await alice.make_room("agent")
    socket = await alice.connect()
    agents.start(room, timeout=1)
    for text in ("", "A part"):
        question = await ask(alice, room)
        exchange = await endpoint.asked()
        if text:
            await exchange.say(text)
        assert show_failure(await answered(socket, question)) == (text, "nothing came for too long")


@pytest.mark.parametrize(
    "pieces",
    [["é" * 500_000], *(pytest.param(pieces, marks=pytest.mark.slow) for pieces in (["é" * 4000] * 10, ["x"] * 5000))],
    ids=["one", "many", "small"],
)
async def test_long_answer_ends_with_as_much_as_fits(
    shared_server: Server, endpoint: FakeEndpoint, agents: Agents, pieces: list[str]
) -> None:
    alice = shared_server.user("alice")
    room = await alice.make_room("agent")
    socket = await alice.connect()
    endpoint.script = pieces
    agents.start(room, max_bytes=4095)
    text, reason = show_failure(await answered(socket, await ask(alice, room)))
    assert reason == "the answer is too long for a message"
    assert "".join(pieces).startswith(text)
    assert len(text.encode()) == (4094 if "é" in text else 4095)


@pytest.mark.slow
async def test_answer_that_the_server_finds_too_long_keeps_its_beginning(
    shared_server: Server, endpoint: FakeEndpoint, agents: Agents
) -> None:
    alice = shared_server.user("alice")
    room = await alice.make_room("agent")
    socket = await alice.connect()
    endpoint.script = ["x" * 16_384] * 5
    agents.start(room, max_bytes=200_000)
    event = await answered(socket, await ask(alice, room))
    assert event["stream"]["state"] == "failed"
    assert len(event["content"]) == 65_536
    assert show(await answered(socket, await ask(alice, room)))[1] == "failed"


async def test_two_agents_do_not_talk_to_each_other(
    shared_server: Server, endpoint: FakeEndpoint, agents: Agents
) -> None:
    one, alice = shared_server.user("agent"), shared_server.user("alice")
    room = await one.make_room("other", room_type="dm")
    group = await alice.make_room("agent", "other")
    socket = await alice.connect()
    endpoint.script = ["Well."]
    agents.start(room, group)
    agents.start(room, group, user="other")
    listening = await one.connect()
    question = await one.say(room, "Written by hand")
    event = await answered(listening, question)
    assert event["sender_id"] == "other"
    for user, agent_id in ((one, "agent"), (one, "other")):
        await acked_up_to(user, room, event["seq"], agent_id)
    draft = {"content": "Piece by piece", "stream": True, "mentions": ["agent", "other"]}
    opened = (await alice.post(f"/rooms/{group}/messages", draft)).data
    await alice.post(f"/rooms/{group}/messages/{opened['message_id']}/finish", {"state": "done"})
    await alice.say(group, "Both", mentions=["agent", "other"])
    found = [await until(socket, "message.finished") for _ in range(3)]
    assert {event["sender_id"] for event in found} == {"alice", "agent", "other"}
    for agent_id in ("agent", "other"):
        await acked_up_to(alice, group, max(event["seq"] for event in found), agent_id)
    assert len(endpoint.exchanges) == 3
