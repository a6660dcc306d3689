"""The audit's query and answer. See `protocol.requests` and `protocol.answers`."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from chatapi.models import encode_audit_id, encode_time
from chatapi.protocol.answers import Answer
from chatapi.protocol.fields import HasMore, KeyIdText, Time, or_unset
from chatapi.protocol.json import loads_stored
from chatapi.protocol.queries import Limit, Query
from chatapi.protocol.requests import PublicId, TenantIdText, UserIdText

AFTER = "the `id` of an entry: only those after it"
EntryIdText = Annotated[str, Meta(examples=["audit_0000000000000007"])]


class AuditQuery(Query, frozen=True):
    tenant_id: TenantIdText | None = None
    after: Annotated[PublicId, Meta(description=AFTER, examples=["audit_0000000000000007"])] | None = None
    limit: Limit = 50


class AuditActor(Answer, frozen=True, kw_only=True):
    """The operator, a backend with its key and the user that it acts for, a user, or the server itself."""

    kind: Annotated[Literal["master", "key", "user", "server"], Meta(examples=["key"])]
    key_id: KeyIdText | UnsetType = UNSET
    user_id: UserIdText | UnsetType = UNSET


class AuditEntry(Answer, frozen=True, kw_only=True):
    id: EntryIdText
    at: Time
    actor: AuditActor
    address: Annotated[str | None, Meta(description="null for the server itself", examples=["203.0.113.9"])]
    action: Annotated[str, Meta(examples=["room.ban"])]
    tenant_id: TenantIdText | None
    target: Annotated[str | None, Meta(description="what was acted upon", examples=["bob"])]
    details: dict[str, object] | UnsetType = UNSET


class Audit(Answer, frozen=True, kw_only=True):
    """The oldest first."""

    entries: list[AuditEntry]
    has_more: HasMore


def encode_entry(
    audit_key: int,
    at_us: int,
    kind: Literal["master", "key", "user", "server"],
    key_id: str | None,
    user_id: str | None,
    address: str | None,
    action: str,
    tenant_id: str | None,
    target: str | None,
    details: str | None,
) -> AuditEntry:
    return AuditEntry(
        id=encode_audit_id(audit_key),
        at=encode_time(at_us),
        actor=AuditActor(kind=kind, key_id=or_unset(key_id), user_id=or_unset(user_id)),
        address=address,
        action=action,
        tenant_id=tenant_id,
        target=target,
        details=UNSET if details is None else loads_stored(details),
    )
