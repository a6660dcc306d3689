"""The answer to an edit or a deletion that a connection asks for which has not caught up: its event is still to come,
and may never come."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from conftest import StartServer
from driver import Gate, Server, Socket, eventually, restart

from chatapi.connection import ConnectionState


class Scene:
    """`bob` has not caught up in a room of alice's when his edit of his own message there is committed."""

    def __init__(self, server: Server, socket: Socket, room_id: str, message_id: str, gate: Gate) -> None:
        self.server = server
        self.alice, self.bob = server.user("alice"), server.user("bob")
        self.socket = socket
        self.room_id = room_id
        self.message_id = message_id
        self.gate = gate

    @property
    def target(self) -> dict[str, str]:
        return {"room_id": self.room_id, "message_id": self.message_id}

    async def wait_for_seq(self, seq: int) -> None:
        [connection] = self.server.connections_of("bob")
        room = self.server.services.rooms.find_loaded(connection.tenant.tenant_key, self.room_id)
        assert room is not None
        await eventually(lambda: room.published_seq >= seq)

    async def catch_up(self) -> list[dict[str, Any]]:
        """What comes until it is live; nothing with a request id comes later."""
        self.gate.open()
        [connection] = self.server.connections_of("bob")
        await eventually(lambda: connection.state is ConnectionState.LIVE)
        await self.socket.send("ping", request_id="now")
        frames = []
        while (frame := await self.socket.next()).get("request_id") != "now":
            frames.append(frame)
        return frames


async def set_the_scene(start_server: StartServer, settings: dict[str, object] | None = None) -> Scene:
    server = await start_server(settings)
    alice = server.user("alice")
    room_id = await alice.make_room("bob", room_type="channel")
    message = await server.user("bob").say(room_id, "first")
    await alice.say(room_id)
    server = await restart(start_server, server, settings)
    gate = Gate(server.services.rooms.fill_ring)
    server.services.rooms.fill_ring = gate  # type: ignore[method-assign]
    socket = await server.user("bob").connect(ready=False)
    await socket.expect("ready")
    await gate.arrived.wait()
    scene = Scene(server, socket, room_id, message["message_id"], gate)
    await socket.send("message.edit", **scene.target, content="edited", request_id="edit")
    await scene.wait_for_seq(3)
    await socket.expect_nothing("message.edited")
    return scene


Act = Callable[[Scene], Awaitable[None]]


async def unsubscribe(scene: Scene) -> None:
    await scene.socket.send("unsubscribe", room_id=scene.room_id, request_id="leave")
    await scene.socket.expect("unsubscribed", request_id="leave")


async def remove(scene: Scene) -> None:
    await scene.alice.delete(f"/rooms/{scene.room_id}/members/bob")


async def leave_over_rest(scene: Scene) -> None:
    await scene.bob.delete(f"/rooms/{scene.room_id}/members/bob")


async def remove_and_unsubscribe(scene: Scene) -> None:
    await remove(scene)
    await unsubscribe(scene)


async def remove_and_add_again(scene: Scene) -> None:
    await remove(scene)
    await scene.alice.post(f"/rooms/{scene.room_id}/members", {"user_id": "bob"})


async def delete_the_room(scene: Scene) -> None:
    assert (await scene.alice.delete(f"/rooms/{scene.room_id}")).status == 204


async def sync_from_further_on(scene: Scene) -> None:
    await scene.alice.say(scene.room_id)
    await scene.socket.send("sync", rooms={scene.room_id: 4}, request_id="sync")
    await eventually(lambda: scene.server.connections_of("bob")[0].sync_requests[-1] == "sync")


async def come_under_the_limit(scene: Scene) -> None:
    for _ in range(3):
        await scene.alice.say(scene.room_id)
    await scene.socket.send("sync", rooms={scene.room_id: 0}, request_id="sync")
    await eventually(lambda: scene.server.connections_of("bob")[0].sync_requests[-1] == "sync")


async def stay(_scene: Scene) -> None:
    return


@pytest.mark.parametrize(
    "act",
    [
        stay,
        unsubscribe,
        remove,
        leave_over_rest,
        remove_and_unsubscribe,
        remove_and_add_again,
        delete_the_room,
        sync_from_further_on,
        come_under_the_limit,
    ],
)
async def test_edit_is_answered_though_its_connection_changes_state_meanwhile(
    start_server: StartServer, act: Act
) -> None:
    settings: dict[str, object] = {"limits.sync_limit": 2} if act is come_under_the_limit else {}
    scene = await set_the_scene(start_server, settings)
    await act(scene)
    frames = await scene.catch_up()
    [answer] = [frame for frame in frames if frame.get("request_id") == "edit"]
    assert (answer["type"], answer["seq"], answer["content"]) == ("message.edited", 3, "edited")
    if act is stay:
        assert [frame["seq"] for frame in frames if "seq" in frame] == [1, 2, 3]


async def test_each_of_several_questions_that_one_event_answers_is_answered(start_server: StartServer) -> None:
    scene = await set_the_scene(start_server)
    for request_id in ("first", "second", "third"):
        await scene.socket.send("message.delete", **scene.target, request_id=request_id)
    await scene.wait_for_seq(4)
    await scene.socket.expect_nothing("message.deleted")
    frames = await scene.catch_up()
    answers = [(frame["request_id"], frame["seq"]) for frame in frames if frame["type"] == "message.deleted"]
    assert answers == [("first", 4), ("second", 4), ("third", 4)]
    assert [frame["seq"] for frame in frames if "seq" in frame] == [1, 2, 3, 4, 4, 4]


async def test_an_event_that_is_gone_is_answered_with_an_error(start_server: StartServer) -> None:
    scene = await set_the_scene(start_server)
    [connection] = scene.server.connections_of("bob")
    [room] = connection.rooms
    await delete_the_room(scene)
    await scene.server.services.store.writer.change(lambda transaction: transaction.execute("DELETE FROM changes", {}))
    room.ring.clear()
    [answer] = [frame for frame in await scene.catch_up() if frame.get("request_id") == "edit"]
    assert (answer["type"], answer["code"]) == ("error", "NOT_FOUND")


async def test_an_edit_that_is_answered_is_not_answered_again_by_a_sync(start_server: StartServer) -> None:
    scene = await set_the_scene(start_server)
    recovery = scene.server.services.recovery
    before_the_end = Gate(recovery._serve_notifications)
    recovery._serve_notifications = before_the_end  # type: ignore[method-assign]
    [connection] = scene.server.connections_of("bob")
    connection.notifications_due = True
    scene.gate.open()
    await scene.socket.expect("message.edited", request_id="edit")
    await before_the_end.arrived.wait()
    await sync_from_further_on(scene)
    before_the_end.open()
    frames = await scene.catch_up()
    assert not [frame for frame in frames if frame["type"] == "message.edited"]


async def test_connection_before_its_first_sync_gets_its_answers(shared_server: Server) -> None:
    """They were kept for the backlog, which may never be asked for."""
    alice = shared_server.user("alice")
    room_id = await alice.make_room()
    message = await alice.say(room_id)
    waiting = await alice.connect(sync="none", ready=False)
    target = {"room_id": room_id, "message_id": message["message_id"]}
    await waiting.send("message.edit", **target, content="edited", request_id="edit")
    await waiting.expect("message.edited", seq=2, request_id="edit")
    await waiting.send("message.delete", **target, request_id="delete")
    await waiting.expect("message.deleted", seq=3, request_id="delete")
    await waiting.expect_nothing("message.deleted")
