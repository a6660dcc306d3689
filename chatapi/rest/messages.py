"""Messages, the room's log, and its members' acks and reads."""

from msgspec import UNSET

from chatapi.protocol import answers, queries
from chatapi.protocol import requests as req
from chatapi.protocol.encoders import error_body, join_json
from chatapi.protocol.pages import read_window
from chatapi.receipts import ACK, READ
from chatapi.rest.call import NO_CONTENT, Call, Response, ok
from chatapi.store import log
from chatapi.store import rooms as store_rooms
from chatapi.store.readers import PAGE_BYTES
from chatapi.store.rooms import MEMBERS_START


async def send_message(call: Call[req.MessageDraft, None]) -> Response[answers.Message]:
    """Send a message. For a known client_message_id the answer is that message, as it now stands."""
    message, is_new = await call.services.chat.send_and_wait(call.principal, call.path["room_id"], call.body)
    return ok(message, 201 if is_new else 200)


async def list_messages(call: Call[None, queries.HistoryQuery]) -> Response[answers.History]:
    """List a room's messages, ascending by seq; without a bound the newest page."""
    messages, has_more = await call.services.chat.list_messages(call.principal, call.path["room_id"], call.query)
    return ok(answers.History(messages=messages, has_more=has_more))


async def get_message(call: Call[None, None]) -> Response[answers.Message]:
    """Get a message."""
    message = await call.services.chat.get_message(call.principal, call.path["room_id"], call.path["message_id"])
    return ok(message)


async def edit_message(call: Call[req.MessageEdit, None]) -> Response[answers.Message]:
    """Edit a message. For its sender."""
    message = await call.services.chat.edit_message(
        call.principal, call.path["room_id"], call.path["message_id"], call.body
    )
    return ok(message)


async def delete_message(call: Call[None, None]) -> Response[None]:
    """Delete a message. For its sender and the room's admins; a tombstone stays."""
    await call.services.chat.delete_message(call.principal, call.actor, call.path["room_id"], call.path["message_id"])
    return NO_CONTENT


async def list_events(call: Call[None, queries.EventsQuery]) -> Response[answers.Events]:
    """List the events of a room's log: messages, edits, deletions, reactions, pins, changes of members and the room."""
    room = await call.services.access.access_reader(call.principal, call.path["room_id"])
    # The log is gap-free from pruned_seq on, so a page is a range of seq.
    after_seq = max(call.query.after_seq, room.pruned_seq)
    to_seq = min(after_seq + call.query.limit, room.published_seq)
    want = log.EventsWant(room.room_key, room.tenant.tenant_key, after_seq, to_seq)
    [events] = await log.read_events(call.services.store.readers, [want], PAGE_BYTES)
    page = join_json(event.json for event in events)
    last_seq = events[-1].seq if events else to_seq
    return ok(answers.Events(events=page, has_more=last_seq < room.published_seq))


async def read_up_to(call: Call[req.ReadUpTo, None]) -> Response[answers.Standing]:
    """Mark everything up to seq as read, which also acknowledges it."""
    room_id = call.path["room_id"]
    seq = await call.services.receipts.acknowledge_and_wait(call.principal, room_id, call.body.seq, READ)
    return ok(answers.Standing(room_id=room_id, seq=seq))


async def ack_up_to(call: Call[req.AckUpTo, None]) -> Response[answers.Acknowledged]:
    """Acknowledge everything up to seq, in one room or in many."""
    receipts, body = call.services.receipts, call.body
    if body.rooms is UNSET:
        room_id, seq = body.room_and_seq
        seq = await receipts.acknowledge_and_wait(call.principal, room_id, seq, ACK)
        return ok(answers.Acknowledged(room_id=room_id, seq=seq))
    seqs, errors = await receipts.acknowledge_rooms_and_wait(call.principal, body.rooms)
    refusals = {room_id: error_body(error) for room_id, error in errors.items()}
    return ok(answers.Acknowledged(rooms=seqs, errors=refusals))


async def list_receipts(call: Call[None, queries.PageQuery]) -> Response[answers.ReceiptPage]:
    """List how far each member has acknowledged and read."""
    room = await call.services.access.access_member(call.principal, call.path["room_id"])
    scope = ("receipts", room.tenant.tenant_id, room.room_id)
    window = read_window(call.query, scope, MEMBERS_START.values())
    readers = call.services.store.readers
    page = await store_rooms.list_receipts(readers, room.tenant.tenant_key, room.room_key, window)
    return ok(answers.ReceiptPage(receipts=page.join(), has_more=page.has_more, next_cursor=page.next_cursor(scope)))
