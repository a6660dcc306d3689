"""A case of sdk_cases.json: users' profiles, blocks and bans."""

import pytest
from client_rig import Rig

from chatapi.client import ApiError
from chatapi.errors import Code


async def test_profiles_blocks_and_bans(rig: Rig) -> None:
    odd = "x,y/z"
    room = await rig.group("alice", "bob", odd)
    alice, bob = await rig.connect("alice"), await rig.connect("bob")
    writer, reader = rig.client("alice"), rig.client("bob")
    made = await writer.put_user("alice", name="Ålice", avatar_url="https://a.example/a.png", metadata={"a": 1})
    for connected in (alice, bob):
        [event] = await connected.until("user.updated")
        assert event["user"] == made
    changed = await rig.backend.put_user("alice", avatar_url=None)
    assert (changed["name"], changed["avatar_url"], changed["metadata"]) == ("Ålice", None, {"a": 1})
    oddly = await rig.backend.put_user(odd, name="Odd")
    assert (await reader.list_users(["nobody", odd, "alice"]))["users"] == [oddly, changed]
    assert await reader.get_user(odd) == oddly
    [member] = (await reader.list_members(room, q="al"))["members"]
    assert (member["user_id"], member["name"]) == ("alice", "Ålice")
    assert [user["user_id"] for user in (await rig.backend.list_users(q="O"))["users"]] == [odd]

    dm = (await writer.create_room("dm", ["bob"]))["room_id"]
    blocked = await reader.block_user("alice")
    assert (await reader.list_blocks())["blocks"] == [blocked]
    for one in (writer, reader):
        with pytest.raises(ApiError) as refusal:
            await one.send_message(dm, "x")
        assert refusal.value.code is Code.AUTHORIZATION_ERROR
    await reader.unblock_user("alice")
    await writer.send_message(dm, "y")

    ban = await rig.backend.ban_user("bob", reason="spam", expires_in_s=1000)
    assert await rig.backend.get_ban("bob") == ban
    with pytest.raises(ApiError) as refusal:
        await reader.list_rooms()
    assert refusal.value.details == {"banned_until": ban["banned_until"]}
    await bob.until("ended")
    assert bob.error is not None
    assert bob.error.details == {"banned_until": ban["banned_until"]}
    await rig.backend.unban_user("bob")
    again = await rig.connect("bob")
    sent = await alice.connection.send(room, "welcome back")
    await again.until("message", message_id=sent["message_id"])
