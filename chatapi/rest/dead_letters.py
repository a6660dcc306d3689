"""For the operator: webhook calls that failed for good, and the queues."""

from chatapi.protocol import operator_answers, queries
from chatapi.protocol import requests as req
from chatapi.protocol.pages import read_window
from chatapi.rest.call import OpenCall, Response, ok
from chatapi.store.webhooks import DEAD_START


async def list_dead_letters(call: OpenCall[None, queries.DeadLettersQuery]) -> Response[operator_answers.DeadLetters]:
    """List webhook calls that failed for good, the latest first."""
    scope = ("dead letters", call.query.tenant_id or "")
    window = read_window(call.query, scope, DEAD_START.values())
    messages, notifications, events = await call.services.dead_letters.list_page(call.query.tenant_id, window)
    return ok(
        operator_answers.DeadLetters(
            failed_messages=messages.join(),
            failed_notifications=notifications.join(),
            failed_events=events.join(),
            has_more=messages.has_more,
            next_cursor=messages.next_cursor(scope),
        )
    )


async def retry_dead_letter(call: OpenCall[None, None]) -> Response[operator_answers.RetriedOne]:
    """Put a dead letter back into the queue."""
    dead_letter_id = call.path["dead_letter_id"]
    await call.services.dead_letters.retry(call.actor, dead_letter_id)
    return ok(operator_answers.RetriedOne(id=dead_letter_id), 202)


async def retry_dead_letters(call: OpenCall[req.RetryDeadLetters, None]) -> Response[operator_answers.RetriedAll]:
    """Put all dead letters of a tenant back into the queue."""
    return ok(
        operator_answers.RetriedAll(
            retried=await call.services.dead_letters.retry_all(call.actor, call.body.tenant_id)
        ),
        202,
    )


async def list_stats(call: OpenCall[None, None]) -> Response[operator_answers.Stats]:
    """Count each tenant's rooms, messages, connections and queues, and the queues of all together."""
    return ok(await call.services.dead_letters.list_stats(call.services.departures.find_state))
