"""Responses that are being sent: how many bytes their clients have not yet taken, by user, by tenant and in all.

A client that asks and does not read leaves its responses in memory. Beyond a bound the server makes no more of them:
requests wait until there is space, and the tenants take turns; after a while they are refused. Small responses are not
counted: a connection takes the next request only when most of the last response was read, so that it holds few of them.
Nor are those that the kernel takes at once, which is nearly all.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple, Protocol, TypeVar

from chatapi.errors import ChatError, Code
from chatapi.models import TenantKey

SMALL_BYTES = (
    16 * 1024
)  # a response up to this size is not counted, and so much of one may be unread when the next begins
PAGE_BYTES = 1024 * 1024  # the size of a response to a request that has waited
ALL_BYTES = 64 * 1024 * 1024
TENANT_BYTES = 16 * 1024 * 1024
USER_BYTES = 4 * 1024 * 1024  # so that one user's credential does not take all of its tenant's
MAX_WAITING = 100  # requests of one tenant: more are refused at once
WAIT_SECONDS = 10.0  # then they are refused too

K = TypeVar("K")

QuotaKey = tuple[TenantKey, str]
"""Whose quota a response counts against: the tenant and its user; without a credential 0 and the client's address."""


class LargeResponse(NamedTuple):
    quota_key: QuotaKey
    size: int  # bytes of its body


class Sender(Protocol):
    """A connection that counts its response while the client has not taken it."""

    large_response: LargeResponse | None
    """The response to the request that it serves, if that is a large one."""


class Outflow:
    """`begin` and `end` count large responses; `reserve_page` lets a request wait for space."""

    def __init__(self, memory_share: float = 1.0) -> None:
        """The bounds are that share of the usual ones, but take one page."""
        self._memory_share = memory_share
        self.total_bytes = 0
        self._of_tenants: dict[TenantKey, int] = {}
        self._of_users: dict[QuotaKey, int] = {}
        # Requests that wait for space, by tenant: the next tenant first, and of each the longest waiting first.
        self._waiting: OrderedDict[TenantKey, dict[asyncio.Future[None], QuotaKey]] = OrderedDict()

    @property
    def waiting(self) -> int:
        return sum(map(len, self._waiting.values()))

    def has_space(self, quota_key: QuotaKey, size: int) -> bool:
        """Within the bounds of the process, the tenant and the user, all three."""
        return (
            self.total_bytes + size <= self._scale(ALL_BYTES)
            and self._of_tenants.get(quota_key[0], 0) + size <= self._scale(TENANT_BYTES)
            and self._of_users.get(quota_key, 0) + size <= self._scale(USER_BYTES)
        )

    def _scale(self, usual_bytes: int) -> float:
        return usual_bytes if self._memory_share == 1 else max(PAGE_BYTES, usual_bytes * self._memory_share)

    def begin(self, quota_key: QuotaKey, size: int) -> None:
        """So many bytes are written from now on."""
        self.total_bytes += size
        _add(self._of_tenants, quota_key[0], size)
        _add(self._of_users, quota_key, size)

    def has_much_unread(self, quota_key: QuotaKey) -> bool:
        """Whether the user has to read before more is done for it."""
        return self._of_users.get(quota_key, 0) >= self._scale(USER_BYTES)

    def end(self, quota_key: QuotaKey, size: int) -> None:
        """The client has taken them, or is gone."""
        self.begin(quota_key, -size)
        if self._waiting:
            self._serve_waiting()

    @asynccontextmanager
    async def reserve_page(self, quota_key: QuotaKey) -> AsyncIterator[None]:
        """Waits until there is space for a page, which is kept free inside. Raises ChatError 503 when that takes too
        long, or when too many of the tenant's wait."""
        waiting = self._waiting.setdefault(quota_key[0], {})
        if len(waiting) >= MAX_WAITING:
            raise refuse()
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting[future] = quota_key
        self._serve_waiting()
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await future
            yield
        except TimeoutError:
            raise refuse() from None
        finally:
            if future.done() and not future.cancelled():
                self.begin(quota_key, -PAGE_BYTES)
                # Later: the new response begins in this very step, and takes its space.
                asyncio.get_running_loop().call_soon(self._serve_waiting)
            else:
                self._remove(quota_key[0], future)

    def _serve_waiting(self) -> None:
        """Gives free room to requests that wait: of each tenant in turn, to the first one for which there is some."""
        tenant_keys = deque(self._waiting)
        while tenant_keys and self.total_bytes + PAGE_BYTES <= self._scale(ALL_BYTES):
            tenant_key = tenant_keys.popleft()
            waiting = self._waiting[tenant_key]
            future = next(
                (future for future, quota_key in waiting.items() if self.has_space(quota_key, PAGE_BYTES)), None
            )
            if future is None:
                continue
            self.begin(waiting[future], PAGE_BYTES)
            future.set_result(None)
            self._remove(tenant_key, future)
            if tenant_key in self._waiting:
                self._waiting.move_to_end(tenant_key)
                tenant_keys.append(tenant_key)

    def _remove(self, tenant_key: TenantKey, future: asyncio.Future[None]) -> None:
        self._waiting[tenant_key].pop(future, None)
        if not self._waiting[tenant_key]:
            del self._waiting[tenant_key]


def _add(sizes: dict[K, int], key: K, size: int) -> None:
    sizes[key] = sizes.get(key, 0) + size
    if not sizes[key]:
        del sizes[key]


def refuse() -> ChatError:
    message = "Too much of earlier answers is still unread: read it first"
    return ChatError(Code.INTERNAL_ERROR, message, status=503, retry_after_s=1.0)
