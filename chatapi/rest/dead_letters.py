"""The operator's look at what webhooks did not take, and at the queues."""

from chatapi.protocol.replies import encode_raw_envelope, join_json
from chatapi.rest.call import Call, Reply, ok


async def list_dead_letters(call: Call) -> Reply:
    """Webhook calls that failed for good, the latest first."""
    query = call.query
    messages, notifications, has_more = await call.services.dead_letters.list_page(
        query.tenant_id, query.limit, query.offset
    )
    fields = b'{"failed_messages":%s,"failed_notifications":%s,"failed_events":[],"has_more":%s}' % (
        join_json(messages),
        join_json(notifications),
        b"true" if has_more else b"false",
    )
    return Reply(200, encode_raw_envelope(fields))


async def retry_dead_letter(call: Call) -> Reply:
    """Put one back into the queue."""
    dead_letter_id = call.path["dead_letter_id"]
    await call.services.dead_letters.retry(dead_letter_id)
    return ok({"id": dead_letter_id}, 202)


async def retry_dead_letters(call: Call) -> Reply:
    """Put all of a tenant's back into the queue."""
    return ok({"retried": await call.services.dead_letters.retry_all(call.body.tenant_id)}, 202)


async def list_stats(call: Call) -> Reply:
    """Each tenant's rooms, messages, connections and queues; and the queues of all."""
    tenants, queues = await call.services.dead_letters.list_stats()
    return ok({"tenants": tenants, "queues": {"writes": len(call.services.store.writer), **queues}})
