"""Streams: messages that are still being written."""

from msgspec import UNSET

from chatapi.protocol import answers, stream_answers
from chatapi.protocol import stream_requests as req
from chatapi.rest.call import Call, Response, ok


async def append_to_message(call: Call[req.StreamAppend, None]) -> Response[stream_answers.Appended]:
    """Append to a message that was opened as a stream, once for each index. For its sender."""
    result = await call.services.appends.append(
        call.principal, call.path["room_id"], call.path["message_id"], call.body.index, call.body.text
    )
    return ok(stream_answers.Appended(index=result.index, cancel_requested=True if result.cancel_requested else UNSET))


async def finish_message(call: Call[req.StreamEnding, None]) -> Response[answers.Message]:
    """End a stream. For its sender; the same end again changes nothing."""
    message = await call.services.streams.finish(
        call.principal, call.path["room_id"], call.path["message_id"], call.body
    )
    return ok(message)


async def cancel_message(call: Call[None, None]) -> Response[stream_answers.CancelAccepted]:
    """Ask the sender of a stream to stop. For members who may post; the sender decides."""
    message_id = call.path["message_id"]
    await call.services.streams.cancel(call.principal, call.path["room_id"], message_id)
    return ok(stream_answers.CancelAccepted(message_id=message_id, cancel_requested=True), 202)
