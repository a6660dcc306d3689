"""A tenant's own figures over the server's."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, TypeVar, get_type_hints

from chatapi.config.kinds import Kind
from chatapi.config.settings import (
    BURST,
    CONNECTIONS_PER_TENANT,
    CONNECTIONS_PER_USER,
    MESSAGE_BYTES,
    RATE,
    RETENTION_DAYS,
    WEB_URL,
    Config,
)
from chatapi.errors import invalid

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class TenantLimits:
    """What is in force for one tenant."""

    rate_limit: float  # tokens per second
    rate_burst: int
    connections_per_user: int
    connections_per_tenant: int  # 0 = no limit
    max_message_bytes: int
    retention_days: float  # 0 = for ever


@dataclass(frozen=True, slots=True)
class TenantConfig:
    """What an operator set for one tenant; None = not named, the server's setting holds."""

    rate_limit: Annotated[float | None, RATE] = None
    rate_burst: Annotated[int | None, BURST] = None
    connections_per_user: Annotated[int | None, CONNECTIONS_PER_USER] = None
    connections_per_tenant: Annotated[int | None, CONNECTIONS_PER_TENANT] = None
    max_message_bytes: Annotated[int | None, MESSAGE_BYTES] = None
    webhook_url: Annotated[str | None, WEB_URL] = None
    retention_days: Annotated[float | None, RETENTION_DAYS] = None

    def as_json(self) -> dict[str, object]:
        """Only what was named, as `parse_tenant_config` takes it."""
        return {item.name: value for item in fields(self) if (value := getattr(self, item.name)) is not None}

    def effective(self, server: Config) -> TenantLimits:
        limits = server.limits
        rate_limit = _first(self.rate_limit, limits.rate_limit)
        # A bucket that holds less than one token would let nothing pass.
        rate_burst = _first(self.rate_burst, limits.rate_burst) or max(1, math.ceil(rate_limit))
        return TenantLimits(
            rate_limit=rate_limit,
            rate_burst=rate_burst,
            connections_per_user=_first(self.connections_per_user, limits.connections_per_user),
            connections_per_tenant=_first(self.connections_per_tenant, limits.connections_per_tenant),
            max_message_bytes=_first(self.max_message_bytes, limits.max_message_bytes),
            retention_days=_first(self.retention_days, server.retention.days),
        )


TENANT_KINDS: Mapping[str, Kind] = {
    name: hint.__metadata__[0] for name, hint in get_type_hints(TenantConfig, include_extras=True).items()
}


def parse_tenant_config(config: Mapping[str, object]) -> TenantConfig:
    """Raises VALIDATION_ERROR naming `config.<key>`. null, and an empty webhook_url, are as good as not named."""
    for key, value in config.items():
        kind = TENANT_KINDS.get(key)
        if kind is None:
            raise invalid("unknown key; known are " + ", ".join(TENANT_KINDS), f"config.{key}")
        if value is not None and not kind.accepts(value):
            raise invalid(f"must be {kind.expected}", f"config.{key}")
    named = {key: value for key, value in config.items() if value is not None and value != ""}
    return TenantConfig(**named)  # type: ignore[arg-type]  # TENANT_KINDS has just checked each value's type


def _first(own: _T | None, servers: _T) -> _T:
    return servers if own is None else own
