"""The objects that the edges call: all of the process, built once by the composition root."""

import asyncio
from dataclasses import dataclass, field

from chatapi.access import Access
from chatapi.admission import Admission
from chatapi.appends import Appends
from chatapi.auth import Auth
from chatapi.blocks import Blocks
from chatapi.chat import Chat
from chatapi.clock import Clock, SteadyClock
from chatapi.committer import Committer
from chatapi.config import Config
from chatapi.deltas import Deltas
from chatapi.dev_tools import DevTools
from chatapi.erasures import Erasures
from chatapi.health import HealthCheck
from chatapi.history import HistoryCache
from chatapi.hub import Hub
from chatapi.indexer import Indexer
from chatapi.last_seen import LastSeen
from chatapi.membership import Membership
from chatapi.mentions import Mentions
from chatapi.metrics import Counters
from chatapi.moving.arrivals import TenantArrivals
from chatapi.moving.departures import Departures
from chatapi.notifications import Notifications
from chatapi.origin import OriginPolicy
from chatapi.pins import Pins
from chatapi.piping import Pipes
from chatapi.presence import Presence
from chatapi.profiles import Profiles
from chatapi.reactions import Reactions
from chatapi.receipts import Receipts
from chatapi.recovery import Recovery
from chatapi.reports import Reports
from chatapi.room_bans import RoomBans
from chatapi.room_lists import RoomLists
from chatapi.rooms import Rooms
from chatapi.search import Search
from chatapi.store import Store
from chatapi.streams import Streams
from chatapi.tasks import Tasks, Workers
from chatapi.tenant_bans import TenantBans
from chatapi.tenants import TenantRegistry
from chatapi.transfers import TenantTransfers
from chatapi.user_exports import UserExports
from chatapi.views import Views
from chatapi.webhooks.dead_letters import DeadLetterQueue
from chatapi.webhooks.presence import PresenceEvents
from chatapi.webhooks.worker import WebhookWorker


@dataclass(frozen=True, slots=True)
class Services:
    """Each is made once by `start_app`, and lives as long as the process."""

    config: Config
    clock: Clock
    steady: SteadyClock
    tasks: Tasks
    store: Store
    rooms: Rooms
    room_lists: RoomLists
    hub: Hub
    presence: Presence
    recovery: Recovery
    deltas: Deltas
    access: Access
    committer: Committer
    chat: Chat
    history: HistoryCache
    appends: Appends
    streams: Streams
    pipes: Pipes
    reactions: Reactions
    pins: Pins
    membership: Membership
    blocks: Blocks
    tenant_bans: TenantBans
    profiles: Profiles
    last_seen: LastSeen
    mentions: Mentions
    views: Views
    room_bans: RoomBans
    reports: Reports
    receipts: Receipts
    notifications: Notifications
    user_exports: UserExports
    search: Search
    indexer: Indexer
    webhooks: WebhookWorker
    presence_events: PresenceEvents
    dead_letters: DeadLetterQueue
    tenants: TenantRegistry
    auth: Auth
    origins: OriginPolicy
    health: HealthCheck
    admission: Admission
    dev: DevTools | None = None  # under `serve --dev` and `--test` alone
    counters: Counters = field(default_factory=Counters)
    erasures: Erasures = field(init=False)
    departures: Departures = field(init=False)
    arrivals: TenantArrivals = field(init=False)
    transfers: TenantTransfers = field(init=False)
    frame_workers: Workers = field(init=False)
    """They carry out the frames of WebSockets."""
    file_turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Large files are read one at a time: requests that come together read one once."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "frame_workers", Workers(self.tasks, "frames"))
        erasures = Erasures(
            self.store,
            self.rooms,
            self.hub,
            self.tasks,
            self.clock,
            self.last_seen,
            self.indexer,
            self.chat,
            self.reactions,
            self.membership,
            self.blocks,
        )
        object.__setattr__(self, "erasures", erasures)
        departures = Departures(
            self.store, self.tenants, self.rooms, self.pipes, self.last_seen, self.tasks, self.config
        )
        object.__setattr__(self, "departures", departures)
        transfers = TenantTransfers(
            self.store,
            self.config,
            self.clock,
            self.rooms,
            self.tenants,
            self.tenant_bans,
            self.streams,
            self.notifications,
            self.webhooks,
        )
        object.__setattr__(self, "transfers", transfers)
        arrivals = TenantArrivals(
            self.store,
            self.tenants,
            self.tenant_bans,
            self.erasures,
            self.webhooks,
            self.notifications,
            self.streams,
            self.config,
            transfers.arriving,
        )
        object.__setattr__(self, "arrivals", arrivals)
