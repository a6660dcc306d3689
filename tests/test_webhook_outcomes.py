"""What becomes of the calls for the backends: their outcomes are stored together, and spoil nothing for each other."""

from functools import partial
from typing import Any

import pytest
from conftest import StartServer
from driver import eventually
from hooked import QUICK, hook
from receiver import Receiver, answer

from chatapi.errors import ChatError, held
from chatapi.models import TenantKey
from chatapi.store import moves
from chatapi.store.webhooks import DeliveryKey
from chatapi.webhooks import outcomes, pace


@pytest.mark.slow
async def test_one_held_tenant_holds_up_no_outcomes_of_others(
    start_server: StartServer, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hold begins between the calls and the commit of their outcomes, which are stored together."""
    monkeypatch.setattr(outcomes, "GATHER_SECONDS", 1.0)
    monkeypatch.setattr(outcomes, "HELD_SECONDS", 0.1)
    server = await start_server(QUICK)
    moving, other = [await hook(server, receiver.url, webhook_events=["message.created"]) for _ in range(2)]
    tenant = server.services.tenants.get(moving.tenant_id)
    writer = server.services.store.writer

    def set_hold(refusal: ChatError | None) -> None:
        tenant.hold = refusal

    for hooked in (moving, other):
        alice = hooked.user("alice")
        await alice.say(await alice.make_room(), "hello")
    await eventually(lambda: len(receiver.calls) == 2)
    raise_guard = partial(moves.raise_guard, tenant_key=tenant.tenant_key)
    refusal = held("The tenant is on its way to another server")
    await writer.change(lambda transaction: transaction.run(raise_guard), lambda _: set_hold(refusal), barrier=True)
    await other.is_settled()
    drop_guard = partial(moves.drop_guard, tenant_key=tenant.tenant_key)
    await writer.change(lambda transaction: transaction.run(drop_guard), lambda _: set_hold(None), barrier=True)
    await moving.is_settled()
    assert len(receiver.calls) == 2


async def test_a_fault_in_one_call_holds_up_no_other_one(
    start_server: StartServer, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Of the run that it is in: the others wait again."""
    monkeypatch.setattr(pace, "LEAST", 0)
    monkeypatch.setattr(pace, "MOST", 0)
    server = await start_server({**QUICK, "webhooks.concurrency": 4})  # one run at a time
    hooked = await hook(server, receiver.url, webhook_events=["message.created"])
    alice = hooked.user("alice")
    rooms = [await alice.make_room() for _ in range(3)]
    webhooks = server.services.webhooks
    webhooks._pace._allowed = 0
    make_step, left = webhooks._make_step, ["a fault"]

    async def fail_once(*args: Any) -> outcomes.Step:
        if left:
            raise RuntimeError(left.pop())
        return await make_step(*args)

    monkeypatch.setattr(webhooks, "_make_step", fail_once)
    for room_id in rooms:
        await alice.say(room_id, "hello")
    monkeypatch.setattr(pace, "LEAST", 100)
    monkeypatch.setattr(pace, "MOST", 100)
    webhooks._pace._allowed = 100
    await eventually(lambda: len(receiver.calls) == 2)
    assert [call.event["data"]["room"]["room_id"] for call in receiver.calls] == rooms[1:]
    assert any(record.message == "task failed" for record in caplog.records)
    caplog.clear()


async def test_one_held_tenant_holds_up_no_calls_of_others(
    start_server: StartServer, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an event of which calls are still to be made for users, which the guard refuses."""
    server = await start_server(QUICK)
    moving, other = [await hook(server, receiver.url, webhook_events=["message.created"]) for _ in range(2)]
    tenant = server.services.tenants.get(moving.tenant_id)
    expander = server.services.webhooks._expander
    take_step, refused = expander.take_step, 0

    async def refuse(tenant_key: TenantKey) -> bool:
        nonlocal refused
        if tenant_key != tenant.tenant_key:
            return await take_step(tenant_key)
        refused += 1
        raise held("The tenant is on its way to another server")

    monkeypatch.setattr(expander, "take_step", refuse)
    tenant.hold = held("The tenant is on its way to another server")
    server.services.webhooks.wake(tenant)
    await eventually(lambda: refused > 0)
    alice = other.user("alice")
    await alice.say(await alice.make_room(), "hello")
    await other.is_settled()
    await eventually(lambda: refused > 1)  # it is asked again


async def test_outcomes_of_a_tenant_that_is_gone_touch_no_row(start_server: StartServer, receiver: Receiver) -> None:
    """It may be back from another server already, with calls of the same keys."""
    server = await start_server(QUICK)
    receiver.behave = answer(503)
    hooked = await hook(server, receiver.url, webhook_events=["message.created"])
    alice = hooked.user("alice")
    await alice.say(await alice.make_room(), "hello")
    tenant, store = server.services.tenants.get(hooked.tenant_id), server.services.store
    list_keys = "SELECT event_key, ordinal FROM webhook_deliveries WHERE tenant_key = :tenant_key"
    [row] = await store.readers.fetch(list_keys, {"tenant_key": tenant.tenant_key})
    tenant.gone = True
    await server.services.webhooks._record([outcomes.Step(tenant, DeliveryKey(*row), None)])
    assert len(await store.readers.fetch(list_keys, {"tenant_key": tenant.tenant_key})) == 1
