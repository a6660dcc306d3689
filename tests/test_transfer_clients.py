"""Clients of a tenant that leaves as a file and comes back: the SDK, its connections, open streams and webhooks."""

import io
from pathlib import Path
from typing import Any

import pytest
from client_rig import make_rig
from conftest import StartServer
from driver import eventually
from hooked import QUICK
from receiver import Receiver, answer

from chatapi.client import AdminAPI, ApiError


async def take_away(admin: AdminAPI, tenant_id: str, path: Path) -> None:
    """The tenant, as a file."""
    with path.open("wb") as file:
        size = await admin.export_tenant(tenant_id, file)
        assert size == file.tell() > 0
    await admin.delete_tenant(tenant_id)


async def bring_back(admin: AdminAPI, path: Path) -> Any:
    with path.open("rb") as file:
        return await admin.import_tenant(file)


@pytest.mark.slow
async def test_clients_webhooks_and_open_streams_go_on(
    start_server: StartServer, receiver: Receiver, tmp_path: Path
) -> None:
    server = await start_server({**QUICK, "webhooks.retry_schedule_seconds": [0] + 49 * [1]})
    receiver.behave = answer(503)
    url, file = server.url, tmp_path / "tenant.db"
    async with AdminAPI(url, server.master_key) as admin, make_rig(url, server.master_key) as rig:
        [tenant_id] = [one["tenant_id"] for one in (await admin.list_tenants())["tenants"] if one["name"] == "sdk"]
        await admin.update_tenant(tenant_id, config={"webhook_url": receiver.url})
        alice, room = rig.client("alice"), await rig.group("alice", "bob", "carol")
        bob = await rig.connect("bob")
        await alice.send_message(room, "before")
        opened = await alice.call("POST", f"/rooms/{room}/messages", body={"content": "", "stream": True})
        one = {"room_id": room, "message_id": opened["message_id"]}
        await alice.append_to_message(*one.values(), 1, "first, ")
        await bob.until("message", content="before")
        cursors = bob.connection.cursors
        await bob.connection.close()
        [call, *_] = await receiver.wait_for(2)  # carol is offline; the next call is a second later

        await take_away(admin, tenant_id, file)
        with pytest.raises(ApiError) as refusal:
            await alice.get_room(room)
        assert refusal.value.status == 401
        before = len(receiver.calls)
        receiver.behave = answer(204)
        assert (await bring_back(admin, file))["tenant_id"] == tenant_id
        await eventually(lambda: call.webhook_id in receiver.ids[before:])
        with pytest.raises(ApiError) as refusal:
            await bring_back(admin, file)
        assert (refusal.value.status, refusal.value.code) == (409, "CONFLICT")

        back = await rig.attach(rig.client("bob"), cursors=cursors)
        [reset] = await back.until("sync.reset")
        assert (reset["rooms"].keys(), reset["epoch"] != cursors["epoch"]) == ({room}, True)
        await alice.append_to_message(*one.values(), 2, "second")
        ended = await alice.finish_message(*one.values(), "done")
        assert (ended["content"], ended["stream"]) == ("first, second", {"state": "done"})
        after = await alice.send_message(room, "after")
        await back.until("message.finished", content="first, second")
        assert [event["seq"] for event in await back.until("message", content="after")] == [after["seq"]]
        acts = [entry["action"] for entry in (await admin.list_audit(tenant_id=tenant_id))["entries"]]
        assert acts[-3:] == ["tenant.export", "tenant.delete", "tenant.import"]


class Faulty(io.BytesIO):
    """A file that fails after a while."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error
        self._pieces = 2

    def read(self, _size: int | None = -1, /) -> bytes:
        self._pieces -= 1
        if self._pieces < 0:
            raise self.error
        return b"x" * 1000

    def write(self, _data: Any, /) -> int:
        raise self.error


@pytest.mark.slow
async def test_an_error_of_a_transfer_is_told(start_server: StartServer, tmp_path: Path) -> None:
    server = await start_server({})
    async with AdminAPI(server.url, server.master_key) as admin:
        tenant_id = (await admin.create_tenant("mover"))["tenant_id"]
        path = tmp_path / "tenant.db"
        path.touch()
        with path.open("rb") as unwritable, pytest.raises(OSError, match="write"):
            await admin.export_tenant(tenant_id, unwritable)
        for tenant, status in (("tenant_none", 404), (tenant_id, 0)):
            with path.open("wb") as file:
                if status:
                    with pytest.raises(ApiError) as refusal:
                        await admin.export_tenant(tenant, file)
                    assert refusal.value.status == status
                else:
                    assert await admin.export_tenant(tenant, file) == file.tell()
        path.write_bytes(path.read_bytes()[:5000])
        with pytest.raises(ApiError, match="cannot be imported"):
            await bring_back(admin, path)
        for bad in (
            Faulty(OSError("the disk has a fault")),
            Faulty(ValueError("closed")),
            Faulty(BrokenPipeError("left")),
        ):
            with pytest.raises(type(bad.error), match=str(bad.error)):
                await admin.import_tenant(bad)
            with pytest.raises(type(bad.error), match=str(bad.error)):
                await admin.export_tenant(tenant_id, bad)
