"""The fixture `chatapi`: the test's own server, with its tenants, users, webhooks, clock and faults."""

from collections.abc import Coroutine, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import quote

from chatapi.protocol.fault_records import FaultSet
from chatapi.testing.incoming import Incoming
from chatapi.testing.process import ServerProcess

if TYPE_CHECKING:  # which takes a fifth of a second, and not every test needs it
    from chatapi.client import ChatAPI
    from chatapi.testing.sync_client import LoopThread, SyncUser

T = TypeVar("T")


class ReceivedWebhook(NamedTuple):
    """A webhook as it came to the server's own receiver. `is_valid`: its signature is right."""

    id: str
    type: str
    body: dict[str, Any]
    is_valid: bool
    at: str


class Webhooks(Incoming[ReceivedWebhook]):
    """The calls for the server's first tenant, unless its `webhook_url` leads elsewhere."""

    def __init__(self, process: ServerProcess) -> None:
        super().__init__()
        self._process = process

    @property
    def calls(self) -> list[ReceivedWebhook]:
        """The oldest first."""
        found = self._process.ask("GET", "/dev/webhooks")["calls"]
        return [ReceivedWebhook(call["id"], call["type"], call["body"], call["valid"], call["at"]) for call in found]

    def look(self) -> Sequence[ReceivedWebhook]:
        return self.calls

    def read_type(self, item: ReceivedWebhook) -> str:
        return item.type

    def has(self, item: ReceivedWebhook, fields: dict[str, object]) -> bool:
        """Fields of the body's `data`. Raises AssertionError if the signature is wrong."""
        assert item.is_valid, f"the signature of the webhook {item.id} ({item.type}) is wrong"
        data = item.body.get("data", item.body)
        return all(name in data and data[name] == value for name, value in fields.items())


class ServerClock:
    """The server's clock. It goes on by itself, too."""

    def __init__(self, process: ServerProcess) -> None:
        self._process = process

    def advance(self, seconds: float) -> None:
        """Returns when all that is due by then has happened."""
        self._process.ask("POST", "/dev/clock", {"advance": seconds})

    @property
    def now(self) -> datetime:
        return datetime.fromisoformat(self._process.ask("GET", "/dev/clock")["now"])


class FaultsInForce:
    """In force until the end of a `with`, or of the test."""

    def __init__(self, process: ServerProcess) -> None:
        self._process = process

    def __enter__(self) -> "FaultsInForce":
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self._process.ask("POST", "/dev/faults", {})


class TemporaryTenant:
    """`url`, `tenant_id`, `api_key`, `token_secret`, and `webhook_secret` once there is a `webhook_url`."""

    def __init__(self, process: ServerProcess, clients: "Clients") -> None:
        self._process = process
        self._clients = clients
        self._made: dict[str, Any] = {}

    @property
    def url(self) -> str:
        return self._process.printed["url"]

    @property
    def tenant_id(self) -> str:
        return str(self._made["tenant_id"])

    @property
    def api_key(self) -> str:
        return str(self._made["api_key"])

    @property
    def token_secret(self) -> str:
        return str(self._made["token_secret"])

    @property
    def webhook_secret(self) -> str | None:
        return self._made.get("webhook_secret")

    def user(self, user_id: str) -> "SyncUser":
        """The SDK for tests without `await`: `chatapi.user("alice").list_rooms()`. Closed at the end of the test."""
        return self._clients.make_user(self.url, self.api_key, user_id)

    def client(self, user_id: str) -> "ChatAPI":
        """The SDK for tests with `await`: `async with chatapi.client("alice") as alice`."""
        from chatapi.client import ChatAPI

        return ChatAPI(self.url, api_key=self.api_key, user_id=user_id)

    def token(self, user_id: str, *, expires_in_s: int = 3600) -> str:
        """A user token, as an application's backend gives it to a page. It follows the server's clock."""
        headers = {"X-API-Key": self.api_key, "X-User-Id": user_id}
        return str(self._process.ask("POST", "/tokens", {"expires_in": expires_in_s}, headers)["token"])

    def configure(self, **config: object) -> None:
        """Changes settings of the tenant, such as `rate_limit` or `webhook_url`; None removes its own. Raises
        ApiError."""
        path = f"/admin/tenants/{quote(self.tenant_id)}"
        changed = self._process.ask("PATCH", path, {"config": config})
        if "webhook_secret" in changed:
            self._made["webhook_secret"] = changed["webhook_secret"]

    def seed(self, file: str | Path) -> list[str]:
        """Writes the rooms and messages of a file (docs/seeding.md), and returns the ids of its rooms, in their
        order."""
        from chatapi.cli.seed import plant, read_seed

        return self._clients.run(plant(self.url, self.api_key, read_seed(Path(file))))


class Server(TemporaryTenant):
    """A server with one tenant, which it is itself; `tenant` makes others."""

    def __init__(self, settings: Mapping[str, object]) -> None:
        super().__init__(ServerProcess(settings), Clients())
        self.clock = ServerClock(self._process)
        self.webhooks = Webhooks(self._process)
        self._is_fresh = False
        self._first: dict[str, Any] = {}  # as it was printed at the first start: each reset brings it back

    @property
    def master_key(self) -> str:
        return self._process.printed["master_key"]

    @property
    def log(self) -> str:
        """All that the server has written to its log."""
        return self._process.log

    def tenant(self, name: str = "test", **config: object) -> TemporaryTenant:
        """Another tenant, with settings of its own: `chatapi.tenant(rate_limit=5)`. Raises ApiError."""
        tenant = TemporaryTenant(self._process, self._clients)
        tenant._made = self._process.ask("POST", "/admin/tenants", {"name": name, "config": config})
        return tenant

    def faults(self, **faults: object) -> FaultsInForce:
        """Has the server misbehave, as docs/testing.md lists it; each call replaces the faults of the one before.
        Another name raises TypeError: the server would pass it over, and the test would prove nothing."""
        if unknown := faults.keys() - set(FaultSet.__struct_fields__):
            raise TypeError(f"{', '.join(sorted(unknown))}: no fault has this name")
        self._process.ask("POST", "/dev/faults", faults)
        return FaultsInForce(self._process)

    def kill(self) -> None:
        """As a crash: SIGKILL. Everything that was confirmed is there again after `start`."""
        self._process.kill()

    def stop(self) -> None:
        """As an operator stops it: SIGTERM."""
        self._process.stop()

    def start(self) -> None:
        """At the same address, with the same keys and data. Its clock is the machine's again, and faults are over."""
        self._is_fresh = not self._process.printed
        self._process.start()
        self._made = dict(self._process.printed)
        if self._is_fresh:
            self._first = dict(self._process.printed)

    def restart(self) -> None:
        """A crash, and a new start."""
        self.kill()
        self.start()

    def reset(self) -> None:
        """Removes everything but the tenant and its keys. The fixture has done it for you."""
        if not self._process.is_running:
            self.start()
        if not self._is_fresh:
            self._process.ask("POST", "/dev/reset")
        self._is_fresh = False
        self._made = dict(self._first)
        self.webhooks = Webhooks(self._process)

    def hang_up(self) -> None:
        """Closes the users of the test."""
        self._clients.hang_up()

    def close(self) -> None:
        self._clients.close()
        self._process.close()


class Clients:
    """The users of one test, on one event loop beside it, which the first of them starts."""

    def __init__(self) -> None:
        self._users: list[SyncUser] = []
        self._loop: LoopThread | None = None

    def make_user(self, url: str, api_key: str, user_id: str) -> "SyncUser":
        from chatapi.client import ChatAPI
        from chatapi.testing.sync_client import SyncUser

        user = SyncUser(ChatAPI(url, api_key=api_key, user_id=user_id), self._get_loop())
        self._users.append(user)
        return user

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self._get_loop().run(coroutine)

    def hang_up(self) -> None:
        while self._users:
            self._users.pop().close()

    def close(self) -> None:
        self.hang_up()
        if self._loop is not None:
            self._loop.close()
            self._loop = None

    def _get_loop(self) -> "LoopThread":
        from chatapi.testing.sync_client import LoopThread

        if self._loop is None:
            self._loop = LoopThread()
        return self._loop
