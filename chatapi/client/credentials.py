"""The client's credential: an API key, or a user token and the source of the next one."""

import asyncio
import base64
import inspect
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from chatapi.client.errors import NoToken
from chatapi.protocol.json import loads_stored

TOKEN_TIMEOUT_S = 10.0  # for `get_token`; less than a handshake may take, so that its failure is told as its own
EXPIRY_LEEWAY_S = 300.0  # of a refused token: our clock may be behind the server's

GetToken = Callable[[], str | Awaitable[str]]

_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]+")  # the characters that a header and a subprotocol can hold
_HEADER_VALUE = re.compile(r"[\x20-\x7e\x80-\xff]*")


class Credentials:
    """The headers that say who is calling, and where a better one may come from."""

    def __init__(
        self, headers: Mapping[str, str], get_token: GetToken | None = None, timeout_s: float = TOKEN_TIMEOUT_S
    ) -> None:
        for name, value in headers.items():
            if not _HEADER_VALUE.fullmatch(value):
                raise ValueError(f"{name} holds characters that no header can carry")
        self._headers = headers
        self._get_token = get_token
        self._timeout_s = min(timeout_s, TOKEN_TIMEOUT_S)
        self._token: str | None = None
        self._lock = asyncio.Lock()  # one request for all that wait for a token

    @property
    def is_renewable(self) -> bool:
        return self._get_token is not None

    async def headers(self) -> dict[str, str]:
        """Raises NoToken; then the next call asks again."""
        if self._get_token is None:
            return dict(self._headers)
        async with self._lock:
            if self._token is None:
                self._token = await self._ask(self._get_token)
            return {**self._headers, "Authorization": f"Bearer {self._token}"}

    async def _ask(self, get_token: GetToken) -> str:
        task = asyncio.current_task()
        cancellations = task.cancelling() if task is not None else 0
        try:
            async with asyncio.timeout(self._timeout_s):
                token = get_token()
                if inspect.isawaitable(token):
                    token = await token
        except TimeoutError as error:
            raise NoToken(f"get_token returned nothing within {self._timeout_s:g} s") from error
        except asyncio.CancelledError as error:
            if task is None or task.cancelling() > cancellations:
                raise
            raise NoToken("get_token was cancelled") from error  # by the application, not with us
        except Exception as error:
            raise NoToken(f"get_token raised {type(error).__name__}: {error}") from error
        if not is_token(token):
            raise NoToken(f"get_token returned no token but {_describe(token)}")
        return token

    async def find_user_id(self) -> str:
        """As the key's header or the token says. Raises NoToken."""
        headers = await self.headers()
        if (user_id := headers.get("X-User-Id")) is not None:
            return user_id
        claims = _read_claims(headers["Authorization"].partition(" ")[2])
        return str(claims.get("sub", ""))

    def renew(self) -> bool:
        """Forgets a token that the server refused. True when there may be a better one."""
        self._token = None
        return self.is_renewable

    def has_expired(self) -> bool:
        """Whether the token in hand, which the server has refused, seems to be one that was good once."""
        if self._token is None:
            return False
        expires_at_s = _read_expiry(self._token)
        return expires_at_s is not None and expires_at_s <= time.time() + EXPIRY_LEEWAY_S


def is_token(value: object) -> bool:
    return isinstance(value, str) and _TOKEN.fullmatch(value) is not None


def _describe(token: object) -> str:
    """Without its content: it may be a secret all the same."""
    if isinstance(token, str):
        return "a string with characters that no token has" if token else "an empty string"
    return type(token).__name__


def _read_expiry(token: str) -> float | None:
    try:
        return float(_read_claims(token)["exp"])
    except (ValueError, LookupError, TypeError, OverflowError):
        return None


def _read_claims(token: str) -> dict[str, Any]:
    """Those of a JWT, unverified: a hint, no proof."""
    try:
        claims = loads_stored(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    except (ValueError, LookupError):
        return {}
    return claims if isinstance(claims, dict) else {}
