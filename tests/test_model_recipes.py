"""The bot of docs/recipes.md, with the clients of OpenAI and Anthropic, before an endpoint that speaks as theirs do."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import ModuleType
from typing import Any

import pytest
from driver import Server, Socket, User, eventually
from examples import example
from language_model import Cut, Fault, Json, Model, Refuse, Speak, Stop, open_model

pytestmark = pytest.mark.slow  # the clients take seconds to import

BOT = example("docs/recipes.md", "python", "# assistant.py")
CLIENTS = {
    "openai": example("docs/recipes.md", "python", "import AsyncOpenAI"),
    "anthropic": example("docs/recipes.md", "python", "import AsyncAnthropic"),
}


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Talk:
    """A room of alice and the bot, which runs."""

    def __init__(self, server: Server, model: Model, alice: User, listening: Socket, room_id: str) -> None:
        self.server = server
        self.model = model
        self.alice = alice
        self.listening = listening
        self.room_id = room_id
        self.bot: asyncio.Task[None] | None = None

    async def ask(self, content: str = "Is the lamp lit?") -> Json:
        """The message of the answer, which may have just begun."""
        question = await self.alice.say(self.room_id, content, mentions=["helper"])
        while (message := await self.listening.expect("message"))["sender_id"] != "helper":
            pass
        assert message["reply_to"] == question["message_id"]
        return message

    async def wait_for_end(self) -> tuple[str, str]:
        """The text of the answer, and its state."""
        message = await self.listening.expect("message.finished")
        return message["content"], message["stream"]["state"]


@asynccontextmanager
async def talking(server: Server, speak: Speak, client: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Talk]:
    async with open_model(speak) as model:
        settings = {"CHATAPI_URL": server.url, "CHATAPI_KEY": server.api_key, "MODEL": "fake"}
        settings |= {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": f"{model.url}/v1"}
        settings |= {"ANTHROPIC_API_KEY": "k", "ANTHROPIC_BASE_URL": model.url}
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        module = ModuleType("model")
        exec(CLIENTS[client], module.__dict__)
        monkeypatch.setitem(sys.modules, "model", module)
        names: dict[str, Any] = {"__name__": "assistant"}
        exec(BOT, names)
        names["CONTEXT"] = 4
        alice = server.user("alice")
        talk = Talk(server, model, alice, await alice.connect(), await alice.make_room("helper"))
        talk.bot = asyncio.create_task(names["main"]())
        try:
            yield talk
        finally:
            talk.bot.cancel()
            await asyncio.wait([talk.bot])
            await module.client.close()


async def test_an_answer_grows_as_it_is_generated(server: Server, client: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = asyncio.Event()

    async def speak(_: Json) -> AsyncIterator[str]:
        yield "It is "
        await seen.wait()
        yield "lit."

    async with talking(server, speak, client, monkeypatch) as talk:
        await talk.ask("Good morning")
        assert (await talk.listening.expect("message.delta"))["text"] == "It is "
        seen.set()
        assert await talk.wait_for_end() == ("It is lit.", "done")
        for number in range(2):
            await talk.ask(f"Question {number}")
            assert await talk.wait_for_end() == ("It is lit.", "done")
    told = [request["messages"] for request in talk.model.requests]
    assert told[1] == [
        {"role": "user", "content": "alice: Good morning"},
        {"role": "assistant", "content": "It is lit."},
        {"role": "user", "content": "alice: Question 0"},
    ]
    # The oldest of the four is the bot's own.
    assert told[2] == [told[1][2], told[1][1], {"role": "user", "content": "alice: Question 1"}]


async def hold(_: Json) -> AsyncIterator[str]:
    yield "It is "
    await asyncio.Event().wait()


async def test_a_members_cancel_ends_the_request(server: Server, client: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with talking(server, hold, client, monkeypatch) as talk:
        message = await talk.ask()
        await talk.listening.expect("message.delta")
        await talk.alice.post(f"/rooms/{talk.room_id}/messages/{message['message_id']}/cancel")
        assert await talk.wait_for_end() == ("It is ", "cancelled")
        await eventually(lambda: talk.model.left == 1)


async def test_a_bot_that_ends_leaves_its_answers_cancelled(
    server: Server, client: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with talking(server, hold, client, monkeypatch) as talk:
        await talk.ask()
        await talk.listening.expect("message.delta")
        assert talk.bot is not None
        talk.bot.cancel()
        assert await talk.wait_for_end() == ("It is ", "cancelled")
        await eventually(lambda: talk.model.left == 1)


async def test_an_endpoint_that_fails_is_told_and_the_next_answer_comes(
    server: Server, client: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failures: list[Exception | None] = [Refuse(404), Fault(), Cut(), Stop(), None]

    async def speak(_: Json) -> AsyncIterator[str]:
        failure = failures.pop(0)
        if isinstance(failure, Refuse):
            raise failure
        yield "It is "
        if failure is not None:
            raise failure
        yield "lit."

    async with talking(server, speak, client, monkeypatch) as talk:
        for text in ("", "It is ", "It is ", "It is "):
            await talk.ask()
            assert await talk.wait_for_end() == (text, "failed")
        await talk.ask()
        assert await talk.wait_for_end() == ("It is lit.", "done")
    assert sum(record.message.startswith("no answer to ") for record in caplog.records) == 4
