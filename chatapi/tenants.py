"""Tenants and their keys: all in memory, changed after each commit, so that a look-up never waits."""

import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping
from copy import copy
from itertools import islice
from typing import NamedTuple
from urllib.parse import urlsplit

from msgspec import UNSET

from chatapi.address import check_webhook_url
from chatapi.clock import Clock
from chatapi.config import Config, TenantSettings, parse_tenant_config, resolve_settings
from chatapi.connection import Connection
from chatapi.errors import conflict, invalid, not_found, tenant_moved, unauthenticated
from chatapi.hub import Hub
from chatapi.models import (
    SERVER_ACTOR,
    Actor,
    KeyId,
    Principal,
    ReplacedSecret,
    Scope,
    TenantId,
    TenantKey,
    TenantState,
)
from chatapi.protocol.encoders import encode_frame
from chatapi.protocol.pages import Page, Window
from chatapi.protocol.requests import CreateTenant, PatchTenant
from chatapi.protocol.server_frames import ServerShutdownFrame
from chatapi.ratelimit import BucketLevel, TenantBuckets
from chatapi.rooms import Rooms
from chatapi.store import Store, Transaction, audit
from chatapi.store import tenants as store_tenants
from chatapi.store.epochs import make_epoch
from chatapi.tenant_secrets import hash_key, make_api_key, make_key_id, make_secret, make_webhook_secret

GOING_AWAY = 1001
RECONNECT_MS_PER_CONNECTION = 1  # after a move
CREDENTIAL_GONE = 4001
"""The close code of a connection whose credential has expired or was revoked."""
APPENDS_PER_REQUEST = 10  # to streams: a tenant, and a user, may append so many times as often as they may request

WEBHOOK_SECRET_OVERLAP_US = 24 * 3600 * 1_000_000  # how long a replaced webhook secret signs along
MAX_REPLACED_WEBHOOK_SECRETS = 50  # at once: each adds 48 bytes to a header, and receivers refuse long ones

TOUCH_KEYS = 200  # noted in one transaction, 1 or 2 ms of the writer's time

DEV_TENANT_ID = TenantId("tenant_dev")


class ApiKey(NamedTuple):
    tenant: TenantState
    key_id: KeyId


class TenantRegistry:
    """The tenants that are not deleted. A change is in force when its method returns: stored, and known to the
    connections and limits that it concerns."""

    def __init__(self, store: Store, config: Config, clock: Clock, rooms: Rooms, hub: Hub) -> None:
        self._store = store
        self._config = config
        self._clock = clock
        self._rooms = rooms
        self._hub = hub
        self._by_id: dict[str, TenantState] = {}
        self._keys: dict[bytes, ApiKey] = {}  # by the key's SHA-256: equal time whether a prefix matches or not
        self._hashes: dict[TenantKey, dict[KeyId, bytes]] = {}  # of each tenant's keys
        self._buckets: dict[TenantKey, TenantBuckets] = {}
        self._append_buckets: dict[TenantKey, TenantBuckets] = {}
        self._used_keys: dict[KeyId, int] = {}  # when, in microseconds; not yet written
        self.dev_key: str | None = None  # of the tenant `dev`, under `serve --dev` only

    async def load(self) -> None:
        """Reads all tenants and keys. Called once, at the start."""
        by_key = {}
        for tenant in await store_tenants.load_tenants(self._store.readers, self._config):
            by_key[tenant.tenant_key] = tenant
            self._register(tenant)
        for key_hash, key_id, tenant_key in await store_tenants.load_keys(self._store.readers):
            self._add_key(key_hash, by_key[tenant_key], key_id)

    def find(self, tenant_id: str) -> TenantState | None:
        return self._by_id.get(tenant_id)

    def get(self, tenant_id: str) -> TenantState:
        """Raises ChatError NOT_FOUND."""
        tenant = self._by_id.get(tenant_id)
        if tenant is None:
            raise not_found("Tenant")
        return tenant

    def get_served(self, tenant_id: str) -> TenantState:
        """One that may be changed. Raises ChatError also for a tenant that is held for a move, or has moved away."""
        tenant = self.get(tenant_id)
        if tenant.hold is not None:
            raise tenant.hold
        return tenant

    def find_by_key(self, tenant_key: TenantKey) -> TenantState | None:
        return next((tenant for tenant in self._by_id.values() if tenant.tenant_key == tenant_key), None)

    def all(self) -> list[TenantState]:
        """In the order in which they were created; also those that have moved away."""
        return list(self._by_id.values())

    def list_served(self) -> list[TenantState]:
        """Those that this server serves."""
        return [tenant for tenant in self._by_id.values() if tenant.away is None]

    def find_key(self, api_key: str) -> ApiKey | None:
        """None for an unknown key. Notes that the key was used."""
        found = self._keys.get(hash_key(api_key))
        if found is not None:
            self._used_keys[found.key_id] = self._clock.now_us()
        return found

    def has_key(self, tenant: TenantState, key_id: KeyId) -> bool:
        """False once the key was revoked: tickets outlive the request that made them."""
        return key_id in self._hashes.get(tenant.tenant_key, ())

    # Limits

    def take_token(self, principal: Principal, *, is_append: bool = False) -> float:
        """Takes one token of the tenant's bucket, which all users and both transports share, and for a user token one
        of the user's own, over all their tokens, the tickets made with those, and their sockets: of both or of neither.
        Appends to streams have other buckets. Returns as `TokenBucket.take`. Raises KeyError for a deleted tenant,
        and ChatError for one that has moved away.
        """
        if principal.tenant.away is not None:
            raise principal.tenant.away
        buckets = (self._append_buckets if is_append else self._buckets)[principal.tenant.tenant_key]
        now_s = self._clock.monotonic_s()
        return (
            buckets.shared.take(now_s) if principal.scope is Scope.API_KEY else buckets.take(principal.user_id, now_s)
        )

    def find_level(self, principal: Principal, *, is_append: bool = False) -> BucketLevel:
        """The level after the last `take_token`, of the bucket that has less left. Raises KeyError as that does."""
        buckets = (self._append_buckets if is_append else self._buckets)[principal.tenant.tenant_key]
        if principal.scope is Scope.API_KEY:
            return buckets.shared.level()
        return buckets.find_level(principal.user_id, self._clock.monotonic_s())

    # Tenants

    async def create(self, actor: Actor, body: CreateTenant) -> tuple[TenantState, str]:
        """The tenant and its first API key, which is never shown again. Raises ChatError for an invalid config."""
        config = self._parse_config(body.config or {})
        return await self._create(actor, TenantId(f"tenant_{secrets.token_hex(10)}"), body.name, config, shown=False)

    async def _create(
        self, actor: Actor, tenant_id: TenantId, name: str, config: dict[str, object], *, shown: bool
    ) -> tuple[TenantState, str]:
        api_key, key_id = make_api_key(tenant_id), make_key_id()
        token_secret = make_secret()
        webhook_secret = make_webhook_secret() if config.get("webhook_url") else None
        epoch = make_epoch()

        async def apply(transaction: Transaction) -> TenantState:
            tenant_key = await store_tenants.insert_tenant(
                transaction, tenant_id, name, config, token_secret, webhook_secret, epoch
            )
            await store_tenants.insert_key(
                transaction, tenant_key, key_id, hash_key(api_key), api_key if shown else None
            )
            await audit.record(transaction, actor, "tenant.create", tenant_id, tenant_id, {"key_id": key_id})
            return TenantState(
                tenant_key=tenant_key,
                tenant_id=tenant_id,
                name=name,
                token_secret=token_secret,
                config=config,
                settings=resolve_settings(config, self._config),
                created_at_us=transaction.now_us,
                epoch=epoch,
                webhook_secret=webhook_secret,
            )

        def publish(tenant: TenantState) -> None:
            self._register(tenant)
            self._add_key(hash_key(api_key), tenant, key_id)

        return await self._store.writer.change(apply, publish), api_key

    def check_imported(self, config: object, key_hashes: Iterable[bytes]) -> dict[str, object]:
        """The settings of a tenant that comes from another database. Raises ChatError for those that no tenant may
        have, and CONFLICT if a key is another tenant's."""
        if any(key_hash in self._keys for key_hash in key_hashes):
            raise conflict("Another tenant has one of the file's API keys")
        if not isinstance(config, dict):
            raise invalid("Must be an object", "config")
        return self._parse_config(config)

    def add_imported(self, tenant: TenantState, hashes: Mapping[KeyId, bytes]) -> None:
        """A tenant has come, with its keys, whose rows are committed."""
        self._register(tenant)
        for key_id, key_hash in hashes.items():
            self._add_key(key_hash, tenant, key_id)

    async def update(self, actor: Actor, tenant_id: str, body: PatchTenant) -> tuple[TenantState, str | None]:
        """The tenant, and its webhook secret if this change made it. Raises ChatError."""

        async def apply(transaction: Transaction) -> tuple[TenantState, str, dict[str, object], str | None]:
            tenant = self.get_served(tenant_id)
            name = tenant.name if body.name is UNSET else body.name
            config = tenant.config
            if body.config is not UNSET:
                config = self._parse_config({**tenant.config, **body.config})
            made = make_webhook_secret() if config.get("webhook_url") and tenant.webhook_secret is None else None
            webhook_secret = made or tenant.webhook_secret
            await store_tenants.update_tenant(transaction, tenant.tenant_key, name, config, webhook_secret)
            if changed := audit.list_changes(tenant, name, config):
                details = {"changed": changed}
                await audit.record(transaction, actor, "tenant.update", tenant.tenant_id, tenant.tenant_id, details)
            return tenant, name, config, made

        def publish(result: tuple[TenantState, str, dict[str, object], str | None]) -> None:
            tenant, name, config, made = result
            tenant.name, tenant.config, tenant.settings = name, config, resolve_settings(config, self._config)
            tenant.webhook_secret = made or tenant.webhook_secret
            self._buckets[tenant.tenant_key].set_rates(*_list_rates(tenant.settings))
            self._append_buckets[tenant.tenant_key].set_rates(*_list_rates(tenant.settings, APPENDS_PER_REQUEST))

        tenant, _name, _config, made = await self._store.writer.change(apply, publish, barrier=True)
        return tenant, made

    async def delete(self, actor: Actor, tenant_id: str) -> None:
        """The tenant is gone at once, and its sockets close; the rows are purged afterwards. Raises ChatError
        NOT_FOUND."""

        async def apply(transaction: Transaction) -> TenantState:
            tenant = self.get(tenant_id)
            if tenant.hold is not None and tenant.moved_to is None:
                raise tenant.hold
            await store_tenants.mark_tenant_deleted(transaction, tenant.tenant_key)
            await audit.record(transaction, actor, "tenant.delete", tenant_id, tenant_id)
            return tenant

        def publish(tenant: TenantState) -> None:
            self._by_id.pop(tenant.tenant_id, None)
            self._forget(tenant)
            self._close(tenant, lambda _: True, "The tenant was deleted")
            self._rooms.drop_tenant(tenant.tenant_key)

        await self._store.writer.change(apply, publish, barrier=True)

    # Moves

    def set_moved(self, tenant: TenantState, url: str) -> None:
        """The other server has confirmed: callers are told where the tenant is."""
        tenant.moved_to = url
        tenant.away = tenant.hold = tenant_moved(url)

    def hand_over(self, before: TenantState, tenant_key: TenantKey, url: str) -> None:
        """The tenant is another server's. Its credentials stay, in a row of that key; its sockets close."""
        before.gone = True
        tenant = copy(before)
        tenant.tenant_key, tenant.gone = tenant_key, False
        for one in (tenant, before):  # requests that are under way have the latter
            self.set_moved(one, url)
        self._buckets.pop(before.tenant_key, None)
        self._append_buckets.pop(before.tenant_key, None)
        hashes = self._hashes.pop(before.tenant_key, {})
        self._register(tenant)
        for key_id, key_hash in hashes.items():
            self._add_key(key_hash, tenant, key_id)
        self._rooms.drop_tenant(before.tenant_key)
        self._send_away(before, url)

    async def adopt(self, tenant_key: TenantKey, prepare: Callable[[TenantState], Awaitable[None]]) -> None:
        """Serves a tenant that was stored by a move, once `prepare` has returned. The same again does nothing."""
        if self.find_by_key(tenant_key) is not None:
            return
        for tenant in await store_tenants.load_tenants(self._store.readers, self._config):
            if tenant.tenant_key == tenant_key:
                await prepare(tenant)
                keys = await store_tenants.load_keys(self._store.readers)
                before = self._by_id.pop(tenant.tenant_id, None)
                if before is not None:
                    self._forget(before)
                self._register(tenant)
                for key_hash, key_id, key_tenant in keys:
                    if key_tenant == tenant_key:
                        self._add_key(key_hash, tenant, key_id)

    def _send_away(self, tenant: TenantState, url: str) -> None:
        """All its connections, over a while that grows with their number."""
        connections = [
            connection
            for user in self._hub.online_of_tenant(tenant.tenant_key).values()
            for connection in user.connections
        ]
        for number, connection in enumerate(connections):
            frame = ServerShutdownFrame(reconnect_after_ms=number * RECONNECT_MS_PER_CONNECTION, url=url)
            self._hub.send(connection, encode_frame(frame))
            self._hub.close(connection, GOING_AWAY, reason="the tenant has moved")
        self._hub.flush()

    def _forget(self, tenant: TenantState) -> None:
        tenant.gone = True
        self._buckets.pop(tenant.tenant_key, None)
        self._append_buckets.pop(tenant.tenant_key, None)
        for key_hash in self._hashes.pop(tenant.tenant_key, {}).values():
            self._keys.pop(key_hash, None)

    # Secrets

    async def rotate_token_secret(self, actor: Actor, tenant_id: str) -> str:
        """The new secret; every user token signed with the old one is void at once."""
        token_secret = make_secret()

        async def apply(transaction: Transaction) -> TenantState:
            tenant = self.get_served(tenant_id)
            await store_tenants.update_token_secret(transaction, tenant.tenant_key, token_secret)
            await audit.record(transaction, actor, "token_secret.rotate", tenant_id, tenant_id)
            return tenant

        def publish(tenant: TenantState) -> None:
            tenant.token_secret = token_secret
            self._close(
                tenant,
                lambda connection: connection.principal.scope is Scope.USER_TOKEN,
                "The user token was revoked",
            )

        await self._store.writer.change(apply, publish)
        return token_secret

    async def rotate_webhook_secret(self, actor: Actor, tenant_id: str) -> str:
        """The new secret; the old one signs along for a day. Raises ChatError CONFLICT when too many do already."""
        secret = make_webhook_secret()

        async def apply(transaction: Transaction) -> tuple[TenantState, list[ReplacedSecret]]:
            tenant, now_us = self.get_served(tenant_id), transaction.now_us
            replaced = [found for found in tenant.replaced_webhook_secrets if found.until_us > now_us]
            if len(replaced) >= MAX_REPLACED_WEBHOOK_SECRETS:
                raise conflict(
                    f"{len(replaced)} replaced webhook secrets still sign, each for 24 hours: try again later"
                )
            if tenant.webhook_secret is not None:
                replaced.insert(0, ReplacedSecret(tenant.webhook_secret, now_us + WEBHOOK_SECRET_OVERLAP_US))
            await store_tenants.update_webhook_secret(transaction, tenant.tenant_key, secret, replaced)
            await audit.record(transaction, actor, "webhook_secret.rotate", tenant_id, tenant_id)
            return tenant, replaced

        def publish(result: tuple[TenantState, list[ReplacedSecret]]) -> None:
            tenant, replaced = result
            tenant.webhook_secret, tenant.replaced_webhook_secrets = secret, replaced

        await self._store.writer.change(apply, publish, barrier=True)
        return secret

    # Keys

    async def create_key(self, actor: Actor, tenant_id: str) -> tuple[KeyId, str]:
        """The key's id, and the key, which is never shown again."""
        api_key, key_id = make_api_key(tenant_id), make_key_id()

        async def apply(transaction: Transaction) -> TenantState:
            tenant = self.get_served(tenant_id)
            await store_tenants.insert_key(transaction, tenant.tenant_key, key_id, hash_key(api_key), None)
            await audit.record(transaction, actor, "key.create", tenant_id, key_id)
            return tenant

        def publish(tenant: TenantState) -> None:
            self._add_key(hash_key(api_key), tenant, key_id)

        await self._store.writer.change(apply, publish)
        return key_id, api_key

    def _add_key(self, key_hash: bytes, tenant: TenantState, key_id: KeyId) -> None:
        self._keys[key_hash] = ApiKey(tenant, key_id)
        self._hashes.setdefault(tenant.tenant_key, {})[key_id] = key_hash

    async def list_keys(self, tenant_id: str, window: Window) -> Page:
        """The ids and times of the keys, never the keys. Raises ChatError NOT_FOUND."""
        tenant = self.get(tenant_id)
        return await store_tenants.list_keys(self._store.readers, tenant.tenant_key, window)

    async def revoke_key(self, actor: Actor, tenant_id: str, key_id: str) -> None:
        """The key stops working at once, and the sockets opened with it close; those of other credentials stay."""
        tenant = self.get_served(tenant_id)

        async def apply(transaction: Transaction) -> bytes:
            key_hash = await store_tenants.delete_key(transaction, tenant.tenant_key, key_id)
            if key_hash is None:
                raise not_found("Key")
            await audit.record(transaction, actor, "key.revoke", tenant_id, key_id)
            return key_hash

        def publish(key_hash: bytes) -> None:
            self._keys.pop(key_hash, None)
            self._hashes.get(tenant.tenant_key, {}).pop(KeyId(key_id), None)
            self._close(tenant, lambda connection: connection.principal.key_id == key_id, "The API key was revoked")

        await self._store.writer.change(apply, publish)

    async def write_used_keys(self) -> None:
        """Writes when the keys were last used. Called now and then, and at the end."""
        while self._used_keys:
            used = dict(islice(self._used_keys.items(), TOUCH_KEYS))
            await self._store.writer.change(lambda transaction, used=used: store_tenants.touch_keys(transaction, used))  # type: ignore[misc]
            for key_id, used_at_us in used.items():
                if self._used_keys.get(key_id) == used_at_us:
                    del self._used_keys[key_id]

    # The tenant of `serve --dev`

    async def ensure_dev_tenant(self) -> None:
        """Makes the tenant `dev` unless it is there. `dev_key` is the same one on every start of the same database."""
        tenant = self._by_id.get(DEV_TENANT_ID)
        if tenant is None:
            _tenant, self.dev_key = await self._create(SERVER_ACTOR, DEV_TENANT_ID, "dev", {}, shown=True)
        else:
            shown = await store_tenants.find_shown_key(self._store.readers, tenant.tenant_key)
            self.dev_key = shown or await self._make_shown_key(tenant)

    async def set_dev_webhook(self, url: str) -> None:
        """Unless the developer has named another endpoint. That of an earlier start had another port."""
        known = self.get(DEV_TENANT_ID).config.get("webhook_url")
        if known is None or str(known).endswith(urlsplit(url).path):
            await self.update(SERVER_ACTOR, DEV_TENANT_ID, PatchTenant(config={"webhook_url": url}))

    async def _make_shown_key(self, tenant: TenantState) -> str:
        """The dev tenant's key was revoked: here is another one."""
        api_key, key_id = make_api_key(tenant.tenant_id), make_key_id()

        async def apply(transaction: Transaction) -> None:
            await store_tenants.insert_key(transaction, tenant.tenant_key, key_id, hash_key(api_key), api_key)
            await audit.record(transaction, SERVER_ACTOR, "key.create", tenant.tenant_id, key_id)

        await self._store.writer.change(apply)
        self._add_key(hash_key(api_key), tenant, key_id)
        return api_key

    # Changes that are in force

    def _parse_config(self, config: dict[str, object]) -> dict[str, object]:
        parsed = parse_tenant_config(config)
        webhook_url = parsed.get("webhook_url")
        if isinstance(webhook_url, str):
            check_webhook_url(webhook_url, self._config.webhooks.allow_private_addresses)
        return parsed

    def _register(self, tenant: TenantState) -> None:
        self._by_id[tenant.tenant_id] = tenant
        settings, key = tenant.settings, tenant.tenant_key
        now_s = self._clock.monotonic_s()
        self._buckets[key] = TenantBuckets(*_list_rates(settings), now_s)
        self._append_buckets[key] = TenantBuckets(*_list_rates(settings, APPENDS_PER_REQUEST), now_s)

    def _close(self, tenant: TenantState, should_close: Callable[[Connection], bool], why: str) -> None:
        self._hub.close_where(tenant.tenant_key, should_close, CREDENTIAL_GONE, unauthenticated(why))


def _list_rates(settings: TenantSettings, times: int = 1) -> tuple[float, int, float]:
    """Of a tenant's buckets: its rate, its burst, and each user's rate."""
    return times * settings.rate_limit, times * settings.rate_burst, times * settings.user_rate_limit
