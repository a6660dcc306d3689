"""Credentials: API keys, user tokens, tickets and the master key (docs/contract.md, section 4).

Nothing here awaits: tenants and keys are in memory. No message of an error repeats a credential.
"""

import hashlib
import hmac
from collections.abc import Mapping
from typing import NamedTuple

from chatapi.banned_users import check_user_not_banned
from chatapi.clock import Clock
from chatapi.config import Config
from chatapi.errors import ChatError, invalid, rate_limited, unauthenticated
from chatapi.models import Principal, Scope, TenantState, UserId, is_user_id
from chatapi.plain_jwt import jwt
from chatapi.protocol.requests import MAX_TOKEN_SECONDS
from chatapi.ratelimit import TokenBucket
from chatapi.tenant_secrets import make_routed_secret
from chatapi.tenants import TenantRegistry

TICKET_SECONDS = 60
TICKET_BYTES = 24  # random
MAX_TICKETS = 100_000
MAX_CACHED_TOKENS = 10_000
CLOCK_SKEW_SECONDS = 5  # a backend's clock may be this much ahead of ours when it signs for the full 24 hours
NOT_BEFORE_LEEWAY_SECONDS = 10

WRONG_KEYS_PER_MINUTE = 20  # of one client address
MAX_ADDRESSES = 10_000  # remembered; the oldest are forgotten first

_SIGNATURES = jwt.PyJWS()


class IssuedTicket(NamedTuple):
    """A credential that opens one WebSocket. Only memory holds it, so that a restart voids it."""

    principal: Principal
    token_secret: str  # of the tenant when the ticket was made
    expires_at_s: float


class Auth:
    """Judges credentials. `address` is the client's, and by it wrong credentials are limited: `WRONG_KEYS_PER_MINUTE`.

    `wrong_credentials` counts them since the start.
    """

    def __init__(self, tenants: TenantRegistry, config: Config, clock: Clock) -> None:
        self._tenants = tenants
        self._clock = clock
        self._master_key_hash = _digest(config.auth.master_key) if config.auth.master_key else None
        self._tickets: dict[str, IssuedTicket] = {}  # oldest first
        self._tokens: dict[str, tuple[Principal, str]] = {}  # verified ones, with the secret that did
        self._wrong_keys: dict[str, TokenBucket] = {}
        self.wrong_credentials = 0

    # Callers

    def authenticate_key(self, api_key: str, user_id: str | None, address: str) -> Principal:
        """A tenant's backend, acting as a user. Raises ChatError: as `refuse_key` for an unknown key, VALIDATION_ERROR
        for a missing or invalid user id."""
        key = self._tenants.find_key(api_key)
        if key is None:
            raise self.refuse_key(address)
        if user_id is None:
            raise invalid("Required", "X-User-Id")
        if not is_user_id(user_id):
            raise invalid("Must be 1 to 128 characters of printable ASCII without spaces", "X-User-Id")
        return Principal(key.tenant, UserId(user_id), Scope.API_KEY, key.key_id)

    def authenticate_token(self, token: str, address: str) -> Principal:
        """A user's own token (RFC 7519, HS256). Raises ChatError."""
        cached = self._tokens.get(token)
        if cached is not None:
            principal, secret = cached
            if principal.tenant.token_secret == secret and self._is_current(principal):
                return principal
            del self._tokens[token]
        principal = self._verify_token(token, address)
        if len(self._tokens) >= MAX_CACHED_TOKENS:
            del self._tokens[next(iter(self._tokens))]
        self._tokens[token] = (principal, principal.tenant.token_secret)
        return principal

    def authenticate_ticket(self, ticket: str, address: str) -> Principal:
        """A ticket of `POST /ws/token`, which it uses up, unless the user is banned. Raises ChatError."""
        found = self._tickets.get(ticket)
        if found is None or found.expires_at_s < self._clock.monotonic_s():
            self._tickets.pop(ticket, None)
            raise self.refuse_key(address)
        principal = found.principal
        check_user_not_banned(principal.tenant, principal.user_id)
        del self._tickets[ticket]
        if principal.tenant.away is None:  # else the handshake tells where the tenant is
            self.check_still_valid(principal, found.token_secret)
        return principal

    def check_still_valid(self, principal: Principal, token_secret: str) -> None:
        """Raises ChatError if the credential does not hold any more that was accepted when the tenant had this
        `token_secret`, or the tenant has moved away."""
        if principal.tenant.away is not None:
            raise principal.tenant.away
        if principal.key_id is None:
            if not self._is_current(principal) or token_secret != principal.tenant.token_secret:
                raise unauthenticated("The user token has expired or was revoked")
        elif not self._tenants.has_key(principal.tenant, principal.key_id):
            raise unauthenticated("The API key was revoked")

    def is_ticket(self, text: str) -> bool:
        """By its first characters: only `authenticate_ticket` tells whether it is valid."""
        return text.startswith("tkt_")

    def check_master_key(self, master_key: str | None, address: str) -> None:
        """Raises ChatError: AUTHENTICATION_ERROR, or RATE_LIMIT_EXCEEDED after too many wrong keys. When none is
        configured, it always raises."""
        given = _digest(master_key or "")
        if self._master_key_hash is None or not hmac.compare_digest(given, self._master_key_hash):
            raise self.refuse_key(address) if master_key else unauthenticated("X-Master-Key is required")

    def refuse_key(self, address: str) -> ChatError:
        """Counts a wrong credential and returns the error for it: 401, and 429 once there were too many from this
        address. A right credential still passes."""
        self.wrong_credentials += 1
        now_s = self._clock.monotonic_s()
        bucket = self._wrong_keys.get(address)
        if bucket is None:
            if len(self._wrong_keys) >= MAX_ADDRESSES:
                del self._wrong_keys[next(iter(self._wrong_keys))]
            bucket = self._wrong_keys[address] = TokenBucket(WRONG_KEYS_PER_MINUTE / 60, WRONG_KEYS_PER_MINUTE, now_s)
        retry_after_s = bucket.take(now_s)
        if retry_after_s:
            return rate_limited(retry_after_s, "Too many wrong credentials from this address")
        return unauthenticated("Invalid credentials")

    # Tokens and tickets

    def mint_token(self, tenant: TenantState, user_id: UserId, expires_in_s: int) -> tuple[str, int]:
        """A user token (RFC 7519, HS256), and when it expires, in microseconds since 1970."""
        expires_at_s = self._clock.now_us() // 1_000_000 + expires_in_s
        claims = {"iss": tenant.tenant_id, "sub": user_id, "exp": expires_at_s}
        return jwt.encode(claims, tenant.token_secret, algorithm="HS256"), expires_at_s * 1_000_000

    def mint_ticket(self, principal: Principal) -> str:
        """A ticket for one WebSocket, valid for `TICKET_SECONDS`. Raises ChatError RATE_LIMIT_EXCEEDED while
        `MAX_TICKETS` are unused."""
        now_s = self._clock.monotonic_s()
        while self._tickets and (oldest := next(iter(self._tickets))) and self._tickets[oldest].expires_at_s < now_s:
            del self._tickets[oldest]
        if len(self._tickets) >= MAX_TICKETS:
            raise rate_limited(1.0, "Too many unused tickets")
        ticket = "tkt_" + make_routed_secret(principal.tenant.tenant_id, TICKET_BYTES)
        self._tickets[ticket] = IssuedTicket(principal, principal.tenant.token_secret, now_s + TICKET_SECONDS)
        return ticket

    def find_claimed_user(self, text: str) -> str | None:
        """The user whom a ticket or token names, of whom nothing is verified: nothing may be allowed by it."""
        issued = self._tickets.get(text)
        if issued is not None:
            return issued.principal.user_id
        try:
            user_id = jwt.decode(text, options={"verify_signature": False}).get("sub")
        except (jwt.InvalidTokenError, ValueError, RecursionError):
            return None
        return user_id if isinstance(user_id, str) else None

    def _verify_token(self, token: str, address: str) -> Principal:
        """Raises ChatError. Only a token whose signature does not hold is a guess, and counts as one."""
        try:
            # Only to learn with whose secret to verify it; no claim is trusted yet.
            claims = jwt.decode(token, options={"verify_signature": False})
            issuer = claims.get("iss")
            tenant = self._tenants.find(issuer) if isinstance(issuer, str) else None
            if tenant is None:
                raise self.refuse_key(address)
            # The signature alone: jwt.decode would also judge each claim that a version of PyJWT knows.
            _SIGNATURES.decode_complete(token, tenant.token_secret, algorithms=["HS256"])
        except (jwt.InvalidTokenError, ValueError, RecursionError):
            # The last two come from bytes that are not text, and from endless brackets.
            raise self.refuse_key(address) from None
        return _judge_claims(tenant, claims, self._clock.now_us() / 1_000_000)

    def _is_current(self, principal: Principal) -> bool:
        return (
            principal.expires_at_us is None or principal.expires_at_us > self._clock.now_us()
        ) and self._tenants.find(principal.tenant.tenant_id) is principal.tenant


def _judge_claims(tenant: TenantState, claims: Mapping[str, object], now_s: float) -> Principal:
    """Judges `sub`, `exp` and `nbf` of a token whose signature and `iss` hold, and no other claim
    (docs/contract.md, section 4).
    Raises ChatError.
    """
    user_id = claims.get("sub")
    if not isinstance(user_id, str) or not is_user_id(user_id):
        raise unauthenticated("The user token's sub must be a user id")
    expires_at_s, begins_at_s = _read_date(claims, "exp"), _read_date(claims, "nbf")
    if expires_at_s is None:
        raise unauthenticated("The user token has no exp")
    if expires_at_s <= now_s:
        raise unauthenticated("The user token has expired")
    if expires_at_s > now_s + MAX_TOKEN_SECONDS + CLOCK_SKEW_SECONDS:
        raise unauthenticated("The user token expires more than 24 hours ahead")
    if begins_at_s is not None and begins_at_s > now_s + NOT_BEFORE_LEEWAY_SECONDS:
        raise unauthenticated("The user token is not valid yet: its nbf is in the future")
    return Principal(tenant, UserId(user_id), Scope.USER_TOKEN, None, int(expires_at_s * 1_000_000))


def _read_date(claims: Mapping[str, object], name: str) -> float | int | None:
    """A NumericDate of RFC 7519, or None where it is absent; it may have a fraction, and be larger than any float."""
    date = claims.get(name)
    if date is None:
        return None
    if isinstance(date, bool) or not isinstance(date, int | float) or date != date:
        raise unauthenticated(f"The user token's {name} must be a number of seconds since 1970")
    return date


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
