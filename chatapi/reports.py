"""Reports: users tell the tenant of messages that it should look at. They are in no room's log."""

from chatapi.access import Access, check_may_read
from chatapi.errors import not_found
from chatapi.models import Actor, Principal, WebhookEvent, encode_report_id, find_key
from chatapi.protocol.json import encode
from chatapi.protocol.moderation_answers import Report
from chatapi.protocol.moderation_requests import ReportMessage
from chatapi.store import Store, Transaction, audit, log
from chatapi.store.reports import NewReport, find_report, insert_report, resolve_report
from chatapi.webhooks.queue import WebhookQueue


class Reports:
    """Each operation has been committed when it returns."""

    def __init__(self, store: Store, access: Access, webhook_queue: WebhookQueue) -> None:
        self._store = store
        self._access = access
        self._webhook_queue = webhook_queue

    async def report(self, principal: Principal, room_id: str, message_id: str, body: ReportMessage) -> str:
        """The id of the report, of the first one if the user has reported this message before. Raises ChatError."""
        room = await self._access.access_reader(principal, room_id)
        tenant, user_id = room.tenant, principal.user_id

        async def apply(transaction: Transaction) -> int:
            check_may_read(room, user_id)
            found = await log.find_message(transaction, tenant.tenant_key, room.room_key, room.room_id, message_id)
            if found is None or found.message.deleted_at is not None:
                raise not_found("Message")
            target_seq = found.message.seq
            before = await find_report(transaction, tenant.tenant_key, room.room_key, target_seq, user_id)
            if before is not None:
                return before
            report_key = self._store.writer.next_key()
            report = NewReport(report_key, target_seq, user_id, body.reason, encode(found.message).decode())
            await insert_report(transaction, tenant.tenant_key, room.room_key, report)
            await self._webhook_queue.queue_event(transaction, room, WebhookEvent.MESSAGE_REPORTED, report_key)
            return report_key

        key = await self._store.writer.change(
            apply, lambda _key: self._webhook_queue.wake_worker(), characters=body.count_characters()
        )
        return encode_report_id(key)

    async def resolve(self, principal: Principal, actor: Actor, report_id: str) -> Report:
        """The report, resolved. Resolving it again changes nothing. Raises ChatError NOT_FOUND."""
        report_key = find_key("report_", report_id)
        if report_key is None:
            raise not_found("Report")
        tenant = principal.tenant

        async def apply(transaction: Transaction) -> Report | None:
            report, is_new = await resolve_report(transaction, tenant.tenant_key, report_key, principal.user_id)
            if report is not None and is_new:
                details = {"room_id": report.room_id}
                await audit.record(transaction, actor, "report.resolve", tenant.tenant_id, report_id, details)
            return report

        report = await self._store.writer.change(apply)
        if report is None:
            raise not_found("Report")
        return report
