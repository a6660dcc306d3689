"""A tenant's own settings over the server's."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Annotated, Any, get_type_hints

from chatapi.config.kinds import ListOf, OneOf, ValueKind
from chatapi.config.settings import SETTINGS, WEB_URL, Config
from chatapi.errors import invalid
from chatapi.models import WebhookEvent

ALL_EVENTS = "*"
EVENT_NAMES = ListOf(OneOf((*WebhookEvent, ALL_EVENTS)), 0, 100)


@dataclass(frozen=True, slots=True)
class TenantSettings:
    """The settings in force for one tenant, and the one declaration of the keys of its `config`.

    An annotation names the server's setting that holds where the tenant has none of its own: its bounds are the
    tenant's too. A setting that the server does not have states what it accepts, and its default.
    """

    rate_limit: Annotated[float, "limits.rate_limit"]
    rate_burst: Annotated[int, "limits.rate_burst"]
    user_rate_limit: Annotated[float, "limits.user_rate_limit"]
    connections_per_user: Annotated[int, "limits.connections_per_user"]
    connections_per_tenant: Annotated[int, "limits.connections_per_tenant"]
    max_message_bytes: Annotated[int, "limits.max_message_bytes"]
    retention_days: Annotated[float, "retention.days"]
    search: Annotated[bool, "search.enabled"]
    open_streams: Annotated[int, "streams.open_streams"]
    webhook_url: Annotated[str | None, WEB_URL] = None
    webhook_events: Annotated[frozenset[str], EVENT_NAMES] = frozenset()


def _read_declaration() -> tuple[Mapping[str, str], Mapping[str, ValueKind]]:
    """The server's setting behind each key that has one, and what each key accepts."""
    servers: dict[str, str] = {}
    kinds: dict[str, ValueKind] = {}
    for name, hint in get_type_hints(TenantSettings, include_extras=True).items():
        [source] = hint.__metadata__
        if isinstance(source, str):
            servers[name] = source
            source = SETTINGS[source].kind
        kinds[name] = source
    return servers, kinds


SERVERS_SETTINGS, TENANT_KINDS = _read_declaration()


def parse_tenant_config(config: Mapping[str, object]) -> dict[str, object]:
    """The keys that are set. Raises VALIDATION_ERROR naming `config.<key>`, or the item of a list.

    A key that is null, or an empty webhook_url, is not set. `*` alone stands for the list of it.
    """
    if config.get("webhook_events") == ALL_EVENTS:
        config = {**config, "webhook_events": [ALL_EVENTS]}
    for key, value in config.items():
        kind = TENANT_KINDS.get(key)
        if kind is None:
            raise invalid("Unknown key: must be one of " + ", ".join(TENANT_KINDS), f"config.{key}")
        if value is not None and not kind.accepts(value):
            culprit = kind.find_culprit(value) if isinstance(kind, ListOf) else None
            if isinstance(kind, ListOf) and culprit is not None:
                raise invalid(f"Must be {kind.item.expected}", f"config.{key}[{culprit[0]}]")
            raise invalid(f"Must be {kind.expected}", f"config.{key}")
    return {key: config[key] for key in TENANT_KINDS if config.get(key) not in (None, "")}


def resolve_settings(config: Mapping[str, Any], server: Config) -> TenantSettings:
    """The settings in force under a tenant's `config`, as `parse_tenant_config` returns it."""
    defaults = {key: attrgetter(source)(server) for key, source in SERVERS_SETTINGS.items()}
    named = config.get("webhook_events", ())
    events = frozenset(WebhookEvent if ALL_EVENTS in named else named)
    settings = TenantSettings(**{**defaults, **config, "webhook_events": events})
    if settings.rate_burst:
        return settings
    # A bucket that holds less than one token would let nothing pass.
    return replace(settings, rate_burst=max(1, math.ceil(settings.rate_limit)))
