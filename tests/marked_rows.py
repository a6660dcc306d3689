"""Something in every table of the schema."""

from typing import Any

from driver import Server


async def fill(server: Server, tenant: dict[str, Any]) -> str:
    """Puts something into every table, most of it about the room that is returned; each text of it says `marked`."""
    alice, bob, backend = (server.user(f"marked-{name}", tenant["api_key"]) for name in ("alice", "bob", "backend"))
    await backend.put("/users/marked-gone", {"name": "gone"})
    await backend.delete("/users/marked-gone")
    room_id = await alice.make_room("marked-bob", "marked-carol", name="marked", room_type="channel")
    path = f"/rooms/{room_id}"
    root = (await alice.say(room_id, "marked root"))["message_id"]
    spare = (await bob.say(room_id, "marked spare", thread_id=root))["message_id"]
    await bob.say(room_id, "marked reply", thread_id=root)
    await alice.say(room_id, "marked mention", mention_room=True, mentions=["marked-bob"], meta={"marked": 1})
    for message_id in (root, spare):
        await bob.put(f"{path}/messages/{message_id}/reactions/marked", None)
        await alice.put(f"{path}/pins/{message_id}", None)
        await alice.post(f"{path}/messages/{message_id}/report", {"reason": "marked"})
    opened = (await alice.say(room_id, "marked stream", stream=True))["message_id"]
    principal = server.services.auth.authenticate_key(tenant["api_key"], "marked-alice", "")
    await server.services.appends.append(principal, room_id, opened, 1, "marked append")
    await server.services.indexer.update()
    await alice.put(f"{path}/messages/{root}", {"content": "marked edit"})
    await bob.delete(f"{path}/messages/{spare}")
    await alice.patch(f"{path}/members/marked-carol", {"muted_for": 31_536_000})
    await alice.put(f"{path}/bans/marked-dave", {"reason": "marked"})
    await bob.patch(f"{path}/me", {"hidden": True, "notify": "mentions"})
    await bob.put("/users/marked-bob", {"name": "marked"})
    await bob.put("/blocks/marked-dave", None)
    await backend.put("/users/marked-eve/ban", {"reason": "marked"})
    await bob.post("/subscriptions", {"topic": "marked"})
    await backend.post("/notify", {"topic": "marked", "payload": "marked", "targets": {"room_id": room_id}})
    return room_id
