"""The user `echo` of `chatapi serve --dev`: says back what it is told, word by word, like a language model.

It shows streams without a model. It is a user like any other, on the SDK and over the network: it does nothing that an
application could not do.
"""

import asyncio
import logging
import re
from collections.abc import AsyncIterator

import aiohttp

from chatapi.client import ApiError, ChatAPI, Closed, Connection
from chatapi.client.events import MessageEvent
from chatapi.rest.files import DEV_AGENT

logger = logging.getLogger(__name__)

WORDS_PER_S = 15
LONGEST_S = 30.0  # a long text comes faster instead
MAX_ANSWERS = 20  # at once; those who ask then wait
HELLO = (
    "Hello, I am echo, and no language model: I say back what I am told, word by word. This message is a stream: it is"
    " stored while it is being written, so reload the page, or cut a connection, and it goes on. Mention me with a few"
    " words after my name, @echo like this, or write to me in a direct message. Stop interrupts me."
)
UNIX = "unix:"
NOTHING = "There was nothing to say back: write something after my name."
_OWN_NAME = re.compile(rf"(?<!\w)@{DEV_AGENT}\b[,:]?\s*", re.IGNORECASE)


async def run_echo(address: str, api_key: str) -> None:
    """Until it is cancelled, which leaves what it is saying `cancelled`. `address`: where this very process listens."""
    is_path = address.startswith(UNIX)
    connector = (
        aiohttp.UnixConnector(address.removeprefix(UNIX), limit=0)
        if is_path
        else aiohttp.TCPConnector(limit=0, ssl=False)  # its certificate may name another host
    )
    async with aiohttp.ClientSession(connector=connector) as session:
        url = "http://localhost" if is_path else address
        client = ChatAPI(url, api_key=api_key, user_id=DEV_AGENT, session=session)
        try:
            async with client, client.connect() as connection:
                await Echo(client, connection).run()
        except* (ApiError, Closed) as errors:
            logger.warning("%s has ended: %s", DEV_AGENT, errors.exceptions[0])


class Echo:
    def __init__(self, client: ChatAPI, connection: Connection) -> None:
        self._client = client
        self._connection = connection
        self._slots = asyncio.Semaphore(MAX_ANSWERS)
        self._is_direct: dict[str, bool] = {}  # by room

    async def run(self) -> None:
        """Until the connection ends."""
        async with asyncio.TaskGroup() as answers:
            async for event in self._connection:
                if event["type"] == "room.created":
                    await self._slots.acquire()
                    answers.create_task(self._say(event["room_id"], HELLO, question=None))
                elif event["type"] == "message" and await self._is_asked(event):
                    await self._slots.acquire()
                    text = _OWN_NAME.sub("", event["content"] or "").strip() or NOTHING
                    answers.create_task(self._say(event["room_id"], text, question=event))

    async def _is_asked(self, message: MessageEvent) -> bool:
        """By a mention, and in a dm always. A stream may be another agent's answer, and two would never end."""
        if message["sender_id"] == DEV_AGENT or "stream" in message or not message["content"]:
            return False
        return DEV_AGENT in message.get("mentions", []) or await self._is_dm(message["room_id"])

    async def _is_dm(self, room_id: str) -> bool:
        if room_id not in self._is_direct:
            try:
                self._is_direct[room_id] = (await self._client.get_room(room_id))["type"] == "dm"
            except ApiError:
                return False  # it is in the room no more
        return self._is_direct[room_id]

    async def _say(self, room_id: str, text: str, *, question: MessageEvent | None) -> None:
        reply_to = None if question is None else question["message_id"]
        thread_id = None if question is None else question.get("thread_id")
        try:
            await self._connection.stream(room_id, _speak(text), reply_to=reply_to, thread_id=thread_id)
        except (ApiError, Closed) as error:
            logger.info("%s could not say it all: %s", DEV_AGENT, error)
        finally:
            self._slots.release()


async def _speak(text: str) -> AsyncIterator[str]:
    """Word by word, with the space after each."""
    words = re.findall(r"\S+\s*", text)
    pause_s = min(1 / WORDS_PER_S, LONGEST_S / max(1, len(words)))
    for word in words:
        yield word
        await asyncio.sleep(pause_s)
