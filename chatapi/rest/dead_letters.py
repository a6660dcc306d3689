"""For the operator: webhook calls that failed for good, and the queues."""

from chatapi.protocol.pages import encode_cursor, read_window
from chatapi.protocol.replies import encode_page, join_json
from chatapi.rest.call import Call, Reply, ok
from chatapi.store.webhooks import DEAD_START


async def list_dead_letters(call: Call) -> Reply:
    """List webhook calls that failed for good, the latest first."""
    scope = ("dead letters", call.query.tenant_id or "")
    window = read_window(call.query, scope, DEAD_START.values())
    messages, notifications = await call.services.dead_letters.list_page(call.query.tenant_id, window)
    lists = b'%s,"failed_notifications":%s,"failed_events":[]' % (
        join_json(messages.items),
        join_json(notifications.items),
    )
    cursor = None if messages.last is None else encode_cursor(messages.last, scope)
    return Reply(200, encode_page(b"failed_messages", lists, cursor is not None, cursor))


async def retry_dead_letter(call: Call) -> Reply:
    """Put a dead letter back into the queue."""
    dead_letter_id = call.path["dead_letter_id"]
    await call.services.dead_letters.retry(dead_letter_id)
    return ok({"id": dead_letter_id}, 202)


async def retry_dead_letters(call: Call) -> Reply:
    """Put all dead letters of a tenant back into the queue."""
    return ok({"retried": await call.services.dead_letters.retry_all(call.body.tenant_id)}, 202)


async def list_stats(call: Call) -> Reply:
    """Count each tenant's rooms, messages, connections and queues, and the queues of all together."""
    tenants, queues = await call.services.dead_letters.list_stats()
    return ok({"tenants": tenants, "queues": {"writes": len(call.services.store.writer), **queues}})
