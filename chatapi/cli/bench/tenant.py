"""The tenant that a scenario makes for itself, with its rooms, and what the server has stored at the end."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chatapi.cli.bench.errors import BenchError
from chatapi.cli.bench.http import encode_request, exchange
from chatapi.cli.bench.reactor import Address
from chatapi.cli.bench.target import TENANT_CONFIG, Target
from chatapi.cli.output import Progress
from chatapi.protocol.json import dumps, loads_stored

PAGE = 100  # the most that one page of history or of the log holds
MEMBERS_AT_CREATION = 1000

# Of a length that is not a multiple of anything, and neither all one letter nor random.
_FILLER = "The quick brown fox jumps over the lazy dog; pack my box with five dozen jugs. "


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """A scenario takes those that it knows; each scenario has defaults of its own. `seconds`, `warmup` and `stall` are
    seconds, `size` bytes, `rate` and `append_rate` per second."""

    clients: int = 0
    seconds: float = 5.0
    warmup: float = 1.0
    size: int = 100
    members: int = 2
    window: int = 1
    rate: float = 0.0
    connections: int = 0
    missed: int = 20
    stall: float = 20.0
    processes: int = 1
    pauses: bool = False
    busy_poll: bool = False
    transport: str = "websocket"
    streams: int = 0
    append_rate: float = 0.0
    appends: int = 0
    servers: int = 1
    events: int = 0
    messages: int = 0

    @property
    def content(self) -> str:
        """Of `size` bytes: all its characters are ASCII."""
        return (_FILLER * (self.size // len(_FILLER) + 1))[: self.size]


@dataclass(frozen=True, slots=True)
class TenantLogin:
    """All that a generator process needs to talk to the server as any user of the tenant."""

    address: Address
    host: str
    api_key: str

    def headers(self, user_id: str) -> str:
        """Whole lines, as `encode_request` takes them."""
        return f"X-API-Key: {self.api_key}\r\nX-User-Id: {user_id}\r\n"


@dataclass(frozen=True, slots=True)
class BenchRoom:
    """The first of `users` has created it and is its admin."""

    room_id: str
    users: tuple[str, ...]


class BenchTenant:
    """Makes the tenant, with raised limits. Raises BenchError for whatever the server refuses."""

    def __init__(self, target: Target, options: BenchOptions, progress: Progress) -> None:
        self.target = target
        self.options = options
        self.progress = progress
        self._master = f"X-Master-Key: {target.master_key}\r\n"
        made = self._ask("POST", "/admin/tenants", self._master, {"name": "bench", "config": TENANT_CONFIG})
        self.tenant_id = made["tenant_id"]
        self.login = TenantLogin(target.address, target.host, made["api_key"])

    def close(self) -> None:
        """Takes back what was made on a server that stays."""
        self.delete_other(self.tenant_id)

    def delete_other(self, tenant_id: str) -> None:
        """A tenant that came to the server."""
        self._ask("DELETE", f"/admin/tenants/{tenant_id}", self._master)

    def configure(self, config: Mapping[str, object]) -> None:
        self._ask("PATCH", f"/admin/tenants/{self.tenant_id}", self._master, {"config": config})

    def make_rooms(self, count: int, members: int, prefix: str = "u") -> list[BenchRoom]:
        """Groups with distinct users `u0`, `u1`, …; the first of each has created it."""
        self.progress.step(f"making {count} rooms of {members} members")
        members_of = [
            tuple(f"{prefix}{user}" for user in range(room * members, (room + 1) * members)) for room in range(count)
        ]
        bodies = [{"type": "group", "members": users[:MEMBERS_AT_CREATION]} for users in members_of]
        made = self.ask_many(
            "POST", [(users[0], "/rooms", body) for users, body in zip(members_of, bodies, strict=True)]
        )
        rooms = [BenchRoom(room["room_id"], users) for room, users in zip(made, members_of, strict=True)]
        late = [
            (room.users[0], f"/rooms/{room.room_id}/members", {"user_id": user})
            for room in rooms
            for user in room.users[MEMBERS_AT_CREATION:]
        ]
        if late:
            self.ask_many("POST", late)
        return rooms

    def seed(self, rooms: Sequence[BenchRoom], messages: int) -> None:
        """Stores as many messages in each room, sent by its first member."""
        self.progress.step(f"storing {messages} messages in each of {len(rooms)} rooms")
        content = self.options.content
        self.ask_many(
            "POST",
            [
                (room.users[0], f"/rooms/{room.room_id}/messages", {"content": content})
                for _ in range(messages)
                for room in rooms
            ],
        )

    def read_messages(self, last_seqs: Mapping[BenchRoom, int]) -> dict[str, list[dict[str, Any]]]:
        """By room id, all that history has up to `last_seq`, and what it has beyond. Where other events stand between
        the messages, a page reaches into the next one, and messages come twice."""
        return self._read_pages(last_seqs, "messages", "messages")

    def read_events(self, last_seqs: Mapping[BenchRoom, int]) -> dict[str, list[dict[str, Any]]]:
        """As `read_messages`, of the whole log."""
        return self._read_pages(last_seqs, "events", "events")

    def _read_pages(self, last_seqs: Mapping[BenchRoom, int], path: str, name: str) -> dict[str, list[dict[str, Any]]]:
        self.progress.step(f"reading back {sum(last_seqs.values())} events")
        # By one page further than there should be anything.
        wanted = [
            (room.users[0], f"/rooms/{room.room_id}/{path}?limit={PAGE}&after_seq={after}", None)
            for room, last_seq in last_seqs.items()
            for after in range(0, last_seq + 1, PAGE)
        ]
        found: dict[str, list[dict[str, Any]]] = {room.room_id: [] for room in last_seqs}
        for (_, page_path, _), page in zip(wanted, self.ask_many("GET", wanted), strict=True):
            found[page_path.split("/")[2]].extend(page[name])
        return found

    def ask_many(self, method: str, calls: Sequence[tuple[str, str, object]]) -> list[dict[str, Any]]:
        """Calls of (user, path, body), and the `data` of their answers, in order. Raises BenchError."""
        login = self.login
        return _ask_all(
            login.address,
            [
                encode_request(method, path, login.host, login.headers(user), b"" if body is None else dumps(body))
                for user, path, body in calls
            ],
        )

    def _ask(self, method: str, path: str, headers: str, body: object = None) -> dict[str, Any]:
        request = encode_request(method, path, self.target.host, headers, b"" if body is None else dumps(body))
        return _ask_all(self.target.address, [request])[0]


def _ask_all(address: Address, requests: Sequence[bytes]) -> list[dict[str, Any]]:
    answers: list[dict[str, Any]] = [{} for _ in requests]

    def take(index: int, status: int, body: bytes) -> None:
        if not 200 <= status < 300:
            line = requests[index].split(b"\r\n", 1)[0].decode()
            raise BenchError(f"{line}: {status} {body[:200].decode(errors='replace')}")
        if body:
            answers[index] = loads_stored(body)["data"]

    exchange(address, requests, take)
    return answers
