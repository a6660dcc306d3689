from driver import Server


async def test_two_users_chat_over_rest_and_websocket(server: Server) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob", room_type="dm")
    socket = await bob.connect()
    message = await alice.say(room_id, "hello", client_message_id="m-1")
    frame = await socket.expect("message", content="hello", seq=1)
    assert frame == {"type": "message", **message}
    await socket.send("send_message", room_id=room_id, content="hi", request_id="r-1")
    sent = await socket.expect("message.sent", request_id="r-1", seq=2)
    assert (await socket.next())["message_id"] == sent["message_id"]
    history = (await alice.get(f"/rooms/{room_id}/messages")).data
    assert [found["content"] for found in history["messages"]] == ["hello", "hi"]
    assert history["messages"][0] == message
