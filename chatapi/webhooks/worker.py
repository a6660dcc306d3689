"""The worker that calls tenants' webhooks: one task that starts calls, and a task for each call under way.

The calls that wait are in the store; only those under way are in memory, so that a crash loses nothing and repeats at
most those. Each tenant has a queue of its own, and the queues take turns.
"""

import asyncio
import contextlib
import logging
import secrets
from collections import Counter, OrderedDict, deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from chatapi.banned_users import is_banned
from chatapi.batching import Batcher
from chatapi.clock import Clock, SteadyClock
from chatapi.config import WebhooksConfig
from chatapi.errors import ChatError
from chatapi.hub import Hub
from chatapi.models import TenantKey, TenantState
from chatapi.store import Store, Transaction, backend_events, meta, webhooks
from chatapi.store.transaction import SqliteConnection
from chatapi.store.webhooks import Delay, DeliveryKey, Failure, WaitingDelivery, encode_delivery_id
from chatapi.tasks import Tasks
from chatapi.webhooks.client import CallResult, WebhookClient
from chatapi.webhooks.expansion import Expander
from chatapi.webhooks.outcomes import Outcomes, Step
from chatapi.webhooks.pace import Pace
from chatapi.webhooks.signing import list_secrets, sign
from chatapi.webhooks.tenant_queues import MOST_KNOWN, NEVER_US, CallKind, EventQueue, TenantQueue
from chatapi.webhooks.waiting_events import WaitingEvents

T = TypeVar("T")

logger = logging.getLogger(__name__)

TENANT_SHARE = 4  # a tenant has at most 1/4 of the calls under way of each kind
RUN_CALLS = 8  # events that are read together and told one after the other
RUN_SECONDS = 0.1  # after which those of them that are still to be told wait with the others again
MOST_KNOWN_OF_ALL = 50_000  # events of all tenants in memory, some 12 MB
READ_AHEAD = 100  # deliveries of a tenant that are read at a time, in one look-up by index
RECORD_BATCH = 64
BODY_BATCH = 32
MESSAGE_CALL = b'{"type":"message.offline"'  # the beginning of such a body
JITTER = 0.1  # of each wait, added at random, so that what failed together does not return together
CLOSE_SECONDS = 2.0  # for calls under way when the server stops; a call that is cut off is repeated at the next start
STORE_PAUSE_SECONDS = 1.0  # before the store is asked again after it has refused
MAX_SLEEP_SECONDS = 86_400.0

UNAVAILABLE = 503
GONE = 410


class WebhookWorker:
    """`run` is its one long-lived task. The counts are since the start.

    When something is due is counted by the steady clock; the wall's is for what others see.
    """

    def __init__(
        self, *, store: Store, hub: Hub, tasks: Tasks, clock: Clock, steady: SteadyClock, config: WebhooksConfig
    ) -> None:
        self._store = store
        self._hub = hub
        self._tasks = tasks
        self._clock = clock
        self._steady = steady
        self._config = config
        self._per_tenant = max(1, config.concurrency // TENANT_SHARE)
        self._expander = Expander(store)
        self._queues: OrderedDict[tuple[TenantKey, CallKind], TenantQueue] = OrderedDict()
        """The longest not served first."""
        self._calls: set[asyncio.Task[None]] = set()
        self._running: Counter[CallKind] = Counter()
        self._failing_running: Counter[CallKind] = Counter()
        self._waiting = WaitingEvents(store, tasks, clock)
        self._pace = Pace(lambda: len(store.writer))
        self._is_held_back = False  # calls wait for the next period of the pace
        self._outcomes = Outcomes(tasks, lambda some: self._until_stored(lambda: self._record(some)), self._note_stored)
        self._wake = asyncio.Event()
        self._closing = False
        self._client: WebhookClient | None = None
        self._steps: Batcher[Step, bool] = Batcher(self._record, RECORD_BATCH, lambda _step: None)
        self._bodies: Batcher[tuple[TenantKey, DeliveryKey], bytes | None] = Batcher(
            lambda wants: webhooks.read_bodies(store.readers, wants), BODY_BATCH, lambda want: want[0]
        )
        self.delivered = 0
        self.failed = 0
        self.delayed = 0
        self.dropped = 0
        self.exhausted = 0

    @property
    def given_up(self) -> int:
        """Events, when too many were waiting."""
        return self._waiting.given_up

    @property
    def dead(self) -> int:
        """Calls that became dead letters."""
        return self.exhausted + self.given_up

    @property
    def running(self) -> int:
        """Calls under way."""
        return self._running.total()

    def wake(self, tenant: TenantState, kind: CallKind = CallKind.USERS, events: int = 0) -> None:
        """There is something for this tenant's webhook in the store; so many events are new."""
        queue = self._queues.get((tenant.tenant_key, kind))
        if queue is None:
            queue = TenantQueue(tenant) if kind is CallKind.USERS else EventQueue(tenant)
            self._queues[tenant.tenant_key, kind] = queue
        queue.look_at_us = 0
        queue.may_have_events = True
        if queue.wants_more:
            self._wake.set()
        if events:
            self._waiting.add(tenant, events)

    async def take_up(self, tenant: TenantState) -> None:
        """Calls are in the store that this worker has not seen come: from before, or back from the dead letters."""
        for kind in CallKind:
            self.wake(tenant, kind)
        queue = self._queues[tenant.tenant_key, CallKind.BACKEND]
        assert isinstance(queue, EventQueue)
        queue.start_over()
        await self._waiting.count(tenant)

    async def resume(self, tenants: Iterable[TenantState]) -> None:
        """Wakes the tenants that have calls in the store from before. Called once, at the start."""
        by_key = {tenant.tenant_key: tenant for tenant in tenants}
        for tenant_key in await webhooks.list_tenants_with_work(self._store.readers, list(by_key)):
            await self.take_up(by_key[tenant_key])

    async def run(self) -> None:
        """Runs until `close`, or until it is cancelled."""
        self._client = WebhookClient(
            timeout_seconds=self._config.timeout_seconds, allow_private=self._config.allow_private_addresses
        )
        try:
            while not self._closing:
                self._wake.clear()
                try:
                    await self._serve()
                except ChatError:  # the store refuses writes: it says so in the log itself
                    await asyncio.sleep(STORE_PAUSE_SECONDS)
                await self._sleep()
            await self._finish_calls()
        finally:
            await self._client.close()

    def close(self) -> None:
        """No more calls are started; `run` returns soon. The other calls wait in the store."""
        self._closing = True
        self._wake.set()

    async def _finish_calls(self) -> None:
        if self._calls:
            _done, late = await asyncio.wait(self._calls, timeout=CLOSE_SECONDS)
            for call in late:
                call.cancel()
        await self._outcomes.finish(CLOSE_SECONDS)

    # Taking turns

    async def _serve(self) -> None:
        now_us = self._steady.now_us()
        for queue in list(self._queues.values()):
            if queue.wants_more and queue.look_at_us <= now_us:
                try:
                    await (self._look_for_events(queue) if isinstance(queue, EventQueue) else self._look(queue))
                except ChatError as error:  # `_look` had set both before the store failed
                    queue.may_have_events = True
                    queue.look_at_us = now_us + int(STORE_PAUSE_SECONDS * 1_000_000)
                    if error.status == UNAVAILABLE and queue.tenant.hold is None:
                        raise  # for every tenant; else this one is held for a move, or its rows cannot be read
            if queue.is_over:
                del self._queues[queue.tenant.tenant_key, queue.kind]
        self._start_calls()

    async def _look(self, queue: TenantQueue) -> None:
        """Reads what is due next, and makes more of it from events only when there is nothing else: an endpoint that
        takes nothing does not fill the disk with deliveries."""
        tenant = queue.tenant
        if tenant.settings.webhook_url is None:
            queue.look_at_us = NEVER_US
            queue.may_have_events = False
            if not queue.is_dropping:
                queue.is_dropping = True
                self._tasks.spawn(f"dropped webhooks of {tenant.tenant_id}", self._drop_queue(queue))
            return
        # Set first: a delivery stored during the read sets it again.
        queue.look_at_us = NEVER_US
        rows = await webhooks.list_next(self._store.readers, tenant.tenant_key, list(queue.under_way), READ_AHEAD)
        now_us = self._steady.now_us()
        due = [row for row in rows if row.next_attempt_at_us <= now_us]
        queue.ready.extend(due)
        if len(due) < len(rows):
            queue.look_at_us = min(queue.look_at_us, rows[len(due)].next_attempt_at_us)
        if len(due) == READ_AHEAD or (due and queue.may_have_events):
            queue.look_at_us = 0  # once these are on their way
        elif queue.may_have_events:
            await self._expand(queue)

    async def _look_for_events(self, queue: EventQueue) -> None:
        """Reads on where it ended, and what is due again after a failure."""
        tenant_key = queue.tenant.tenant_key
        queue.may_have_events = False  # set first, as above
        queue.look_at_us = NEVER_US
        if queue.tenant.settings.webhook_url is None:
            queue.forget_waiting()
            self.wake(queue.tenant, CallKind.USERS)  # which drops them all
            return
        if queue.retry_at_us <= self._steady.now_us():
            queue.retry_at_us = NEVER_US
            retries = await backend_events.list_retries(self._store.readers, tenant_key, READ_AHEAD + len(queue.known))
            now_us = self._steady.now_us()
            queue.add([event for event in retries if event.next_attempt_at_us <= now_us])
            queue.retry_at_us = min(
                (event.next_attempt_at_us for event in retries if event.next_attempt_at_us > now_us),
                default=queue.retry_at_us,
            )
        queue.look_at_us = min(queue.look_at_us, queue.retry_at_us)
        limit = max(READ_AHEAD, min(MOST_KNOWN, MOST_KNOWN_OF_ALL // len(self._queues)))
        events = await backend_events.list_events(self._store.readers, tenant_key, queue.after_key, limit)
        now_us = self._steady.now_us()
        due = [event for event in events if event.next_attempt_at_us <= now_us]
        if len(due) < len(events):
            # Those after one that is not due yet wait with it, so that they keep their order.
            first = next(index for index, event in enumerate(events) if event.next_attempt_at_us > now_us)
            queue.look_at_us = min(queue.look_at_us, events[first].next_attempt_at_us)
            due = due[:first]
        elif len(events) == limit:
            queue.look_at_us = 0  # once there is room for them
        if due:
            queue.after_key = due[-1].event_key
        queue.add(due)

    async def _expand(self, queue: TenantQueue) -> None:
        queue.may_have_events = False  # as above
        if await self._expander.take_step(queue.tenant.tenant_key):
            queue.may_have_events = True
            queue.look_at_us = 0

    async def _drop_queue(self, queue: TenantQueue) -> None:
        """The tenant has no webhook any more: its queue is dropped bit by bit, while the others have their turns. A
        step that the store refuses is tried again."""
        tenant, may_have_more = queue.tenant, True
        self._expander.forget(tenant.tenant_key)

        def work(connection: SqliteConnection, is_over: Callable[[], bool]) -> tuple[int, bool]:
            # Inside the writer's transaction: calls queued since the tenant has a webhook again are not dropped.
            if tenant.settings.webhook_url is not None:
                return 0, True
            return webhooks.drop_queue(tenant.tenant_key, connection, is_over)

        try:
            while may_have_more and tenant.settings.webhook_url is None:
                try:
                    dropped, may_have_more = await self._store.writer.step(work)
                except ChatError:
                    await asyncio.sleep(STORE_PAUSE_SECONDS)
                else:
                    self.dropped += dropped
        finally:
            queue.is_dropping = False
            queue.may_have_events = may_have_more
            queue.look_at_us = 0 if may_have_more else NEVER_US
            self._wake.set()

    def _start_calls(self) -> None:
        """As many as may be under way, one for each queue in turn."""
        started, self._is_held_back = True, False
        while started:
            started = False
            for name, queue in list(self._queues.items()):
                if queue.has_ready and self._may_start(queue) and self._start(queue):
                    self._queues.move_to_end(name)
                    started = True

    def _may_start(self, queue: TenantQueue) -> bool:
        """Endpoints that give no answer are called one at a time, and share half of all calls: however many hang, the
        others go on."""
        concurrency = self._config.concurrency
        if self._running[queue.kind] >= concurrency:
            return False
        if queue.is_failing:
            return not queue.running and self._failing_running[queue.kind] < max(1, concurrency // 2)
        return queue.running < self._per_tenant

    def _start(self, queue: TenantQueue) -> bool:
        """False if its calls have to wait for the next period of the pace."""
        was_failing = queue.is_failing
        if isinstance(queue, EventQueue):
            calls = self._take_run(queue)
            if not calls:
                self._is_held_back = True
                return False
            name, work = encode_delivery_id(calls[0].key), self._tell(queue, calls, was_failing)
        else:
            delivery = queue.take()
            name, work = encode_delivery_id(delivery.key), self._try(queue, delivery, was_failing)
        queue.running += 1
        self._running[queue.kind] += 1
        self._failing_running[queue.kind] += was_failing
        call = self._tasks.spawn(f"webhook {name}", work)
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)
        return True

    def _take_run(self, queue: EventQueue) -> deque[WaitingDelivery]:
        most = 1 if queue.is_failing else RUN_CALLS
        # Better to slow down those who send than to give up what they have sent.
        if not self._waiting.is_near_bound(queue.tenant):
            most = min(most, self._pace.left)
        calls = queue.take_run(most, self._per_tenant - queue.running) if most else deque()
        self._pace.take(len(calls))
        return calls

    async def _sleep(self) -> None:
        """Until something happens, or the next delivery is due."""
        looks = [queue.look_at_us for queue in self._queues.values() if queue.wants_more]
        wait_s = (min(looks, default=NEVER_US) - self._steady.now_us()) / 1_000_000
        if self._is_held_back:
            wait_s = min(wait_s, self._pace.wait_s)
        if wait_s <= 0:
            await asyncio.sleep(0)
            return
        try:
            async with self._clock.timeout(min(wait_s, MAX_SLEEP_SECONDS)):
                await self._wake.wait()
        except TimeoutError:
            return

    # Calls

    async def _tell(self, queue: EventQueue, calls: deque[WaitingDelivery], was_failing: bool) -> None:
        """Tells the backend of these events, one after the other. Those that are left after a while wait again, so
        that a call that takes long does not hold them up, and they are not shown as they were."""

        def give_back() -> None:
            queue.give_back(calls)
            self._wake.set()

        with contextlib.ExitStack() as slot:
            slot.callback(self._free, queue, was_failing)
            slot.callback(give_back)
            bodies = await self._read_all(queue, calls)
            slot.callback(asyncio.get_running_loop().call_later(RUN_SECONDS, give_back).cancel)
            while calls and not self._closing:
                delivery = calls.popleft()
                try:
                    step = await self._make_step(queue, delivery, bodies[delivery.key])
                    # The server that takes over may make it once more. The next one of its chain waits too.
                    if await self._wait_out_hold(queue.tenant) or queue.is_failing:
                        give_back()
                finally:
                    queue.answered(delivery)
                self._outcomes.note(queue, step)

    async def _read_all(
        self, queue: EventQueue, calls: Iterable[WaitingDelivery]
    ) -> Mapping[DeliveryKey, bytes | ChatError | None]:
        """Their bodies. One that cannot be read spoils no other one."""
        keys = [(queue.tenant.tenant_key, delivery.key) for delivery in calls]
        try:
            return dict(zip((key for _, key in keys), await self._bodies.get_many(keys), strict=True))
        except ChatError:
            return {key: await self._read_body(tenant_key, key) for tenant_key, key in keys}

    async def _try(self, queue: TenantQueue, delivery: WaitingDelivery, was_failing: bool) -> None:
        with contextlib.ExitStack() as slot:
            slot.callback(self._free, queue, was_failing)
            body = await self._read_body(queue.tenant.tenant_key, delivery.key)
            step = await self._make_step(queue, delivery, body)
            while not await self._until_stored(lambda: self._steps.get(step)):
                await self._wait_out_hold(queue.tenant)
            self._note_stored(queue, step)

    def _note_stored(self, queue: TenantQueue, step: Step) -> None:
        """Only now may it be read again. After a bug before this it is not: that waits for the next start."""
        queue.stored(step.key)
        if step.noted is not None and step.noted.next_attempt_at_us is not None:
            queue.note_retry(step.noted.next_attempt_at_us)
        elif queue.kind is CallKind.BACKEND:
            self._waiting.note_done(queue.tenant)
        self._wake.set()

    async def _wait_out_hold(self, tenant: TenantState) -> bool:
        """Whether the tenant was on its way to another server."""
        was_held = False
        while tenant.hold is not None and not tenant.gone:
            was_held = True
            await asyncio.sleep(STORE_PAUSE_SECONDS)
        return was_held

    def _free(self, queue: TenantQueue, was_failing: bool) -> None:
        queue.running -= 1
        self._running[queue.kind] -= 1
        self._failing_running[queue.kind] -= was_failing
        self._wake.set()

    async def _make_step(self, queue: TenantQueue, delivery: WaitingDelivery, body: bytes | ChatError | None) -> Step:
        tenant = queue.tenant
        if isinstance(body, ChatError):
            return self._fail(tenant, delivery, CallResult(None, "the event cannot be read"))
        if body is None or tenant.settings.webhook_url is None or _is_for_banned(tenant, delivery, body):
            self.dropped += 1
            return Step(tenant, delivery.key)
        may_wait = queue.kind is CallKind.USERS and delivery.step < self._last_step
        if may_wait and self._hub.is_connected(tenant.tenant_key, delivery.user_id):
            self.delayed += 1
            delay = Delay(delivery.key, delivery.step + 1, self._find_due(delivery.step + 1))
            return Step(tenant, delivery.key, delay)
        result = await self._call(tenant, tenant.settings.webhook_url, delivery, body)
        self._note(queue, result)
        if result.error is None:
            self.delivered += 1
            return Step(tenant, delivery.key)
        return self._fail(tenant, delivery, result)

    def _fail(self, tenant: TenantState, delivery: WaitingDelivery, result: CallResult) -> Step:
        failure = self._judge(delivery, result)
        self.failed += 1
        self.exhausted += failure.next_attempt_at_us is None
        return Step(tenant, delivery.key, failure)

    async def _call(self, tenant: TenantState, url: str, delivery: WaitingDelivery, body: bytes) -> CallResult:
        assert self._client is not None  # made by `run`
        now_us = self._clock.now_us()
        headers = sign(list_secrets(tenant, now_us), encode_delivery_id(delivery.key), now_us // 1_000_000, body)
        return await self._client.call(url, headers, body, now_us)

    def _note(self, queue: TenantQueue, result: CallResult) -> None:
        was_failing = queue.is_failing
        queue.unanswered = queue.unanswered + 1 if result.status is None else 0
        if queue.is_failing is not was_failing:
            fields = {"tenant_id": queue.tenant.tenant_id, "error": result.error}
            logger.info("webhook answers again" if was_failing else "webhook gives no answer", extra=fields)

    def _judge(self, delivery: WaitingDelivery, result: CallResult) -> Failure:
        """When the next try is; none after the last one of the schedule, and none after a 410."""
        step, next_attempt_at_us = delivery.step + 1, None
        if delivery.step < self._last_step and result.status != GONE:
            next_attempt_at_us = self._find_due(step, result.retry_after_s)
        return Failure(
            delivery.key, delivery.attempts + 1, step, next_attempt_at_us, self._clock.now_us(), result.error or ""
        )

    @property
    def _last_step(self) -> int:
        return len(self._config.retry_schedule_seconds) - 1

    def _find_due(self, step: int, at_least_s: float = 0.0) -> int:
        """When a try of the schedule is due, counted from now, in microseconds."""
        wait_s = self._config.retry_schedule_seconds[step] * (1 + JITTER * secrets.randbelow(1000) / 1000)
        return self._steady.now_us() + int(max(wait_s, at_least_s) * 1_000_000)

    async def _read_body(self, tenant_key: TenantKey, key: DeliveryKey) -> bytes | ChatError | None:
        """None when the call has become pointless; the error where it, or one that was read together with it, cannot be
        read. A database that cannot be read is waited for."""
        try:
            return await self._until_stored(lambda: self._bodies.get((tenant_key, key)))
        except ChatError as error:
            return error

    async def _until_stored(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Asks the store until it is there to answer. Raises the ChatError of any other failure."""
        while True:
            try:
                return await ask()
            except ChatError as error:
                if error.status != UNAVAILABLE:
                    raise
            await asyncio.sleep(STORE_PAUSE_SECONDS)

    async def _record(self, steps: Sequence[Step]) -> list[bool]:
        """Which of them are stored. One of a tenant that is held for a move would have all of them refused."""

        async def apply(transaction: Transaction) -> list[bool]:
            are_free = [step.tenant.hold is None or step.tenant.gone for step in steps]
            # One that is gone may be back already, with rows of the same keys: the purge has those of its old stay.
            free = [step for step, is_free in zip(steps, are_free, strict=True) if is_free and not step.tenant.gone]
            done = [step.key for step in free if step.noted is None]
            delays = [step.noted for step in free if isinstance(step.noted, Delay)]
            failures = [step.noted for step in free if isinstance(step.noted, Failure)]
            await webhooks.record(transaction, done, delays, failures)
            if delays or failures:
                await meta.write_time(transaction, self._steady.now_us())
            return are_free

        return await self._store.writer.change(apply)


def _is_for_banned(tenant: TenantState, delivery: WaitingDelivery, body: bytes) -> bool:
    """Users who are banned from the tenant are not told of messages."""
    return is_banned(tenant, delivery.user_id) and body.startswith(MESSAGE_CALL)
