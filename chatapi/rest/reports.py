"""Reports of messages."""

from chatapi.protocol import moderation_answers as answers
from chatapi.protocol.moderation_requests import ReportMessage, ReportsQuery, ReportStatus
from chatapi.protocol.pages import read_window
from chatapi.rest.call import Call, Response, ok
from chatapi.store import reports as store_reports
from chatapi.store.reports import REPORTS_START


async def report_message(call: Call[ReportMessage, None]) -> Response[answers.Reported]:
    """Report a message to the tenant. For all who can read it, once each."""
    path = call.path
    report_id = await call.services.reports.report(call.principal, path["room_id"], path["message_id"], call.body)
    return ok(answers.Reported(report_id=report_id), 202)


async def list_reports(call: Call[None, ReportsQuery]) -> Response[answers.ReportPage]:
    """List the tenant's reports, the newest first."""
    tenant = call.principal.tenant
    scope = ("reports", tenant.tenant_id, call.query.status)
    window = read_window(call.query, scope, REPORTS_START.values())
    is_open = call.query.status is ReportStatus.OPEN
    readers = call.services.store.readers
    page = await store_reports.list_reports(readers, tenant.tenant_key, is_open=is_open, window=window)
    return ok(answers.ReportPage(reports=page.join(), has_more=page.has_more, next_cursor=page.next_cursor(scope)))


async def resolve_report(call: Call[None, None]) -> Response[answers.Report]:
    """Mark a report as resolved. Doing it again changes nothing."""
    return ok(await call.services.reports.resolve(call.principal, call.actor, call.path["report_id"]))
