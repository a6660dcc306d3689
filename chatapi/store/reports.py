"""Reports of messages in SQL."""

from collections.abc import Mapping
from typing import NamedTuple

from chatapi.models import RoomKey, TenantKey, UserId, encode_report_id, encode_time
from chatapi.protocol.json import MAX_KEY, encoded
from chatapi.protocol.moderation_answers import Report
from chatapi.protocol.pages import Page, Value, Window
from chatapi.store.readers import Readers
from chatapi.store.transaction import Transaction

_TIME = "strftime('%Y-%m-%dT%H:%M:%S', {0} / 1000000, 'unixepoch') || printf('.%06dZ', {0} % 1000000)"
REPORT_JSON = f"""
    json_object('report_id', printf('report_%016x', p.report_key), 'status',
        iif(p.resolved_at_us IS NULL, 'open', 'resolved'), 'room_id', r.room_id, 'user_id', p.user_id,
        'reason', p.reason, 'message', json(p.message), 'created_at', {_TIME.format("p.created_at_us")},
        'resolved_by', p.resolved_by,
        'resolved_at', iif(p.resolved_at_us IS NULL, NULL, {_TIME.format("p.resolved_at_us")}))
"""
"""SQL of a report `p` of the room `r`, as its record `protocol.moderation_answers.Report`."""

_FIND_REPORT = """
    SELECT report_key FROM reports
    WHERE room_key = :room_key AND target_seq = :target_seq AND user_id = :user_id AND tenant_key = :tenant_key
"""
_INSERT_REPORT = """
    INSERT INTO reports (report_key, tenant_key, room_key, target_seq, user_id, reason, message, created_at_us)
    VALUES (:report_key, :tenant_key, :room_key, :target_seq, :user_id, :reason, :message, :now_us)
"""
# Those of a deleted room are being purged.
_GET_REPORT = """
    SELECT r.room_id, p.user_id, p.reason, p.message, p.created_at_us, p.resolved_by, p.resolved_at_us
    FROM reports AS p CROSS JOIN rooms AS r ON r.room_key = p.room_key
    WHERE p.report_key = :report_key AND p.tenant_key = :tenant_key AND r.deleted_at_us IS NULL
"""
_RESOLVE_REPORT = """
    UPDATE reports SET resolved_by = :user_id, resolved_at_us = :now_us
    WHERE report_key = :report_key AND tenant_key = :tenant_key AND resolved_at_us IS NULL
"""


def _list_where(index: str, is_open: str) -> str:
    return f"""
        SELECT p.report_key, CAST({REPORT_JSON} AS BLOB)
        FROM reports AS p INDEXED BY {index} CROSS JOIN rooms AS r ON r.room_key = p.room_key
        WHERE p.tenant_key = :tenant_key AND p.resolved_at_us {is_open} NULL AND p.report_key < :report_key
          AND r.deleted_at_us IS NULL
        ORDER BY p.report_key DESC LIMIT :limit + 1 OFFSET :offset
    """


_LIST_OPEN = _list_where("reports_open", "IS")
_LIST_RESOLVED = _list_where("reports_resolved", "IS NOT")
REPORTS_START: Mapping[str, Value] = {"report_key": MAX_KEY}


class NewReport(NamedTuple):
    report_key: int
    target_seq: int  # of the message
    user_id: UserId  # the user who reports it
    reason: str
    message: str  # as JSON


async def find_report(
    transaction: Transaction, tenant_key: TenantKey, room_key: RoomKey, target_seq: int, user_id: UserId
) -> int | None:
    """The key of this user's report of this message."""
    scope = {"tenant_key": tenant_key, "room_key": room_key, "target_seq": target_seq, "user_id": user_id}
    row = await transaction.fetch_one(_FIND_REPORT, scope)
    return None if row is None else int(row[0])


async def insert_report(transaction: Transaction, tenant_key: TenantKey, room_key: RoomKey, report: NewReport) -> None:
    scope = {"tenant_key": tenant_key, "room_key": room_key, "now_us": transaction.now_us}
    await transaction.execute(_INSERT_REPORT, {**scope, **report._asdict()})


async def resolve_report(
    transaction: Transaction, tenant_key: TenantKey, report_key: int, user_id: UserId
) -> tuple[Report | None, bool]:
    """The report, None if there is none, and whether this user has resolved it: it may have been before."""
    scope = {"tenant_key": tenant_key, "report_key": report_key}
    is_new = await transaction.execute(_RESOLVE_REPORT, {**scope, "user_id": user_id, "now_us": transaction.now_us}) > 0
    row = await transaction.fetch_one(_GET_REPORT, scope)
    if row is None:
        return None, False
    room_id, reporter_id, reason, message, created_at_us, resolved_by, resolved_at_us = row
    report = Report(
        report_id=encode_report_id(report_key),
        status="resolved",
        room_id=room_id,
        user_id=reporter_id,
        reason=reason,
        message=encoded(message),
        created_at=encode_time(created_at_us),
        resolved_by=resolved_by,
        resolved_at=encode_time(resolved_at_us),
    )
    return report, is_new


async def list_reports(readers: Readers, tenant_key: TenantKey, *, is_open: bool, window: Window) -> Page:
    """The newest first."""
    statement = _LIST_OPEN if is_open else _LIST_RESOLVED
    return await readers.fetch_list(statement, {"tenant_key": tenant_key}, window, REPORTS_START)
