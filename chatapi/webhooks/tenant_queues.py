"""Those of a tenant's calls that are in memory, since they are due or under way. The calls for users who are offline,
and those that tell the backend of events, have a queue each, so that neither waits for the other."""

from collections import OrderedDict, deque
from collections.abc import Sequence
from enum import Enum, auto

from chatapi.models import RoomKey, TenantState, UserId
from chatapi.store.backend_events import EVENT_ORDINAL, WaitingEvent
from chatapi.store.webhooks import DeliveryKey, WaitingDelivery

FAILING_AFTER = 3  # calls without an answer, one after the other: then the tenant may try one at a time only
MOST_KNOWN = 1_000  # events of a tenant in memory, some 250 bytes each: enough that many rooms take turns
NEVER_US = 1 << 62

Chain = tuple[RoomKey | None, UserId]
"""Of a room's events, or a user's: they are sent one after the other."""


class CallKind(Enum):
    USERS = auto()
    BACKEND = auto()


class TenantQueue:
    """One tenant's calls of one kind. `look_at_us` is when the store may have something that is not in memory."""

    __slots__ = (
        "is_dropping",
        "kind",
        "look_at_us",
        "may_have_events",
        "ready",
        "running",
        "tenant",
        "unanswered",
        "under_way",
    )

    def __init__(self, tenant: TenantState, kind: CallKind = CallKind.USERS) -> None:
        self.tenant = tenant
        self.kind = kind
        self.ready: deque[WaitingDelivery] = deque()
        self.under_way: set[DeliveryKey] = set()  # until its outcome is stored
        self.running = 0
        self.look_at_us = 0
        self.may_have_events = True
        self.is_dropping = False  # there is no webhook any more, and what waited for it is being removed
        self.unanswered = 0  # calls since the last answer

    @property
    def is_failing(self) -> bool:
        """The tenant's endpoint gave no answer `FAILING_AFTER` times in a row."""
        return self.unanswered >= FAILING_AFTER

    @property
    def is_over(self) -> bool:
        """It has nothing to do, now or later, and may go; `WebhookWorker.wake` makes a new one."""
        has_work = self.ready or self.under_way or self.may_have_events or self.is_dropping
        return not has_work and self.look_at_us == NEVER_US

    @property
    def has_ready(self) -> bool:
        """A call may be started now."""
        return bool(self.ready)

    @property
    def wants_more(self) -> bool:
        """There is room for more in memory."""
        return not self.ready

    def take(self) -> WaitingDelivery:
        """The next call, which is under way from now on."""
        delivery = self.ready.popleft()
        self.under_way.add(delivery.key)
        return delivery

    def note_retry(self, at_us: int) -> None:
        """A call that failed is due again at that time."""
        self.look_at_us = min(self.look_at_us, at_us)

    def stored(self, key: DeliveryKey) -> None:
        """The outcome of a call is stored: only now may it be read again."""
        self.under_way.discard(key)


class EventQueue(TenantQueue):
    """The calls of a chain are made one at a time, in the order of the keys. Nothing waits for tries after a
    failure: `ready` holds them."""

    __slots__ = ("after_key", "busy", "chains", "known", "retry_at_us", "startable", "taken")

    def __init__(self, tenant: TenantState) -> None:
        super().__init__(tenant, CallKind.BACKEND)
        self.after_key = 0  # up to here the events were read that have not been tried
        self.retry_at_us = 0  # when one is due again that has failed
        self.known: set[DeliveryKey] = set()  # in memory, under way or not
        self.chains: dict[Chain, deque[WaitingDelivery]] = {}
        self.busy: dict[DeliveryKey, Chain] = {}  # of the calls under way that their chain waits for
        self.taken: dict[Chain, int] = {}  # how many calls of a chain those are
        self.startable: OrderedDict[Chain, None] = OrderedDict()  # in turn

    @property
    def has_ready(self) -> bool:
        return bool(self.ready or self.startable)

    @property
    def wants_more(self) -> bool:
        return len(self.known) < MOST_KNOWN // 2

    @property
    def is_over(self) -> bool:
        return super().is_over and not self.known

    def start_over(self) -> None:
        """Something older may be due again."""
        self.after_key = self.retry_at_us = 0

    def note_retry(self, at_us: int) -> None:
        self.retry_at_us = min(self.retry_at_us, at_us)
        super().note_retry(at_us)

    def add(self, events: Sequence[WaitingEvent]) -> None:
        """Those that are in memory already are passed over."""
        for event in events:
            key = DeliveryKey(event.event_key, EVENT_ORDINAL)
            if key in self.known:
                continue
            self.known.add(key)
            delivery = WaitingDelivery(key, event.user_id, event.attempts, event.step, event.next_attempt_at_us)
            if event.step:
                self.ready.append(delivery)
                continue
            chain = (event.room_key, event.user_id)
            waiting = self.chains.get(chain)
            if waiting is None:
                waiting = self.chains[chain] = deque()
                self.startable[chain] = None
            waiting.append(delivery)

    def take_run(self, most: int, runs: int) -> deque[WaitingDelivery]:
        """Up to so many calls to make one after the other, which are under way from now on: of a part of the chains, so
        that as many more runs have some too."""
        if self.ready:
            return deque([super().take()])
        calls: deque[WaitingDelivery] = deque()
        chains = min(most, -(-len(self.startable) // runs))
        for _ in range(chains):
            chain, _ = self.startable.popitem(last=False)
            waiting = self.chains[chain]
            self.taken[chain] = min(most // chains, len(waiting))
            for _ in range(self.taken[chain]):
                delivery = waiting.popleft()
                self.busy[delivery.key] = chain
                self.under_way.add(delivery.key)
                calls.append(delivery)
        return calls

    def give_back(self, calls: deque[WaitingDelivery]) -> None:
        """These were taken, and are not made now."""
        while calls:
            delivery = calls.pop()
            self.under_way.discard(delivery.key)
            if (chain := self.busy.get(delivery.key)) is None:
                self.ready.appendleft(delivery)
                continue
            self.chains[chain].appendleft(delivery)
            self._leave_chain(delivery)
            if chain in self.startable:
                self.startable.move_to_end(chain, last=False)

    def answered(self, delivery: WaitingDelivery) -> None:
        """The call has ended, though its outcome is not stored yet: the next one of its chain may follow."""
        if delivery.key in self.busy:
            self._leave_chain(delivery)

    def _leave_chain(self, delivery: WaitingDelivery) -> None:
        chain = self.busy.pop(delivery.key)
        self.taken[chain] -= 1
        if self.taken[chain]:
            return
        del self.taken[chain]
        if self.chains[chain]:
            self.startable[chain] = None
        else:
            del self.chains[chain]

    def stored(self, key: DeliveryKey) -> None:
        super().stored(key)
        self.known.discard(key)

    def forget_waiting(self) -> None:
        """There is no webhook any more: forgets all but the calls under way."""
        self.ready.clear()
        self.startable.clear()
        for waiting in self.chains.values():
            waiting.clear()
        self.chains = {chain: self.chains[chain] for chain in self.busy.values()}
        self.known &= self.under_way
        self.start_over()
