"""`chatapi seed`: users, rooms and messages of one tenant, from a file into a running server.

A second run changes nothing but what has been changed since, because each thing in the file has a name by which it is
found again: a dm its two users; another room its type, its name and the user who created it; a message its
`client_message_id`, which is made of what it says where the file gives none.
"""

import argparse
import asyncio
import hashlib
import os
import tomllib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, TypeVar

import aiohttp
import msgspec
from msgspec import UNSET, Meta

from chatapi.cli.admin import explaining_failures
from chatapi.cli.errors import CliError
from chatapi.cli.output import Progress, print_json
from chatapi.client import ApiError, ChatAPI
from chatapi.client.records import Message, Room
from chatapi.errors import ChatError, invalid
from chatapi.models import Posting, Role, RoomType
from chatapi.protocol.json import convert, dumps, dumps_canonical, loads
from chatapi.protocol.requests import (
    MAX_MEMBERS_AT_CREATION,
    ClientMessageId,
    CreateRoom,
    MessageDraft,
    Topic,
    UserIdText,
    parse_emoji,
)
from chatapi.protocol.user_requests import PutUser

MAX_FILE_BYTES = 32 * 1024 * 1024  # it is read as a whole, and takes about ten times as much memory
AT_ONCE = 8  # rooms, each with one call at a time: its messages keep their order
PAGE = 100  # the most that one answer holds
RETRIES = 8  # a tenant at its rate limit answers 429 until the next second, to all rooms at once
SENT_FIELDS = ("sender_id", "content", "meta", "reply_to", "thread_id", "mentions", "mention_room")

T = TypeVar("T")


class SeedUser(PutUser, frozen=True, kw_only=True, forbid_unknown_fields=True):
    user_id: UserIdText
    topics: list[Topic] = msgspec.field(default_factory=list)


class SeedMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The fields of a draft, but `reply_to` and `thread_id` name the `client_message_id` of an earlier message."""

    sender_id: UserIdText
    content: Annotated[str, Meta(min_length=1)]
    client_message_id: ClientMessageId | None = None
    meta: dict[str, object] | None = None
    reply_to: ClientMessageId | None = None
    thread_id: ClientMessageId | None = None
    mentions: list[UserIdText] = []
    mention_room: bool = False
    reactions: dict[str, list[UserIdText]] = {}
    pinned: bool = False
    read_by: list[UserIdText] = []

    def draft(self) -> MessageDraft:
        return MessageDraft(self.content, self.meta, mentions=self.mentions, mention_room=self.mention_room)

    def named_users(self) -> Iterator[tuple[str, Sequence[str]]]:
        """Users who have to be members of the room, by field."""
        yield "mentions", self.mentions
        yield "read_by", self.read_by
        for emoji, users in self.reactions.items():
            yield f"reactions.{emoji}", users


class SeedRoom(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: RoomType
    created_by: UserIdText
    name: str | None = None
    metadata: dict[str, object] | None = None
    posting: Posting = Posting.MEMBERS
    slow_mode_seconds: int = 0
    members: list[UserIdText] = []
    admins: list[UserIdText] = []
    messages: list[SeedMessage] = []

    def body(self) -> dict[str, object]:
        fields = ("type", "name", "metadata", "posting", "slow_mode_seconds")
        return {name: getattr(self, name) for name in fields}

    def roles(self) -> dict[str, Role]:
        """Of all members, the creator included."""
        roles = dict.fromkeys(self.members, Role.MEMBER) | dict.fromkeys(self.admins, Role.ADMIN)
        return {self.created_by: Role.ADMIN} | roles | {self.created_by: Role.ADMIN}

    def identity(self) -> tuple[str, ...]:
        if self.type is RoomType.DM:
            return (self.type, *sorted(self.roles()))
        return (self.type, str(self.name), self.created_by)


class Seed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    users: list[SeedUser] = []
    rooms: list[SeedRoom] = []

    def check(self) -> None:
        """Raises ChatError for what the types cannot state, so that nothing is written of a file that is wrong."""
        _refuse_twice("users", "user_id", [user.user_id for user in self.users])
        _refuse_twice("rooms", "name", [room.identity() for room in self.rooms])
        for index, user in enumerate(self.users):
            with _inside(f"users[{index}]"):
                user.check()
        for index, room in enumerate(self.rooms):
            with _inside(f"rooms[{index}]"):
                _check_room(room)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Writes users, rooms and messages of one tenant from a TOML or JSON file into a running server. Run again, it"
        " writes only what is not there yet."
    )
    parser.add_argument("file", metavar="FILE", help="a file that ends in .toml or .json")
    parser.add_argument("--url", default="http://localhost:8080", help="address of the ChatAPI server (%(default)s)")
    parser.add_argument(
        "--api-key",
        metavar="KEY",
        help="a key of the tenant (default: $CHATAPI_API_KEY); others on this machine can see it in the list of"
        " processes: CHATAPI_API_KEY is safer",
    )
    parser.add_argument("--json", action="store_true", help="print the ids of the rooms as JSON, for scripts")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Raises CliError."""
    seed = read_seed(Path(args.file))
    key = args.api_key or os.environ.get("CHATAPI_API_KEY", "").strip()
    if not key:
        raise CliError("no API key: set CHATAPI_API_KEY, or give --api-key")
    progress = Progress()
    room_ids = asyncio.run(plant(args.url, key, seed, progress))
    messages = sum(len(room.messages) for room in seed.rooms)
    if args.json:
        rooms = [
            {"type": room.type, "name": room.name, "room_id": room_id}
            for room, room_id in zip(seed.rooms, room_ids, strict=True)
        ]
        print_json({"users": len(seed.users), "rooms": rooms, "messages": messages})
    else:
        print(f"{args.url} has {len(seed.users)} users, {len(seed.rooms)} rooms and {messages} messages of {args.file}")
    return 0


# The file


def read_seed(path: Path) -> Seed:
    """Raises CliError, which names the place in the file."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise CliError(f"{path}: larger than {MAX_FILE_BYTES >> 20} MiB; make several files of it")
        body = path.read_bytes()
    except OSError as error:
        raise CliError(f"{path}: {error.strerror}") from error
    try:
        # One way for both forms, so that all bounds of JSON hold for TOML as well.
        seed = convert(loads(_parse_toml(body) if path.suffix == ".toml" else body), Seed)
        seed.check()
    except ChatError as error:
        where = f"{error.field}: " if error.field else ""
        raise CliError(f"{path}: {where}{error.message}") from None
    return seed


def _parse_toml(body: bytes) -> bytes:
    """As JSON. Raises ChatError."""
    try:
        return dumps(tomllib.loads(body.decode()))
    except UnicodeDecodeError as error:
        raise invalid(f"Malformed TOML: not UTF-8 at byte {error.start}") from None
    except (tomllib.TOMLDecodeError, TypeError) as error:  # TypeError: an integer of more than 64 bits
        raise invalid(f"Malformed TOML: {error}") from None


def _check_room(room: SeedRoom) -> None:
    convert(room.body(), CreateRoom).check()
    members = room.roles()
    if room.type is RoomType.DM:
        if len(members) != 2:
            raise invalid("A dm has one member beside the one who creates it", "members")
    elif room.name is None:
        raise invalid("Required: the room is found again by it", "name")
    named: set[str] = set()
    for index, message in enumerate(room.messages):
        with _inside(f"messages[{index}]"):
            _check_message(message, members.keys(), named)
        if message.client_message_id is not None:
            named.add(message.client_message_id)


def _check_message(message: SeedMessage, members: Set[str], named: Set[str]) -> None:
    message.draft().check()
    if message.sender_id not in members:
        raise invalid("Not a member of this room", "sender_id")
    for field, users in message.named_users():
        if strangers := [user for user in users if user not in members]:
            raise invalid(f"{strangers[0]} is not a member of this room", field)
    for emoji in message.reactions:
        with _inside("reactions"):
            parse_emoji(emoji)
    for field, key in (("reply_to", message.reply_to), ("thread_id", message.thread_id)):
        if key is not None and key not in named:
            raise invalid("No message before this one in the room has this client_message_id", field)
    if message.client_message_id in named:
        raise invalid("An earlier message of the room has it", "client_message_id")


def _refuse_twice(path: str, field: str, keys: Iterable[object]) -> None:
    first: dict[object, int] = {}
    for index, key in enumerate(keys):
        if first.setdefault(key, index) != index:
            raise invalid(f"The same as {path}[{first[key]}]", f"{path}[{index}].{field}")


@contextmanager
def _inside(path: str) -> Iterator[None]:
    """Refusals name the whole path of the value in the file."""
    try:
        yield
    except ApiError as error:
        where = path if error.field is None else f"{path}.{error.field}"
        raise CliError(f"the server refused {where}: {error.raw_code}: {error.message}") from error
    except ChatError as error:
        raise invalid(error.message, path if error.field is None else f"{path}.{error.field}") from None


# The server


async def plant(url: str, api_key: str, seed: Seed, progress: Progress | None = None) -> list[str]:
    """Writes it all, and returns the ids of the rooms, in their order. Raises CliError."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=AT_ONCE)) as session:
        try:
            client = ChatAPI(url, api_key=api_key, user_id="seed", retries=RETRIES, session=session)
        except ValueError as error:
            raise CliError(f"--url {url}: {error}") from error
        with explaining_failures(url):
            # Nobody wants to wait for a server that is not there, or whose key is another one.
            await ChatAPI(url, api_key=api_key, user_id="seed", retries=0, session=session).list_rooms(limit=1)
            return await Planter(client, seed, progress).run()


class Planter:
    def __init__(self, client: ChatAPI, seed: Seed, progress: Progress | None = None) -> None:
        self._client = client
        self._seed = seed
        self._progress = progress
        self._named = {room.identity() for room in seed.rooms}
        self._room_ids: list[str] = [""] * len(seed.rooms)
        self._sent = 0
        self._known: dict[tuple[str, ...], str] = {}  # groups and channels of the file that are there, by identity

    async def run(self) -> list[str]:
        await self._each(enumerate(self._seed.users), self._write_user)
        creators = {room.created_by for room in self._seed.rooms if room.type is not RoomType.DM}
        await self._each(((0, user_id) for user_id in sorted(creators)), self._look_for_rooms)
        await self._each(enumerate(self._seed.rooms), self._write_room)
        return self._room_ids

    async def _each(self, items: Iterator[tuple[int, T]], write: Callable[[int, T], Awaitable[None]]) -> None:
        """A few at a time. Raises what the first that fails raises."""

        async def work() -> None:
            for index, item in items:
                await write(index, item)

        try:
            async with asyncio.TaskGroup() as workers:
                for _ in range(AT_ONCE):
                    workers.create_task(work())
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None

    async def _write_user(self, index: int, user: SeedUser) -> None:
        with _inside(f"users[{index}]"):
            profile = {name: getattr(user, name) for name in ("name", "avatar_url", "metadata")}
            if any(value is not UNSET for value in profile.values()):
                await self._client.put_user(user.user_id, **profile)
            for topic in user.topics:
                await self._client.as_user(user.user_id).subscribe_topic(topic)

    async def _look_for_rooms(self, _index: int, user_id: str) -> None:
        """Keeps those that the file names, of what may be many."""
        client, cursor = self._client.as_user(user_id), None
        while True:
            page = await client.list_rooms(hidden=True, limit=PAGE, cursor=cursor)
            for room in page["rooms"]:
                identity = (room["type"], str(room["name"]), room["created_by"])
                if identity in self._named:
                    self._known.setdefault(identity, room["room_id"])
            cursor = page.get("next_cursor")
            if not page["has_more"] or cursor is None:
                return

    async def _write_room(self, index: int, room: SeedRoom) -> None:
        with _inside(f"rooms[{index}]"):
            found = await self._find_or_create(room)
            self._room_ids[index] = found["room_id"]
            await self._add_members(found, room)
        ids: dict[str, str] = {}  # of messages, by `client_message_id`
        seen: Counter[str] = Counter()
        for number, message in enumerate(room.messages):
            with _inside(f"rooms[{index}].messages[{number}]"):
                await self._write_message(found["room_id"], room.created_by, message, ids, seen)
        with _inside(f"rooms[{index}]"):
            await self._apply_rules(found, room)

    async def _find_or_create(self, room: SeedRoom) -> Room:
        """Its rules for those who post hold only once its messages are there: see `_apply_rules`."""
        creator = self._client.as_user(room.created_by)
        if (room_id := self._known.get(room.identity())) is not None:
            return await creator.get_room(room_id)
        others = [user_id for user_id in room.roles() if user_id != room.created_by]
        first = others[: MAX_MEMBERS_AT_CREATION - 1]
        try:
            return await creator.create_room(room.type.value, first, name=room.name, metadata=room.metadata)
        except ApiError as error:
            if room.type is RoomType.DM and error.status == 409 and error.details:
                return await creator.get_room(str(error.details["room_id"]))
            raise

    async def _add_members(self, found: Room, room: SeedRoom) -> None:
        if room.type is RoomType.DM:
            return
        creator, room_id = self._client.as_user(room.created_by), found["room_id"]
        present: dict[str, str] = {}
        cursor = None
        while True:
            page = await creator.list_members(room_id, limit=PAGE, cursor=cursor)
            present |= {member["user_id"]: member["role"] for member in page["members"]}
            cursor = page.get("next_cursor")
            if not page["has_more"] or cursor is None:
                break
        for user_id, role in room.roles().items():
            if user_id not in present:
                await creator.add_member(room_id, user_id, role.value)
            elif present[user_id] != role and role is Role.ADMIN:
                await creator.update_member(room_id, user_id, "admin")

    async def _write_message(
        self, room_id: str, creator: str, message: SeedMessage, ids: dict[str, str], seen: Counter[str]
    ) -> None:
        name = message.client_message_id or _make_name(message, seen)
        stored = await self._client.as_user(message.sender_id).send_message(
            room_id,
            message.content,
            meta=message.meta,
            reply_to=message.reply_to and ids[message.reply_to],
            thread_id=message.thread_id and ids[message.thread_id],
            client_message_id=name,
            mentions=message.mentions,
            mention_room=message.mention_room,
        )
        if message.client_message_id is not None:
            ids[message.client_message_id] = stored["message_id"]
        if stored["deleted_at"] is None:
            await self._decorate(room_id, creator, message, stored)
        for user_id in message.read_by:
            await self._client.as_user(user_id).mark_read(room_id, stored["seq"])
        self._sent += 1
        if self._progress is not None:
            self._progress.show(f"{self._sent} messages")

    async def _decorate(self, room_id: str, creator: str, message: SeedMessage, stored: Message) -> None:
        for emoji, users in message.reactions.items():
            for user_id in users:
                await self._client.as_user(user_id).add_reaction(room_id, stored["message_id"], emoji)
        if message.pinned and not stored.get("pinned_at"):
            await self._client.as_user(creator).pin_message(room_id, stored["message_id"])

    async def _apply_rules(self, found: Room, room: SeedRoom) -> None:
        if room.type is RoomType.DM:
            return
        wanted = {"metadata": room.metadata, "posting": room.posting.value, "slow_mode_seconds": room.slow_mode_seconds}
        changes = {name: value for name, value in wanted.items() if found.get(name) != value}
        if changes:
            await self._client.as_user(room.created_by).update_room(found["room_id"], **changes)  # type: ignore[arg-type]


def _make_name(message: SeedMessage, seen: Counter[str]) -> str:
    """The same in each run, wherever in the room the message stands; one that says the same again has another."""
    sent = {name: getattr(message, name) for name in SENT_FIELDS}
    digest = hashlib.sha256(dumps_canonical(sent)).hexdigest()[:32]
    seen[digest] += 1
    return f"seed-{digest}-{seen[digest]}"
