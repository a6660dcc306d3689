"""An agent that comes back takes up what it had not answered, and answers nothing twice; and how it ends."""

import asyncio
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from agent_rig import ENDPOINT_KEY, Agents, acked_up_to, answered, ask, open_agents, show, until
from client_rig import Inbox, make_rig
from driver import Server, User
from examples import example
from fake_endpoint import FakeEndpoint, open_endpoint
from proxy import FOREIGN_ANSWERS, Proxy
from server_process import NO_AUTHORITIES, ServerProcess

from chatapi.cli import main
from chatapi.cli.agent.desk import Desk, Question
from chatapi.cli.errors import CliError


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


async def test_stop_cancels_the_answer_and_leaves_the_rest_for_later(
    shared_server: Server, endpoint: FakeEndpoint, agents: Agents
) -> None:
    alice = shared_server.user("alice")
    room, other_room = [await alice.make_room("agent") for _ in range(2)]
    socket = await alice.connect()
    agents.start(room, other_room)
    first = await ask(alice, room, "First")
    second = await ask(alice, room, "Second")
    exchange = await endpoint.asked()
    await exchange.say("A part")
    await socket.expect("message.delta", text="A part")
    elsewhere = await alice.say(other_room, "Not for the agent")
    await acked_up_to(alice, other_room, elsewhere["seq"])
    receipts = (await alice.get(f"/rooms/{room}/receipts")).data["receipts"]
    assert [receipt["last_ack"] < first["seq"] for receipt in receipts if receipt["user_id"] == "agent"] == [True]
    await agents.stop()
    assert show(await answered(socket, first)) == ("A part", "cancelled")
    third = await ask(alice, room, "Third, while it was away")
    agents.start(room)
    for question, text in ((second, "Two"), (third, "Three")):
        exchange = await endpoint.asked()
        assert exchange.messages[-1]["content"] == f"alice: {question['content']}"
        await exchange.end(text)
        event = await answered(socket, question)
        assert show(event) == (text, "done")
    await acked_up_to(alice, room, event["seq"])
    assert len(endpoint.exchanges) == 3


async def leave_answer(agent: User, room: str, question: dict[str, Any], number: int = 1) -> dict[str, Any]:
    """As an agent has opened it that was killed then."""
    draft = {"content": "", "stream": True, "reply_to": question["message_id"]}
    draft["client_message_id"] = f"answer-{question['message_id']}-{number}"
    return dict((await agent.post(f"/rooms/{room}/messages", draft)).data)


@pytest.mark.parametrize("outcome", ["done", pytest.param("failed", marks=pytest.mark.slow)])
async def test_open_answer_is_replaced_by_a_new_one(
    shared_server: Server, endpoint: FakeEndpoint, agents: Agents, outcome: str
) -> None:
    alice, agent = shared_server.user("alice"), shared_server.user("agent")
    room = await alice.make_room("agent")
    question = await ask(alice, room)
    opened = await leave_answer(agent, room, question)
    path = f"/rooms/{room}/messages/{opened['message_id']}"
    await agent.post(f"{path}/append", {"index": 1, "text": "Something el"})
    socket = await alice.connect()
    agents.start(room)
    exchange = await endpoint.asked()
    assert [message["role"] for message in exchange.messages] == ["system", "user"]
    await exchange.say("The whole", " answer")
    if outcome == "done":
        await exchange.end()
        whole = "The whole answer"
    else:
        await exchange.stop(b'data: {"error": "Overloaded"}\n\n')
        whole = "Something el"
    event = await answered(socket, question)
    assert event["meta"] == (None if outcome == "done" else {"error": "The stream ended with an error: Overloaded"})
    assert show(event) == (whole, outcome)
    assert event["message_id"] == opened["message_id"]
    await acked_up_to(alice, room, event["seq"])


@pytest.mark.slow
async def test_open_answer_is_cancelled_while_it_is_replaced(
    shared_server: Server, endpoint: FakeEndpoint, agents: Agents
) -> None:
    alice, agent = shared_server.user("alice"), shared_server.user("agent")
    room = await alice.make_room("agent")
    question = await ask(alice, room)
    opened = await leave_answer(agent, room, question)
    path = f"/rooms/{room}/messages/{opened['message_id']}"
    await agent.post(f"{path}/append", {"index": 1, "text": "A part"})
    socket = await alice.connect()
    agents.start(room)
    exchange = await endpoint.asked()
    await exchange.say("Another")
    await alice.post(f"{path}/cancel")
    assert show(await answered(socket, question)) == ("A part", "cancelled")
    await asyncio.wait_for(exchange.has_left.wait(), 20)


@pytest.mark.slow
async def test_answer_that_was_cancelled_while_the_agent_was_away_is_not_asked_for(
    shared_server: Server, endpoint: FakeEndpoint, agents: Agents
) -> None:
    alice, agent = shared_server.user("alice"), shared_server.user("agent")
    room = await alice.make_room("agent")
    for text in ("", "A part"):
        question = await ask(alice, room)
        opened = await leave_answer(agent, room, question)
        path = f"/rooms/{room}/messages/{opened['message_id']}"
        if text:
            await agent.post(f"{path}/append", {"index": 1, "text": text})
        await alice.post(f"{path}/cancel")
        socket = await alice.connect()
        agents.start(room)
        assert show(await answered(socket, question)) == (text, "cancelled")
        await agents.stop()
    assert endpoint.exchanges == []


@pytest.mark.parametrize(
    "end", ["done", *(pytest.param(end, marks=pytest.mark.slow) for end in ("cancelled", "deleted"))]
)
async def test_answered_question_is_not_answered_again(
    shared_server: Server, endpoint: FakeEndpoint, agents: Agents, end: str
) -> None:
    alice, agent = shared_server.user("alice"), shared_server.user("agent")
    room = await alice.make_room("agent")
    answer = await leave_answer(agent, room, await ask(alice, room))
    path = f"/rooms/{room}/messages/{answer['message_id']}"
    await (agent.delete(path) if end == "deleted" else agent.post(f"{path}/finish", {"state": end}))
    later = await ask(alice, room, "Later")
    socket = await alice.connect()
    agents.start(room)
    exchange = await endpoint.asked()
    assert exchange.messages[-1]["content"] == "alice: Later"
    await exchange.end("Yes?")
    await answered(socket, later)


@pytest.mark.slow
async def test_answer_that_failed_while_the_agent_was_away_is_written_again(
    shared_server: Server, endpoint: FakeEndpoint, agents: Agents
) -> None:
    alice, agent = shared_server.user("alice"), shared_server.user("agent")
    room = await alice.make_room("agent")
    question = await ask(alice, room)
    answer = await leave_answer(agent, room, question)
    await agent.post(f"/rooms/{room}/messages/{answer['message_id']}/finish", {"state": "failed"})
    hopeless = await ask(alice, room, "Hopeless")
    for number in (1, 2, 3):
        answer = await leave_answer(agent, room, hopeless, number)
        await agent.post(f"/rooms/{room}/messages/{answer['message_id']}/finish", {"state": "failed"})
    socket = await alice.connect()
    agents.start(room)
    await (await endpoint.asked()).end("Now.")
    event = await answered(socket, question)
    assert show(event) == ("Now.", "done")
    await acked_up_to(alice, room, event["seq"])
    assert len(endpoint.exchanges) == 1


@pytest.mark.slow
async def test_old_questions_are_passed_over(shared_server: Server, endpoint: FakeEndpoint, agents: Agents) -> None:
    alice = shared_server.user("alice")
    room = await alice.make_room("agent")
    question = await ask(alice, room)
    agents.start(room, max_age=0)
    await acked_up_to(alice, room, question["seq"])
    assert endpoint.exchanges == []


def test_desk_starts_anew_when_the_server_has_another_log() -> None:
    desk = Desk("room_a", is_dm=False)
    question = Question("room_a", "msg_a", 5, None, "2026-01-01T00:00:00Z")
    desk.put(question)
    desk.see(7)
    assert (desk.waiting, desk.done_seq) == (1, 4)
    desk.reset(2)
    desk.put(again := Question("room_a", "msg_b", 3, None, "2026-01-01T00:00:00Z"))
    desk.remove(question)  # of the log before
    assert (desk.waiting, desk.acked_seq, desk.done_seq) == (1, 2, 2)
    desk.see(3)
    desk.remove(again)
    assert (desk.waiting, desk.done_seq) == (0, 3)


@pytest.mark.slow
async def test_channel_is_joined(shared_server: Server, endpoint: FakeEndpoint, agents: Agents) -> None:
    alice = shared_server.user("alice")
    room = await alice.make_room(room_type="channel")
    socket = await alice.connect()
    endpoint.script = ["Hello."]
    for _ in range(2):
        agents.start(room)
        if not _:
            await until(socket, "member.joined", user_id="agent")
        await answered(socket, await ask(alice, room))
        await agents.stop()


@pytest.mark.slow
async def test_agent_waits_for_the_end_of_slow_mode(
    shared_server: Server, endpoint: FakeEndpoint, agents: Agents
) -> None:
    alice = shared_server.user("alice")
    room = await alice.make_room("agent", slow_mode_seconds=1)
    socket = await alice.connect()
    endpoint.script = ["Hello."]
    agents.start(room)
    questions = [await ask(alice, room) for _ in range(2)]
    for question in questions:
        assert show(await answered(socket, question)) == ("Hello.", "done")


@pytest.mark.slow
async def test_agent_waits_for_a_server_that_does_not_answer(
    shared_server: Server, endpoint: FakeEndpoint, agents: Agents
) -> None:
    alice = shared_server.user("alice")
    room = await alice.make_room("agent")
    socket = await alice.connect()
    with Proxy(shared_server.port) as proxy:
        proxy.answer("GET", "/messages", [next(iter(FOREIGN_ANSWERS.values()))] * 5)  # all tries of one call
        agents.start(room, url=proxy.url)
        question = await ask(alice, room)
        await (await endpoint.asked()).end("Here.")
        assert show(await answered(socket, question)) == ("Here.", "done")
        assert proxy.left == 0
        await agents.stop()


@pytest.mark.slow
async def test_agent_that_was_removed_serves_its_other_rooms(
    shared_server: Server, endpoint: FakeEndpoint, agents: Agents
) -> None:
    alice = shared_server.user("alice")
    rooms = [await alice.make_room("agent") for _ in range(2)]
    socket = await alice.connect()
    agents.start(*rooms)
    question = await ask(alice, rooms[0])
    exchange = await endpoint.asked()
    await exchange.say("A part")
    await socket.expect("message.delta", text="A part")
    await alice.delete(f"/rooms/{rooms[0]}/members/agent")
    await exchange.end(" more")
    question = await ask(alice, rooms[1])
    await (await endpoint.asked()).end("Still here.")
    assert show(await answered(socket, question)) == ("Still here.", "done")


async def test_bad_start_is_told_in_one_line(
    shared_server: Server, endpoint: FakeEndpoint, agents: Agents, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = shared_server.user("alice")
    room, foreign = await alice.make_room("agent"), await alice.make_room("bob")
    refused: list[tuple[dict[str, object], str]] = [
        ({"room": "room_unknown"}, "--room room_unknown: there is no such room"),
        ({"room": foreign}, f"--room {foreign}: agent is not a member; an admin of the room has to add them"),
        ({"base_url": "http://127.0.0.1:9/v1"}, "--base-url http://127.0.0.1:9/v1: no connection to the model"),
        ({"base_url": "127.0.0.1"}, "--base-url 127.0.0.1: this is not an address of HTTP"),
        ({"url": "127.0.0.1"}, "cannot connect to 127.0.0.1 as 'agent': url must start with http:// or https://"),
        (
            {"user": "a\n"},
            f"cannot connect to {shared_server.url} as 'a\\n': X-User-Id holds characters that no header can carry",
        ),
        ({"name": "x" * 201}, f"{shared_server.url} refused the request: VALIDATION_ERROR: "),
    ]
    for options, line in refused:
        with pytest.raises(CliError) as error:
            await agents.start(str(options.pop("room", room)), **options)
        assert str(error.value).startswith(line)
        assert "\n" not in str(error.value)
    endpoint.wants_key = "Bearer sk-another"
    with pytest.raises(CliError, match=f"--base-url {endpoint.url}: HTTP 401: Incorrect API key"):
        await agents.start(room)
    endpoint.wants_key = f"Bearer {ENDPOINT_KEY}"
    for key, line in (
        ("ck_wrong", f"{shared_server.url} refused the request: AUTHENTICATION_ERROR: "),
        ("", "no key: set CHATAPI_API_KEY to a key of the tenant, or CHATAPI_TOKEN to a token of the agent's user"),
    ):
        monkeypatch.setenv("CHATAPI_API_KEY", key)
        with pytest.raises(CliError) as error:
            await agents.start(room)
        assert str(error.value).startswith(line)


@pytest.mark.slow
async def test_another_server_is_no_chatapi(endpoint: FakeEndpoint, agents: Agents) -> None:
    with pytest.raises(CliError, match=f"the server at {endpoint.url} is not ChatAPI: "):
        await agents.start("room", url=endpoint.url)


@pytest.mark.slow
async def test_agent_may_have_a_user_token(
    shared_server: Server, endpoint: FakeEndpoint, agents: Agents, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = shared_server.user("alice")
    room = await alice.make_room("robot")
    socket = await alice.connect()
    token = (await shared_server.user("robot").post("/tokens")).data["token"]
    monkeypatch.delenv("CHATAPI_API_KEY")
    monkeypatch.setenv("CHATAPI_TOKEN", token)
    endpoint.script = ["Hello."]
    agents.start(room)
    question = await alice.say(room, "Hello?", mentions=["robot"])
    assert show(await answered(socket, question)) == ("Hello.", "done")


@pytest.mark.slow
async def test_revoked_key_ends_the_agent(
    shared_server: Server, endpoint: FakeEndpoint, agents: Agents, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = await shared_server.make_tenant()
    alice = shared_server.user("alice", tenant["api_key"])
    room = await alice.make_room("agent")
    socket = await alice.connect()
    monkeypatch.setenv("CHATAPI_API_KEY", tenant["api_key"])
    running = agents.start(room)
    await ask(alice, room)
    await (await endpoint.asked()).say("A part")
    await socket.expect("message.delta", text="A part")
    path = f"/tenants/{tenant['tenant_id']}/keys"
    [key] = (await shared_server.admin("GET", path)).data["keys"]
    await shared_server.admin("DELETE", f"{path}/{key['key_id']}")
    with pytest.raises(CliError, match="refused the connection: AUTHENTICATION_ERROR"):
        await running


class AgentProcess:
    """`chatapi agent` as a process of its own."""

    def __init__(self, directory: Path, key: str, arguments: list[str]) -> None:
        self.log = directory / "agent.log"
        self._arguments = [sys.executable, "-m", "chatapi", "agent", *arguments]
        keys = {"CHATAPI_API_KEY": key, "OPENAI_API_KEY": ENDPOINT_KEY}
        self._environment = {**os.environ, **NO_AUTHORITIES, **keys}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self._arguments, env=self._environment, stdout=log, stderr=log)

    async def end(self, number: int) -> int:
        """The exit status."""
        assert self._process is not None
        process, self._process = self._process, None
        process.send_signal(number)
        return await asyncio.to_thread(process.wait, 30)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@contextmanager
def run_agent(directory: Path, key: str, arguments: list[str]) -> Iterator[AgentProcess]:
    process = AgentProcess(directory, key, arguments)
    process.start()
    yield process
    process.kill()


async def finished(inbox: Inbox, question: Any) -> Any:
    [event] = await inbox.until("message.finished", reply_to=question["message_id"])
    return show(event)


@pytest.mark.slow
async def test_answers_survive_kills_on_each_side(tmp_path: Path) -> None:
    """The agent is killed in mid-answer, then the server; at last the agent is stopped."""
    with ServerProcess(tmp_path) as server:
        async with open_endpoint() as endpoint, make_rig(server.url, server.master_key) as rig:
            room = await rig.group("alice", "robot")
            alice = await rig.connect("alice")
            count = 0

            async def begin() -> Any:
                nonlocal count
                count += 1
                question = await alice.connection.send(room, f"Question {count}", mentions=["robot"])
                exchange = await endpoint.asked()
                await exchange.say("A part")
                await alice.until("message.delta", count, text="A part")
                return question, exchange

            variables = {
                "$URL": server.url,
                "$ROOM": room,
                "$KEY": rig.api_key,
                "http://localhost:11434/v1": endpoint.url,
            }
            command = example("docs/agents.md", "sh", "--model llama3.2")
            for name, value in variables.items():
                command = command.replace(name, value)
            _, arguments = command.split("chatapi agent")
            with run_agent(tmp_path, rig.api_key, shlex.split(arguments)) as agent:
                question, exchange = await begin()
                await agent.end(signal.SIGKILL)
                await asyncio.wait_for(exchange.has_left.wait(), 20)
                waiting = await alice.connection.send(room, "While it was away", mentions=["robot"])
                agent.start()
                await (await endpoint.asked()).end("Another whole")
                assert await finished(alice, question) == ("Another whole", "done")
                await (await endpoint.asked()).end("Later")
                assert await finished(alice, waiting) == ("Later", "done")

                question, exchange = await begin()
                await asyncio.to_thread(server.kill)
                await exchange.say(", and more")
                await asyncio.to_thread(server.start)
                await exchange.end(", and the end")
                assert await finished(alice, question) == ("A part, and more, and the end", "done")

                question, exchange = await begin()
                assert await agent.end(signal.SIGTERM) == 0
                assert await finished(alice, question) == ("A part", "cancelled")
                agent.start()
                question = await alice.connection.send(room, "The last", mentions=["robot"])
                await (await endpoint.asked()).end("Good bye")
                assert await finished(alice, question) == ("Good bye", "done")
            assert len(endpoint.exchanges) == count + 3
            ends = [event for event in alice.events if event["type"] == "message.finished"]
            assert len({event["message_id"] for event in ends}) == len(ends) == count + 2
            log = agent.log.read_text()
            assert ENDPOINT_KEY not in log
            assert rig.api_key not in log
            assert "Traceback" not in log


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "chatapi agent: the following arguments are required: --room, --base-url, --model; see"),
        (["--system-prompt", "/nowhere"], "chatapi agent: argument --system-prompt: /nowhere: No such file"),
        (["--system-prompt", sys.executable], f"chatapi agent: argument --system-prompt: {sys.executable}: not UTF-8"),
        (["--context", "0"], "chatapi agent: argument --context: 0 is not between 1 and 100; see"),
        (["--timeout", "x"], "chatapi agent: argument --timeout: invalid number value: 'x'; see"),
    ],
)
def test_wrong_arguments_of_an_agent_are_refused(
    capsys: pytest.CaptureFixture[str], arguments: list[str], line: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["agent", *arguments])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(line)
