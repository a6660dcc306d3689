"""Messages that are written from a pipe."""

from chatapi.errors import invalid
from chatapi.protocol import answers, queries
from chatapi.protocol import requests as req
from chatapi.rest.call import Call, Response, ok
from chatapi.rest.incoming_text import IncomingText

CLIENT_MESSAGE_ID = "X-Client-Message-Id"
MAX_ID_CHARACTERS = 64


async def pipe_message(call: Call[IncomingText, queries.PipeQuery]) -> Response[answers.Message]:
    """Write a message as its body arrives. The response comes at the end; a message that is cancelled is one, too."""
    pipes, room_id, body = call.services.pipes, call.path["room_id"], call.body
    draft = req.MessageDraft(
        reply_to=call.query.reply_to,
        client_message_id=_read_id(body),
        thread_id=call.query.thread_id,
        stream=True,
    )
    room = await pipes.access_room(call.principal, room_id, draft.client_message_id)
    body.check_length(call.principal.tenant.settings.max_message_bytes)
    auth, token_secret = call.services.auth, call.principal.tenant.token_secret

    async def read() -> bytes:
        data = await body.read()
        auth.check_still_valid(call.principal, token_secret)
        return data

    return ok(await pipes.write(call.principal, room, draft, body.text, read), 201)


async def put_pipe(call: Call[IncomingText, queries.PipeQuery]) -> Response[answers.Message]:
    """The same with the method PUT, which `curl -T` uses."""
    return await pipe_message(call)


def _read_id(body: IncomingText) -> str | None:
    given = body.read_header(CLIENT_MESSAGE_ID)
    if given is None:
        return None
    try:
        given.encode()
    except UnicodeEncodeError:
        raise invalid("Must be UTF-8", CLIENT_MESSAGE_ID) from None
    if not 1 <= len(given) <= MAX_ID_CHARACTERS:
        raise invalid(f"Must be 1 to {MAX_ID_CHARACTERS} characters", CLIENT_MESSAGE_ID)
    return given
