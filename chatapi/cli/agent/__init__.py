"""`chatapi agent`: a language model in rooms."""

import argparse
import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path

import aiohttp

from chatapi.cli.admin import explaining_failures
from chatapi.cli.agent.agent import Agent, AgentOptions
from chatapi.cli.agent.desk import Desk
from chatapi.cli.agent.endpoint import Endpoint, EndpointFailed
from chatapi.cli.errors import CliError
from chatapi.client import ApiError, ChatAPI
from chatapi.config import LogConfig
from chatapi.log_lines import set_up_logging

logger = logging.getLogger(__name__)

MAX_DELAY_S = 5.0  # before the next try to connect: an open answer fails after a minute without a word of its agent

SYSTEM_PROMPT = (
    "You are {name}, a member of a chat room. Each message of the others begins with the name of its sender."
    " Answer the last one, briefly and as plain text, without a name before it."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Puts a language model into rooms: it answers the messages that mention its user, and in a dm all of them."
        " The model is behind any endpoint that speaks as OpenAI's chat completions do, such as Ollama."
    )
    parser.epilog = (
        "Keys come from the environment only: CHATAPI_API_KEY, a key of the tenant, or CHATAPI_TOKEN, a token of the"
        " agent's user; and OPENAI_API_KEY for the endpoint, if it wants one."
    )
    parser.add_argument("--room", action="append", required=True, metavar="ROOM_ID", help="a room; may be repeated")
    parser.add_argument("--base-url", required=True, help="the endpoint's address, as in http://localhost:11434/v1")
    parser.add_argument("--model", required=True, help="the model's name at the endpoint")
    parser.add_argument("--url", default="http://localhost:8080", help="address of the ChatAPI server (%(default)s)")
    parser.add_argument("--user", default="agent", metavar="USER_ID", help="the agent's user id (%(default)s)")
    parser.add_argument("--name", help="the name for the profile of the agent's user")
    parser.add_argument("--system-prompt", type=_read, metavar="FILE", help="a file with instructions for the model")
    parser.add_argument(
        "--context", type=_number(1, 100), default=20, metavar="N", help="messages that the model is told (%(default)s)"
    )
    parser.add_argument(
        "--timeout",
        type=_number(1, 3600),
        default=120,
        metavar="SECONDS",
        help="an answer of which nothing comes for so long has failed (%(default)s)",
    )
    parser.add_argument(
        "--max-age",
        type=_number(0, 10**9),
        default=86_400,
        metavar="SECONDS",
        help="older questions are not answered, for instance after a long pause (%(default)s)",
    )
    parser.add_argument(
        "--max-bytes",
        type=_number(2048, 2**30),
        default=65_536,
        metavar="BYTES",
        help="where an answer is cut off: not above the tenant's max_message_bytes (%(default)s)",
    )
    parser.set_defaults(run=run)


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise argparse.ArgumentTypeError(f"{path}: not UTF-8 text") from None


def _number(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        number = int(text)
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(f"{text} is not between {least} and {most}")
        return number

    parse.__name__ = "number"  # as argparse shows it
    return parse


def run(args: argparse.Namespace) -> int:
    """Raises CliError."""
    set_up_logging(LogConfig())
    asyncio.run(_run(args))
    return 0


async def _run(args: argparse.Namespace) -> None:
    """Until SIGTERM or SIGINT: the first ends the answers that are being written, the second the process."""
    task = asyncio.current_task()
    loop = asyncio.get_running_loop()
    assert task is not None

    def stop() -> None:
        logger.info("shutting down")
        task.cancel()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    with contextlib.suppress(asyncio.CancelledError):
        await serve_rooms(args)


async def serve_rooms(args: argparse.Namespace) -> None:
    """Until it is cancelled. Raises CliError."""
    system_prompt = args.system_prompt
    if system_prompt is None:
        system_prompt = SYSTEM_PROMPT.format(name=args.name or args.user)
    options = AgentOptions(
        system_prompt=system_prompt, context=args.context, max_bytes=args.max_bytes, max_age_s=args.max_age
    )
    connector, cookies = aiohttp.TCPConnector(limit=0), aiohttp.DummyCookieJar()
    async with _make_client(args) as client, aiohttp.ClientSession(connector=connector, cookie_jar=cookies) as session:
        endpoint = Endpoint(
            session, args.base_url, args.model, os.environ.get("OPENAI_API_KEY", "").strip(), args.timeout
        )
        try:
            await endpoint.check()
        except EndpointFailed as error:
            raise CliError(f"--base-url {args.base_url}: {error}") from None
        with explaining_failures(client.url):
            await client.readyz()  # a connection would wait for a server
            connection = await client.connect(auto_ack=False, max_delay_s=MAX_DELAY_S).open()
        try:
            with explaining_failures(client.url):
                desks = await _enter(client, connection.ready["user_id"], args)
            logger.info("started", extra={"user_id": connection.ready["user_id"], "rooms": len(desks)})
            await Agent(client, connection, endpoint, desks, options).run()
        except ExceptionGroup:
            if isinstance(connection.error, ApiError):
                raise CliError(f"{client.url} refused the connection: {connection.error}") from None
            raise
        finally:
            await connection.close()


async def _enter(client: ChatAPI, user_id: str, args: argparse.Namespace) -> list[Desk]:
    if args.name:
        await client.put_user(user_id, name=args.name)
    return [await _join(client, room_id, user_id) for room_id in dict.fromkeys(args.room)]


def _make_client(args: argparse.Namespace) -> ChatAPI:
    key, token = os.environ.get("CHATAPI_API_KEY"), os.environ.get("CHATAPI_TOKEN")
    try:
        if key:
            return ChatAPI(args.url, api_key=key, user_id=args.user)
        if token:
            return ChatAPI(args.url, token=token)
    except ValueError as error:
        raise CliError(f"cannot connect to {args.url} as {args.user!r}: {error}") from None
    raise CliError(
        "no key: set CHATAPI_API_KEY to a key of the tenant, or CHATAPI_TOKEN to a token of the agent's user"
    )


async def _join(client: ChatAPI, room_id: str, user_id: str) -> Desk:
    """Users add themselves to channels only."""
    try:
        room = await client.get_room(room_id)
        if room["type"] == "channel":
            await client.add_member(room["room_id"], user_id)
    except ApiError as error:
        if error.status == 404:
            raise CliError(f"--room {room_id}: there is no such room") from None
        if error.status == 403:
            raise CliError(
                f"--room {room_id}: {user_id} is not a member; an admin of the room has to add them"
            ) from None
        if error.status != 409:  # a member already
            raise
    return Desk(room["room_id"], is_dm=room["type"] == "dm")
