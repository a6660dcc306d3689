"""What goes wrong in one tenant's rows stops no other tenant's webhooks, and ends nothing."""

from typing import Any

import pytest
from conftest import StartServer
from driver import Server, eventually
from hooked import QUICK, hook
from receiver import Receiver, answer

from chatapi.errors import unavailable
from chatapi.store import background
from chatapi.store import webhooks as store_webhooks
from chatapi.store.readers import Readers
from chatapi.webhooks import worker

NO_JSON = "SELECT json('{')"  # an error of the statement alone


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "STORE_PAUSE_SECONDS", 0.05)


async def say_to_bob(server: Server, receiver: Receiver) -> tuple[Any, Any]:
    """Two tenants with a webhook, and a message to each one's bob."""
    hooked = [await hook(server, receiver.url) for _ in range(2)]
    for one in hooked:
        await one.user("alice").say(await one.user("alice").make_room("bob"), one.tenant_id)
    return hooked[0], hooked[1]


def find_tenants(receiver: Receiver) -> set[str]:
    return {call.event["data"]["tenant_id"] for call in receiver.calls}


@pytest.mark.usefixtures("no_pause")
async def test_a_queue_that_cannot_be_read_is_read_later(
    start_server: StartServer, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    list_next, broken = store_webhooks.list_next, [True]
    bad: list[int] = []

    async def read(readers: Readers, tenant_key: Any, *rest: Any) -> Any:
        bad.append(tenant_key)
        if tenant_key == bad[0] and broken:
            await readers.fetch(NO_JSON, {})
        return await list_next(readers, tenant_key, *rest)

    monkeypatch.setattr(store_webhooks, "list_next", read)
    server = await start_server(QUICK)
    first, second = await say_to_bob(server, receiver)
    await receiver.wait_for(1)
    assert find_tenants(receiver) == {second.tenant_id}
    broken.clear()
    await receiver.wait_for(2)
    assert find_tenants(receiver) == {first.tenant_id, second.tenant_id}


@pytest.mark.usefixtures("no_pause")
async def test_a_read_that_was_cut_off_is_made_again(
    start_server: StartServer, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    list_next, refusals = store_webhooks.list_next, [1, 2]

    async def refuse(*args: Any) -> Any:
        if refusals:
            refusals.pop()
            raise unavailable("The read took too long beside the writes")
        return await list_next(*args)

    monkeypatch.setattr(store_webhooks, "list_next", refuse)
    hooked = await hook(await start_server(QUICK), receiver.url)
    await hooked.user("alice").say(await hooked.user("alice").make_room("bob"))
    await receiver.wait_for(1)


async def test_an_event_that_cannot_be_read_is_a_try_that_failed(
    start_server: StartServer, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def read(readers: Readers, _wants: Any) -> Any:
        return await readers.fetch(NO_JSON, {})

    monkeypatch.setattr(store_webhooks, "read_bodies", read)
    hooked = await hook(await start_server(QUICK), receiver.url)
    await hooked.user("alice").say(await hooked.user("alice").make_room("bob"))
    await hooked.is_settled()
    [letter] = (await hooked.dead_letters())["failed_messages"]
    assert (letter["attempts"], letter["error"]) == (3, "the event cannot be read")
    monkeypatch.undo()
    await hooked.server.admin("POST", f"/dead-letters/{letter['id']}/retry")
    await receiver.wait_for(1)


async def test_calls_waiting_for_a_removed_webhook_are_dropped_in_steps(
    start_server: StartServer, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_webhooks, "CHUNK_ROWS", 5)
    monkeypatch.setattr(background, "STEP_SECONDS", 0.0)  # a step ends after its first statement
    monkeypatch.setattr(background, "IDLE_STEP_SECONDS", 0.0)
    steps: list[int] = []
    drop_queue = store_webhooks.drop_queue

    def count(*args: Any) -> tuple[int, bool]:
        dropped, may_have_more = drop_queue(*args)
        steps.append(dropped)
        return dropped, may_have_more

    monkeypatch.setattr(store_webhooks, "drop_queue", count)
    server = await start_server({**QUICK, "webhooks.retry_schedule_seconds": [60, 60]})
    hooked = await hook(server, receiver.url)
    alice = hooked.user("alice")
    room_id = await alice.make_room(*(f"m{number}" for number in range(12)))
    for _ in range(2):
        await alice.say(room_id)
    await hooked.server.admin("PATCH", f"/tenants/{hooked.tenant_id}", {"config": {"webhook_url": None}})
    worker_of_server = hooked.server.services.webhooks
    worker_of_server.wake(hooked.server.services.tenants.get(hooked.tenant_id))
    await hooked.is_settled()
    await eventually(lambda: worker_of_server.dropped == 24)
    assert steps[:5] == [5, 5, 5, 5, 4]
    await hooked.server.admin("PATCH", f"/tenants/{hooked.tenant_id}", {"config": {"webhook_url": receiver.url}})
    receiver.behave = answer(204)
    await alice.say(room_id)
    assert (await hooked.queues())["webhooks"] == 12
