"""The one list of what belongs to a tenant: each table, how a tenant's rows are found, and what a copy of them keeps.

`tests/store/test_tenant_tables.py` holds it to the schema: a migration that adds a table or a column names it here, or
says why a copy has none of it.
"""

from dataclasses import dataclass
from enum import Enum, auto

TENANT_KEY, ROOM_KEY = "tenant_key", "room_key"
"""Keys of rows that only one database knows: a copy gets those of its own. All other keys are a part of public ids, and
are kept; they are unique in a database, so that it takes no row of a key that it has."""


class RowsBy(Enum):
    """How the rows of a tenant are found."""

    TENANT = auto()  # by their tenant_key
    ROOM = auto()  # by the room_key of each of the tenant's rooms


@dataclass(frozen=True, slots=True)
class TenantTable:
    """`columns` are what is copied. By `order`, the primary key, its rows are copied."""

    name: str
    scope: RowsBy
    order: tuple[str, ...]
    columns: tuple[str, ...]
    # Text that holds JSON: other statements fail on text that is none.
    json: tuple[str, ...] = ()


def _table(name: str, scope: RowsBy, order: str, columns: str, json: str = "") -> TenantTable:
    return TenantTable(name, scope, tuple(order.split()), tuple(columns.split()), tuple(json.split()))


TENANTS = _table(
    "tenants",
    RowsBy.TENANT,
    "tenant_key",
    "tenant_key tenant_id name config token_secret webhook_secret created_at_us replaced_webhook_secrets epoch",
    "config replaced_webhook_secrets",
)
API_KEYS = _table(
    "api_keys",
    RowsBy.TENANT,
    "key_id",
    "key_id tenant_key key_hash shown_key created_at_us last_used_at_us",
)
ROOMS = _table(
    "rooms",
    RowsBy.TENANT,
    "room_key",
    "room_key tenant_key room_id type unique_key name metadata pruned_seq created_by created_at_us updated_at_us"
    " last_mention_seq poster posted_seq other_posted_seq posting slow_mode_seconds",
    "metadata",
)
MESSAGES = _table(
    "messages",
    RowsBy.ROOM,
    "message_key",
    "message_key room_key seq sender_id content meta reply_to client_message_id body_digest created_at_us edited_at_us"
    " deleted_at_us imported_id thread_id mentions mention_room annotated stream",
    "meta mentions",
)

# In this order each row comes after those that it refers to.
TENANT_TABLES = (
    TENANTS,
    API_KEYS,
    ROOMS,
    _table(
        "users",
        RowsBy.TENANT,
        "tenant_key user_id",
        "tenant_key user_id name avatar_url metadata sort_name folded_id last_seen_at_us created_at_us updated_at_us",
        "metadata",
    ),
    _table(
        "blocks", RowsBy.TENANT, "tenant_key user_id blocked_id", "tenant_key user_id blocked_id dm_key created_at_us"
    ),
    _table("user_bans", RowsBy.TENANT, "tenant_key user_id", "tenant_key user_id reason until_us heirs_due"),
    _table(
        "members",
        RowsBy.ROOM,
        "room_key user_id",
        "room_key user_id tenant_key role joined_at_us last_ack last_read last_mention_seq joined_key notify"
        " notify_before notify_key hidden_seq",
    ),
    _table("mutes", RowsBy.ROOM, "room_key user_id", "room_key user_id tenant_key until_us"),
    _table(
        "bans", RowsBy.ROOM, "room_key user_id", "room_key user_id tenant_key reason until_us created_by created_at_us"
    ),
    _table("traces", RowsBy.ROOM, "room_key user_id", "room_key user_id tenant_key"),
    MESSAGES,
    _table(
        "changes",
        RowsBy.ROOM,
        "room_key seq",
        "room_key seq frame message_key created_at_us quiet last_index",
        "frame",
    ),
    _table("mentions", RowsBy.ROOM, "room_key user_id message_key", "room_key user_id message_key seq sender_id"),
    _table(
        "threads",
        RowsBy.ROOM,
        "room_key root_seq",
        "room_key root_seq reply_count last_reply_seq last_reply_at_us",
    ),
    _table(
        "reactions",
        RowsBy.ROOM,
        "room_key target_seq seq",
        "room_key target_seq seq emoji user_id created_at_us",
    ),
    _table(
        "reaction_counts",
        RowsBy.ROOM,
        "room_key target_seq first_seq",
        "room_key target_seq first_seq emoji count user_ids",
        "user_ids",
    ),
    _table("emptied_messages", RowsBy.ROOM, "room_key target_seq", "room_key target_seq"),
    _table("pins", RowsBy.ROOM, "room_key seq", "room_key seq target_seq user_id pinned_at_us"),
    _table("open_streams", RowsBy.ROOM, "room_key target_seq", "room_key target_seq cancel_requested"),
    _table(
        "stream_chunks",
        RowsBy.ROOM,
        "room_key target_seq last_index",
        "room_key target_seq last_index text sizes",
        "sizes",
    ),
    _table(
        "reports",
        RowsBy.ROOM,
        "report_key",
        "report_key tenant_key room_key target_seq user_id reason message created_at_us resolved_by resolved_at_us",
        "message",
    ),
    _table(
        "subscriptions", RowsBy.TENANT, "subscription_key", "subscription_key tenant_key user_id topic created_at_us"
    ),
    _table("erasures", RowsBy.TENANT, "tenant_key user_id", "tenant_key user_id begun_at_us erased_at_us"),
    _table(
        "notifications",
        RowsBy.TENANT,
        "notification_key",
        "notification_key tenant_key topic payload created_at_us",
        "payload",
    ),
    _table(
        "notification_recipients",
        RowsBy.TENANT,
        "tenant_key user_id notification_key",
        "tenant_key user_id notification_key acked_at_us",
    ),
    _table(
        "unfinished_notifications",
        RowsBy.TENANT,
        "tenant_key",
        "tenant_key notification_key room_key topic last_user_id",
    ),
    _table(
        "webhook_events",
        RowsBy.TENANT,
        "event_key",
        "event_key tenant_key room_key seq excluded due_at_us last_user_id deliveries mentioned mention_room"
        " decided_key",
        "excluded mentioned",
    ),
    _table(
        "webhook_deliveries",
        RowsBy.TENANT,
        "event_key ordinal",
        "event_key ordinal tenant_key room_key user_id attempts next_attempt_at_us last_attempt_at_us error step"
        " mentioned event seq frame",
        "frame",
    ),
)

# Of these tables a copy has nothing.
LEFT_OUT = {
    "departures": "the servers that tenants have moved to from this one",
    "arrivals": "the servers that tenants come from",
    "audit": "the operator's, about all tenants",
    "sqlite_sequence": "of SQLite itself, for the ids of the audit",
    "meta": "facts about the database itself",
    "search_progress": "of the index of search, which each database makes for itself",
    "search_blocks": "the same",
    "search_outdated": "the same",
}
LEFT_OUT_COLUMNS = {
    "tenants.deleted_at_us": "a deleted tenant is not copied",
    "rooms.deleted_at_us": "deleted rooms are not copied",
    "rooms.member_count": "a trigger counts the members as they are inserted",
    "members.folded_id": "is made of the user id",
}


def list_rows(table: TenantTable, schema: str = "main") -> str:
    """SQL: the FROM and WHERE of a tenant's rows in that database, as `x`, without those of deleted rooms."""
    if table is ROOMS:
        return f"FROM {schema}.rooms AS x WHERE x.tenant_key = :tenant_key AND x.deleted_at_us IS NULL"
    if table.scope is RowsBy.ROOM:
        return (
            f"FROM {schema}.rooms AS r CROSS JOIN {schema}.{table.name} AS x ON x.room_key = r.room_key"
            " WHERE r.tenant_key = :tenant_key AND r.deleted_at_us IS NULL"
        )
    where = f"FROM {schema}.{table.name} AS x WHERE x.tenant_key = :tenant_key"
    if ROOM_KEY in table.columns:
        # The event that a room was deleted outlives the room.
        is_kept = "x.room_key IS NULL" + (" OR x.event = 'room.deleted'" if "event" in table.columns else "")
        where += (
            f" AND ({is_kept} OR EXISTS (SELECT 1 FROM {schema}.rooms AS r"
            " WHERE r.room_key = x.room_key AND r.deleted_at_us IS NULL))"
        )
    return where
