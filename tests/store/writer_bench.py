"""A store whose writer a test runs, as the tests of the store share it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from chatapi.clock import Clock
from chatapi.config import Config, resolve_settings
from chatapi.models import RoomId, RoomType, TenantId, TenantState, UserId
from chatapi.room import RoomState
from chatapi.store import Change, MessageWrite, Store, Transaction, Write, log, open_store, rooms, tenants
from chatapi.store.writes import Statement


class Bench:
    """A store with one room, and the writer's committer, which refuses nobody and keeps what it publishes."""

    def __init__(self, store: Store, room: RoomState) -> None:
        self.store = store
        self.writer = store.writer
        self.room = room
        self.counter = room.counter
        self.batches: list[list[Write]] = []
        self.commits = 0

    def check_sender(self, write: MessageWrite) -> None:
        return

    def judge(self, write: MessageWrite) -> None:
        return

    def list_counted(self, messages: Sequence[MessageWrite]) -> Sequence[MessageWrite]:
        return ()

    def list_statements(self, messages: Sequence[MessageWrite]) -> Sequence[Statement]:
        return ()

    def publish(self, batch: Sequence[Write]) -> None:
        self.batches.append(list(batch))
        for write in batch:
            if isinstance(write, Change):
                write.finish()
            else:
                write.confirm(write)

    def message(
        self, content: str = "x", *, sender_id: Any = "alice", client_message_id: str | None = None, digest: int = 1
    ) -> "asyncio.Future[MessageWrite]":
        """Submits one; the future ends when it is settled."""
        future: asyncio.Future[MessageWrite] = asyncio.get_running_loop().create_future()
        self.writer.submit(
            MessageWrite(
                room=self.room,
                sender_id=sender_id,
                content=content,
                meta=None,
                reply_to=None,
                client_message_id=client_message_id,
                body_digest=None if client_message_id is None else digest,
                confirm=future.set_result,
            )
        )
        return future

    def change(
        self, apply: Callable[[Transaction], Any] | None = None, publish: Any = None, *, barrier: bool = False
    ) -> "asyncio.Task[Any]":
        return asyncio.ensure_future(self.writer.change(apply or self.append, publish, barrier=barrier))

    async def append(self, transaction: Transaction) -> int:
        """One event of the log."""
        seq = transaction.take_seq(self.counter)
        await log.append_change(transaction, self.counter, seq, {"type": "x", "seq": seq}, None)
        return seq

    async def seqs(self) -> list[int]:
        rows = await self.store.readers.fetch(
            "SELECT seq FROM messages UNION ALL SELECT seq FROM changes ORDER BY seq", {}
        )
        return [seq for (seq,) in rows]


@pytest.fixture
async def bench(database: Path) -> AsyncIterator[Bench]:
    """The writer runs from `async with running(bench)` on, so that a test decides what comes in one batch."""
    store = await open_store(str(database), synchronous="full", readers=1, clock=Clock())
    transaction = Transaction(store._connection, Clock().now_us())
    tenant_key = await tenants.insert_tenant(transaction, TenantId("tenant_a"), "a", {}, "secret", None, "epoch")
    room_key = await rooms.insert_room(
        transaction,
        tenant_key,
        room_id="room_a",
        room_type="group",
        unique_key=None,
        name=None,
        metadata=None,
        created_by="alice",
    )
    tenant = TenantState(
        tenant_key=tenant_key,
        tenant_id=TenantId("tenant_a"),
        name="a",
        token_secret="secret",
        config={},
        settings=resolve_settings({}, Config()),
        created_at_us=0,
        epoch="e1",
    )
    room = RoomState(
        tenant=tenant,
        room_key=room_key,
        room_id=RoomId("room_a"),
        room_type=RoomType.GROUP,
        unique_key=None,
        name=None,
        metadata=None,
        created_by=UserId("alice"),
        created_at_us=0,
        updated_at_us=0,
    )
    bench = Bench(store, room)
    await store._connection.set_trace_callback(
        lambda sql: setattr(bench, "commits", bench.commits + sql.startswith("COMMIT"))
    )
    yield bench
    assert not store._connection.in_transaction
    await store.close()


@contextlib.asynccontextmanager
async def running(bench: Bench) -> AsyncIterator[None]:
    """Runs the writer; at the end all that was queued is written."""
    writing = asyncio.ensure_future(bench.writer.run(bench))
    yield
    bench.writer.close()
    async with asyncio.timeout(20):
        await writing
