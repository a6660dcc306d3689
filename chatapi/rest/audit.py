"""For the operator: acts of operators and moderators."""

from chatapi.errors import invalid
from chatapi.models import find_key
from chatapi.protocol import audit_records as records
from chatapi.rest.call import OpenCall, Response, ok
from chatapi.store import audit


async def list_audit(call: OpenCall[None, records.AuditQuery]) -> Response[records.Audit]:
    """List acts of operators and moderators, the oldest first."""
    query = call.query
    after_key = 0 if query.after is None else find_key("audit_", query.after)
    if after_key is None:
        raise invalid("Must be the id of an entry", "after")
    rows, has_more = await audit.list_entries(call.services.store.readers, query.tenant_id, after_key, query.limit)
    return ok(records.Audit(entries=[records.encode_entry(*row) for row in rows], has_more=has_more))
