"""Streams: messages that are still being written, over both transports."""

from driver import Server


async def test_a_draft_opens_a_stream(server: Server) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob")
    socket = await bob.connect()
    reply = await alice.post(f"/rooms/{room_id}/messages", {"stream": True})
    assert (reply.status, reply.data["content"], reply.data["stream"]) == (201, "", {"state": "open", "index": 0})
    assert await socket.expect("message") == {"type": "message", **reply.data}
