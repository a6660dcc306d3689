"""When tries of webhooks are due: whatever the clock does, whatever the endpoint asks for, and while the user is
connected."""

from datetime import UTC, datetime
from typing import Any

import pytest
from conftest import StartServer
from driver import HandClock, Server, eventually
from hooked import Hooked
from receiver import Receiver, answer, in_turn
from standardwebhooks import Webhook

from chatapi.tenants import MAX_REPLACED_WEBHOOK_SECRETS

DAY_SECONDS = 86_400.0
SETTINGS = {"webhooks.allow_private_addresses": True, "webhooks.retry_schedule_seconds": [0, 5, 30]}


class Timed(Hooked):
    """A tenant with a webhook, on a server whose clock stands still."""

    def __init__(self, server: Server, made: dict[str, Any], clock: HandClock, receiver: Receiver) -> None:
        super().__init__(server, made)
        self.clock = clock
        self.receiver = receiver

    @property
    def worker(self) -> Any:
        return self.server.services.webhooks

    async def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.worker._wake.set()

    async def fail_once(self) -> str:
        """A message to bob whose first call was not taken; its room."""
        failed = self.worker.failed
        room_id = await self.user("alice").make_room("bob")
        await self.user("alice").say(room_id)
        await eventually(lambda: self.worker.failed == failed + 1 and not self.worker.running)
        return room_id

    async def has_looked(self) -> None:
        """Returns once the worker has taken all that is due: a message to somebody else is called for after it."""
        before, behave = len(self.receiver.calls), self.receiver.behave
        self.receiver.behave = answer(204)
        alice = self.user("alice")
        await alice.say(await alice.make_room("witness"))
        calls = await self.receiver.wait_for(before + 1)
        assert [call.user_id for call in calls[before:]] == ["witness"]
        del calls[before:]
        self.receiver.behave = behave
        await eventually(lambda: not self.worker.running)


async def start(start_server: StartServer, receiver: Receiver, **settings: object) -> Timed:
    clock = HandClock()
    server = await start_server({**SETTINGS, **settings}, clock=clock)
    made = await server.make_tenant("hooked", webhook_url=receiver.url)
    return Timed(server, made, clock, receiver)


@pytest.mark.parametrize("step_seconds", [-3600, 3600, -DAY_SECONDS, 400 * DAY_SECONDS])
async def test_a_clock_that_is_set_makes_a_retry_neither_late_nor_early(
    start_server: StartServer, receiver: Receiver, step_seconds: float
) -> None:
    receiver.behave = answer(500)
    timed = await start(start_server, receiver)
    await timed.fail_once()
    timed.clock.set_forward(step_seconds)
    timed.worker._wake.set()
    await timed.has_looked()
    assert len(receiver.calls) == 1
    await timed.pass_time(5.6)  # the schedule's 5 and its jitter
    await receiver.wait_for(2)
    assert receiver.calls[0].webhook_id == receiver.calls[1].webhook_id
    await eventually(lambda: not timed.worker.running)
    await timed.fail_once()  # what comes after the step is called for at once, as ever


async def test_a_clock_that_was_set_back_between_two_runs_puts_no_retry_off(
    start_server: StartServer, receiver: Receiver
) -> None:
    receiver.behave = answer(500)
    timed = await start(start_server, receiver)
    timed.clock.set_forward(3600)  # wrong when the message came
    await timed.fail_once()
    await timed.server.app.close()
    timed.clock.set_forward(-3600)
    timed.server = await start_server(SETTINGS, clock=timed.clock)
    await timed.pass_time(5.6)
    await receiver.wait_for(2)


async def test_all_dead_letters_are_retried_though_the_clock_was_set_back(
    start_server: StartServer, receiver: Receiver
) -> None:
    receiver.behave = in_turn(answer(410), answer(204))
    timed = await start(start_server, receiver)
    await timed.fail_once()
    timed.clock.set_forward(-3600)
    reply = await timed.server.admin("POST", "/dead-letters/retry", {"tenant_id": timed.tenant_id})
    assert reply.data == {"retried": 1}
    await receiver.wait_for(2)


async def test_a_try_waits_for_the_next_one_while_the_user_is_connected(
    start_server: StartServer, receiver: Receiver
) -> None:
    receiver.behave = answer(500)
    timed = await start(start_server, receiver)
    await timed.fail_once()
    bob = await timed.user("bob").connect()
    await timed.pass_time(5.6)
    await eventually(lambda: timed.worker.delayed == 1)
    assert len(receiver.calls) == 1
    await timed.pass_time(33)  # the last one is made all the same
    await receiver.wait_for(2)
    await eventually(lambda: timed.worker.dead == 1 and not timed.worker.running)
    [letter] = (await timed.dead_letters())["failed_messages"]
    assert letter["attempts"] == 2  # what was put off is no attempt
    await bob.close()
    # And a retry by hand has the whole schedule before it.
    await timed.server.admin("POST", f"/dead-letters/{letter['id']}/retry")
    for calls, seconds in ((3, 5.6), (4, 33), (5, 0)):
        await receiver.wait_for(calls)
        await eventually(lambda: not timed.worker.running)
        await timed.pass_time(seconds)
    [letter] = (await timed.dead_letters())["failed_messages"]
    assert letter["attempts"] == 3


async def test_a_user_who_leaves_again_without_an_ack_gets_the_next_try(
    start_server: StartServer, receiver: Receiver
) -> None:
    receiver.behave = answer(500)
    timed = await start(start_server, receiver)
    await timed.fail_once()
    bob = await timed.user("bob").connect()
    await timed.pass_time(5.6)
    await eventually(lambda: timed.worker.delayed == 1)
    await bob.close()
    await eventually(lambda: not timed.server.connections_of("bob"))
    receiver.behave = answer(204)
    await timed.pass_time(33)
    await receiver.wait_for(2)
    await eventually(lambda: timed.worker.delivered == 1)


async def test_call_is_not_made_after_an_ack_while_it_waits(start_server: StartServer, receiver: Receiver) -> None:
    receiver.behave = answer(500)
    timed = await start(start_server, receiver)
    room_id = await timed.fail_once()
    bob = await timed.user("bob").connect()
    await timed.pass_time(5.6)
    await eventually(lambda: timed.worker.delayed == 1)
    await bob.send("ack", room_id=room_id, seq=1)
    await bob.expect("ack.received")
    await timed.pass_time(33)
    await eventually(lambda: timed.worker.dropped == 1 and not timed.worker.running)
    assert len(receiver.calls) == 1
    assert await timed.queues() == {"notifications": 0, "webhooks": 0, "dead_letters": 0}


@pytest.mark.parametrize(
    "asked",
    [
        "9" * 4000,
        "Fri, 31 Dec 9999 23:59:59 -9999",
        "Fri, 31 Dec 9999 23:59:59 -0000",
        "Mon, 01 Jan 0001 00:00:00 +2359",
        "Mon, 01 Jan 0001 00:00:00 -0000",
        "Mon, 01 Jan 2030 00:00:00 +99999999999999999999",
        "Mon, 01 Jan 99999999999999999999 00:00:00 GMT",
        "Sat, 99 Foo 20252 99:99:99 GMT",
    ],
)
async def test_any_retry_after_ends_as_a_dead_letter(start_server: StartServer, receiver: Receiver, asked: str) -> None:
    receiver.behave = answer(503, Retry_After=asked)
    timed = await start(start_server, receiver)
    await timed.fail_once()
    for calls in (2, 3):
        await timed.pass_time(DAY_SECONDS + 1)
        await receiver.wait_for(calls)
        await eventually(lambda: not timed.worker.running)
    [letter] = (await timed.dead_letters())["failed_messages"]
    assert (letter["attempts"], letter["error"]) == (3, "HTTP 503")


# Secrets


async def rotate(timed: Timed) -> str:
    reply = await timed.server.admin("POST", f"/tenants/{timed.tenant_id}/webhook-secret", {})
    return str(reply.data["webhook_secret"])


async def call_secrets(timed: Timed, secrets: list[str]) -> list[str]:
    """Which of the secrets have signed a call."""
    before = len(timed.receiver.calls)
    alice = timed.user("alice")
    await alice.say(await alice.make_room("bob"))
    call = (await timed.receiver.wait_for(before + 1))[before]
    signatures = call.headers["webhook-signature"].split(" ")
    signing = []
    for secret in secrets:
        sent_at = datetime.fromtimestamp(int(call.headers["webhook-timestamp"]), UTC)
        if Webhook(secret).sign(call.webhook_id, sent_at, call.body.decode()) in signatures:
            signing.append(secret)
    assert len(signatures) == len(signing)
    return signing


async def test_each_replaced_secret_signs_along_for_a_day(start_server: StartServer, receiver: Receiver) -> None:
    timed = await start(start_server, receiver)
    first = timed.secret
    second = await rotate(timed)
    timed.clock.advance(3600)
    third = await rotate(timed)
    secrets = [third, second, first]
    assert await call_secrets(timed, secrets) == secrets
    await timed.server.app.close()
    timed.server = await start_server(SETTINGS, clock=timed.clock)
    assert await call_secrets(timed, secrets) == secrets
    timed.clock.advance(DAY_SECONDS - 3600)
    assert await call_secrets(timed, secrets) == [third, second]
    timed.clock.advance(3600)
    assert await call_secrets(timed, secrets) == [third]


async def test_no_more_secrets_sign_along_than_a_header_holds(start_server: StartServer, receiver: Receiver) -> None:
    timed = await start(start_server, receiver)
    for _ in range(MAX_REPLACED_WEBHOOK_SECRETS):
        await rotate(timed)
    reply = await timed.server.admin("POST", f"/tenants/{timed.tenant_id}/webhook-secret", {})
    assert (reply.status, reply.error["code"]) == (409, "CONFLICT")
    timed.clock.advance(DAY_SECONDS)
    assert await rotate(timed)
