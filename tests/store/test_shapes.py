"""A message has one record and, for pages that SQLite builds, one shape in SQL: both make the same bytes."""

import json
from urllib.parse import quote

import msgspec
from conftest import StartServer
from driver import Server, User
from msgspec import UNSET

from chatapi.protocol.answers import Message
from chatapi.protocol.encoders import message_edited_frame, message_frame
from chatapi.protocol.fields import Annotations, MessageFields
from chatapi.protocol.json import encode
from chatapi.room import RoomState
from chatapi.store import log

METAS: tuple[object, ...] = (
    None,
    {"a": 1e22, "b": [1.0, -0.0, 5e-324, True, None]},
    {"ü\u2028\x7f": '\t\b\n"/\\\x1f'},
)


async def fill_room(user: User, room_id: str) -> None:
    """Messages with and without each field, some of them edited or deleted."""
    first = await user.say(room_id, "plain")
    for number, meta in enumerate(METAS):
        fields = {"meta": meta, "reply_to": first["message_id"], "client_message_id": f"ü-{number}"}
        edited = await user.say(room_id, '😀\u2028é\t"\\', **fields)
        await user.put(f"/rooms/{room_id}/messages/{edited['message_id']}", {"content": f"ho {number}"})
        for emoji in ("👍", '"\\', ":ship:")[:number]:
            await user.put(f"/rooms/{room_id}/messages/{edited['message_id']}/reactions/{quote(emoji)}", {})
        if number:
            await user.put(f"/rooms/{room_id}/pins/{edited['message_id']}", {})
        deleted = await user.say(room_id, "soon gone", meta=meta)
        await user.delete(f"/rooms/{room_id}/messages/{deleted['message_id']}")
    await user.say(room_id, "both", mentions=["bob", "alice"], mention_room=True)
    await user.say(room_id, "one", mentions=["bob"])
    await user.say(room_id, "all", mention_room=True)


async def read_records(server: Server, room: RoomState) -> list[Message]:
    """Its messages, each read alone, which takes its columns and no JSON."""
    readers, tenant_key = server.services.store.readers, room.tenant.tenant_key
    [(page, _)] = await log.history_pages(readers, [log.HistoryWant(room.room_key, tenant_key, True, 0, 100)])
    found = [
        await log.find_message(readers, tenant_key, room.room_key, room.room_id, item["message_id"])
        for item in json.loads(bytes(page))
    ]
    return [stored.message for stored in found if stored is not None]


async def test_sql_makes_the_bytes_of_the_record(server: Server, start_server: StartServer) -> None:
    alice = server.user("alice")
    room_id = await alice.make_room("bob")
    await fill_room(alice, room_id)
    room = server.services.rooms.find_loaded(server.services.tenants.all()[0].tenant_key, room_id)
    assert room is not None
    readers, tenant_key = server.services.store.readers, room.tenant.tenant_key
    messages = await read_records(server, room)
    assert len(messages) == 4 + 2 * len(METAS)
    want = log.HistoryWant(room.room_key, tenant_key, True, 0, 100)
    [(page, _)] = await log.history_pages(readers, [want])
    assert bytes(page) == b"[" + b",".join(map(encode, messages)) + b"]"
    by_seq = {message.seq: message for message in messages}
    [events] = await log.read_events(
        readers, [log.EventsWant(room.room_key, tenant_key, 0, room.published_seq)], 1 << 20
    )
    seen = {"message": 0, "message.edited": 0, "message.deleted": 0, "reaction.added": 0, "message.pinned": 0}
    for event in events:
        kind = json.loads(event.json)["type"]
        seen[kind] += 1
        if kind == "message":
            assert event.json == encode(message_frame(by_seq[event.seq]))
        elif kind == "message.edited":
            assert event.json == encode(message_edited_frame(by_seq[event.message_seq], event.seq))
    assert seen == {
        "message": len(messages),
        "message.edited": len(METAS),
        "message.deleted": len(METAS),
        "reaction.added": 3,
        "message.pinned": 2,
    }
    # What is in memory was encoded from records alone.
    assert [frame[-len(event.json) :] for frame, event in zip(room.ring.after(0) or [], events, strict=True)] == [
        event.json for event in events
    ]


PLAIN = (
    "message_id",
    "room_id",
    "seq",
    "sender_id",
    "content",
    "meta",
    "reply_to",
    "client_message_id",
    "created_at",
    "edited_at",
    "deleted_at",
)


def test_a_field_that_not_every_message_has_is_declared_in_both() -> None:
    """It comes after the plain ones, and costs a message that has none of them nothing on the wire."""
    fields = msgspec.structs.fields(MessageFields)
    assert tuple(field.name for field in fields[: len(PLAIN)]) == PLAIN
    assert [field.name for field in fields[len(PLAIN) :]] == list(log.OPTIONAL_FIELDS)
    assert all(field.default is UNSET for field in fields[len(PLAIN) :])
    # What others add stands where a message is read, after all that its events carry.
    added = msgspec.structs.fields(Message)[len(fields) :]
    assert [field.name for field in added] == list(log.ANNOTATIONS) == list(Annotations.__struct_fields__)
    assert all(field.default is UNSET for field in added)


async def test_a_field_that_a_message_does_not_have_is_absent(server: Server) -> None:
    alice = server.user("alice")
    room_id = await alice.make_room("bob")
    metas: list[dict[str, object] | None] = [None, {"a": [1e22, None, {"b": None}], "ü": '"}'}, None, {}]
    for number, meta in enumerate(metas):
        await alice.say(room_id, "}", meta=meta, client_message_id=None if number < 2 else f"ü{number}")
    optional = {"meta": "m.meta", "named": "iif(m.client_message_id IS NULL, NULL, json_quote(m.client_message_id))"}
    whole = log.message_object("'content', m.content", optional=optional)
    framed = log.message_object("'content', m.content", "'seq', m.seq", optional)
    statement = f"""
        SELECT {whole}, json_object('inner', {framed}), {log.optional_object(optional)}
        FROM messages AS m ORDER BY m.seq
    """
    rows = await server.services.store.readers.fetch(statement, {})
    has = [{}, {"meta": metas[1]}, {"named": "ü2"}, {"meta": {}, "named": "ü3"}]
    assert [json.loads(row[0]) for row in rows] == [{"content": "}", **found} for found in has]
    assert [list(json.loads(row[1])["inner"].items()) for row in rows] == [
        [("content", "}"), *found.items(), ("seq", seq)] for seq, found in enumerate(has, start=1)
    ]
    assert [row[2] and json.loads(row[2]) for row in rows] == [found or None for found in has]
    plain = log.message_object("'content', m.content", optional={})
    assert rows[0][0] == (await server.services.store.readers.fetch(f"SELECT {plain} FROM messages AS m", {}))[0][0]
