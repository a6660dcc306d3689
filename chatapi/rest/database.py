"""For the operator: the database itself."""

from chatapi.errors import conflict
from chatapi.protocol import operator_answers, queries
from chatapi.rest.call import OpenCall, Response, ok
from chatapi.store import free_space


async def compact(call: OpenCall[None, queries.CompactQuery]) -> Response[operator_answers.Compacted]:
    """Give free space of the database back, for about a second. Call it again until the stage is `done`."""
    writer = call.services.store.writer
    if call.query.database and call.query.database != writer.files.identity:
        raise conflict("This server has another database")
    before_bytes, now = await free_space.give_back(writer)
    return ok(operator_answers.Compacted(before_bytes=before_bytes, **now._asdict()))
