"""A server with little memory left refuses what is new and keeps what it has, before the kernel has to kill."""

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from driver import Server, StartServer, eventually
from raw_websocket import WAIT_SECONDS

from chatapi.admission import LOW_MEMORY_CONNECTIONS, Admission, Tier
from chatapi.connection import ConnectionState
from chatapi.errors import ChatError
from chatapi.memory_left import MIB, Left, find_reader, make_reader_of_own
from chatapi.memory_watch import MIN_LINE_BYTES, MIN_RESERVE_BYTES, MemoryWatch
from chatapi.relief import CALM_LOOKS, _Relief

LIMIT = 64 * MIB
AMPLE = Left(LIMIT - MIB, LIMIT)
LOW = Left(MIN_RESERVE_BYTES - 1, LIMIT)
SCARCE = Left(MIN_RESERVE_BYTES // 2 - 1, LIMIT)
NEARLY_SCARCE = Left(MIN_RESERVE_BYTES // 2 + MIB, LIMIT)
DIRE = Left(MIN_LINE_BYTES - 1, LIMIT)  # so little that no lower line helps


# What is read


class FakeSystem:
    """Its /proc and its cgroups are files of the test."""

    def __init__(self, folder: Path) -> None:
        self.proc = folder / "proc"
        self.cgroups = folder / "cgroups"
        (self.proc / "self").mkdir(parents=True)

    def describe(self, membership: str, mount: str, available_mb: int = 1000, swap_mb: int = 0) -> None:
        (self.proc / "self/cgroup").write_text(membership)
        (self.proc / "self/mountinfo").write_text(mount.replace("CGROUPS", str(self.cgroups)))
        meminfo = f"MemTotal: 2048000 kB\nMemFree: 1 kB\nMemAvailable: {available_mb * 1024} kB\n"
        meminfo += f"Buffers: 1 kB\nCached: 1 kB\nSwapTotal: 4096000 kB\nSwapFree: {swap_mb * 1024} kB\n"
        (self.proc / "meminfo").write_text(meminfo)

    def make(self, path: str, **files: str) -> None:
        folder = self.cgroups / path
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name.replace("__", ".")).write_text(f"{text}\n")

    def read_mb(self) -> list[tuple[int, int]]:
        return [(left // MIB, limit // MIB) for left, limit in find_reader(self.proc)()]


@pytest.fixture
def system(tmp_path: Path) -> FakeSystem:
    return FakeSystem(tmp_path)


V2_MOUNT = "30 23 0:26 / CGROUPS rw,nosuid - cgroup2 cgroup2 rw\n"
MACHINE = (1000, 2000)


def test_free_swap_counts_on_a_machine_that_has_some(system: FakeSystem) -> None:
    system.describe("0::/\n", V2_MOUNT, available_mb=20, swap_mb=500)
    assert system.read_mb() == [(520, 2000)]


def test_the_limits_of_version_2_hold_at_every_level(system: FakeSystem) -> None:
    system.describe("0::/system.slice/chatapi.service\n", V2_MOUNT)
    stat = f"anon {30 * MIB}\ninactive_file {3 * MIB}\nactive_file {2 * MIB}\nslab_reclaimable {MIB}"
    used = str(40 * MIB)
    system.make("", memory__stat=stat)  # the root has no limit and no usage
    system.make("system.slice", memory__max=str(100 * MIB), memory__high="max", memory__current=used, memory__stat=stat)
    service = "system.slice/chatapi.service"
    system.make(service, memory__max="max", memory__high="max", memory__current=used, memory__stat=stat)
    assert system.read_mb() == [(66, 100), MACHINE]
    read = find_reader(system.proc)
    system.make(service, memory__high=str(64 * MIB))  # as `systemctl set-property` changes it under the server
    assert [left // MIB for left, _ in read()] == [30, 66, 1000]


def test_in_a_container_the_cgroup_is_the_root_of_the_mount(system: FakeSystem) -> None:
    limits = {"memory__max": str(64 * MIB), "memory__high": "max", "memory__current": "0", "memory__stat": ""}
    system.make("", **limits)
    for membership in ("0::/\n", "0::/../../docker/abc\n", "0::/docker/abc\n"):
        system.describe(membership, V2_MOUNT)
        assert system.read_mb() == [(64, 64), MACHINE]


def test_version_1_has_a_hierarchy_of_its_own_for_memory(system: FakeSystem) -> None:
    mount = (
        "29 22 0:25 / /elsewhere rw - cgroup cgroup rw,cpu\n"
        "35 23 0:30 /docker/abc CGROUPS rw shared:9 - cgroup cgroup rw,memory\n"
    )
    system.describe("7:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc/inner\n0::/\n", mount)
    none = str((1 << 63) - 4096)
    stat = f"inactive_file {MIB}\ntotal_inactive_file {6 * MIB}\ntotal_active_file {4 * MIB}"
    system.make("", memory__limit_in_bytes=str(128 * MIB), memory__usage_in_bytes=str(50 * MIB), memory__stat=stat)
    system.make("inner", memory__limit_in_bytes=none, memory__usage_in_bytes=str(50 * MIB), memory__stat=stat)
    assert system.read_mb() == [(88, 128), MACHINE]


def test_mount_points_may_have_names_in_any_encoding(system: FakeSystem) -> None:
    system.describe("0::/\n", V2_MOUNT)
    system.make("", memory__max=str(64 * MIB), memory__high="max", memory__current="0", memory__stat="")
    mounts = system.proc / "self/mountinfo"
    mounts.write_bytes(b"29 22 0:25 / /mnt/M\xfcller\x85 rw - ext4 /dev/sdb1 rw\n" + mounts.read_bytes())
    assert system.read_mb() == [(64, 64), MACHINE]


def test_files_that_cannot_be_read_limit_nothing(system: FakeSystem) -> None:
    assert system.read_mb() == []
    assert make_reader_of_own(LIMIT, system.proc)() == []
    system.describe("0::/\n", V2_MOUNT)
    system.make("", memory__max="plenty", memory__current="?")
    (system.proc / "meminfo").write_text("MemTotal: 1 kB\n")
    assert system.read_mb() == []


def test_a_limit_of_its_own_counts_resident_memory(system: FakeSystem) -> None:
    (system.proc / "self/statm").write_text("9000 2048 100 1 0 500 0\n")
    assert make_reader_of_own(LIMIT, system.proc)() == [Left(56 * MIB, LIMIT)]


# What follows from it


class Gauge:
    """What is left, as a test sets it."""

    def __init__(self, left: Left = AMPLE) -> None:
        self.left = left
        self.watch = MemoryWatch(lambda: [self.left])

    def turn(self, left: Left) -> None:
        self.left = left
        self.watch.look()


@pytest.mark.parametrize(("limit_mb", "share"), [(32, 1 / 16), (64, 1 / 16), (256, 1 / 4), (1024, 1), (32_000, 1)])
def test_caches_and_buffers_are_smaller_where_there_is_little_memory(limit_mb: int, share: float) -> None:
    watch = MemoryWatch(lambda: [Left(limit_mb * MIB, limit_mb * MIB), Left(64_000 * MIB, 64_000 * MIB)])
    assert watch.share == share
    assert watch.scale(16 * MIB) == int(16 * MIB * share)
    assert watch.scale(MIB, 512 * 1024) == max(512 * 1024, int(MIB * share))


def test_without_a_limit_there_is_always_enough() -> None:
    watch = MemoryWatch()
    assert watch.share == 1
    assert not watch.is_short_of(1 << 50)
    watch.check()


def test_memory_that_is_taken_counts_until_the_next_look() -> None:
    gauge = Gauge(Left(MIN_RESERVE_BYTES, LIMIT))
    watch = gauge.watch
    assert not watch.is_short_of(MIN_RESERVE_BYTES // 2)
    assert not watch.is_short_of(1)  # that was too much, so that it looked: nothing was taken in fact
    with watch.hold(MIN_RESERVE_BYTES // 4):
        assert watch.is_short_of(MIN_RESERVE_BYTES // 2)
        with pytest.raises(ChatError) as caught, watch.hold(MIN_RESERVE_BYTES // 2):
            pass
    assert (caught.value.status, caught.value.retry_after_s) == (503, 5)
    assert watch.refused == 1
    assert not watch.is_short_of(MIN_RESERVE_BYTES // 2)


def test_slow_bodies_leave_half_to_others() -> None:
    gauge = Gauge(Left(MIN_RESERVE_BYTES // 2 + 32 * MIB, LIMIT))
    watch = gauge.watch
    with ExitStack() as held:
        for _ in range(16):  # clients that have said how much they will send, and send it slowly
            held.enter_context(watch.hold(MIB))
        with pytest.raises(ChatError):
            held.enter_context(watch.hold(MIB))
        assert not watch.is_short_of(15 * MIB)
        gauge.turn(Left(MIN_RESERVE_BYTES // 2 + 8 * MIB, LIMIT))
        assert not watch.is_short_of(3 * MIB)
        assert watch.is_short_of(5 * MIB)


def test_memory_that_cannot_be_freed_is_used_again() -> None:
    gauge = Gauge(SCARCE)
    watch = gauge.watch
    assert watch.lacking_bytes == 1
    watch.lower_line()
    assert watch.lacking_bytes == 0
    assert not watch.is_tight
    assert not watch.is_short_of(MIB)
    gauge.turn(Left(SCARCE.left_bytes // 2, LIMIT))
    assert watch.lacking_bytes
    watch.lower_line()
    assert not watch.is_tight
    gauge.turn(AMPLE)
    gauge.turn(SCARCE)
    assert watch.lacking_bytes == 1  # the line is where it was
    readings = [[SCARCE], [SCARCE]]
    watch = MemoryWatch(lambda: readings.pop() if readings else [])
    watch.lower_line()  # there is no descriptor left to read with
    assert watch.lacking_bytes == 0


class Accepted:
    def __init__(self, held_bytes: int = 0, *, is_busy: bool = False) -> None:
        self.tier: Tier | None = None
        self.held_bytes = held_bytes
        self.is_busy = is_busy
        self.is_gone = False

    def is_unused(self) -> bool:
        return not self.is_busy

    def is_waited_for(self) -> bool:
        return False

    def count_held(self) -> int:
        return self.held_bytes

    def cut_off(self) -> None:
        self.is_gone = True


def test_idle_connections_go_while_memory_is_low() -> None:
    gauge = Gauge()
    admission = Admission(10_000, 100, gauge.watch)
    connections = [Accepted() for _ in range(LOW_MEMORY_CONNECTIONS + 20)]
    for accepted in connections:
        assert admission.make_space()
        admission.enter(accepted)
    gauge.turn(LOW)
    assert admission.make_space()
    assert [accepted.is_gone for accepted in connections[:2]] == [True, False]
    admission.shed_idle(10)
    assert len(admission) == LOW_MEMORY_CONNECTIONS + 9
    admission.shed_idle(10_000)
    assert len(admission) == LOW_MEMORY_CONNECTIONS
    assert admission.shed == 20


def test_beside_many_long_polls_a_probe_is_let_in_until_memory_is_scarce() -> None:
    gauge = Gauge()
    admission = Admission(10_000, 100, gauge.watch)
    for _ in range(LOW_MEMORY_CONNECTIONS + 20):
        admission.enter(Accepted(is_busy=True))
    gauge.turn(LOW)
    assert admission.make_space()
    gauge.turn(SCARCE)
    assert not admission.make_space()
    assert admission.shed == 0


def test_clients_with_most_unread_are_cut_off_first() -> None:
    admission = Admission(10_000, 100)
    connections = [Accepted(size) for size in (0, 10_000, 50_000, 30_000, 100)]
    for accepted in connections:
        admission.enter(accepted)
        admission.note_websocket(accepted)
    assert admission.cut_off_heaviest(60_000) == 2
    assert [accepted.is_gone for accepted in connections] == [False, False, True, True, False]
    assert admission.cut_off_heaviest(1_000_000) == 1  # a few bytes are worth nobody's connection


@pytest.mark.parametrize("left", [SCARCE, NEARLY_SCARCE], ids=["scarce", "nearly"])
async def test_when_all_is_freed_that_can_be_slow_readers_may_stay(left: Left) -> None:
    gauge = Gauge(left)
    admission = Admission(10_000, 100, gauge.watch)
    services: Any = SimpleNamespace(
        admission=admission,
        history=SimpleNamespace(clear=bool),
        hub=SimpleNamespace(connections=()),
        rooms=SimpleNamespace(empty_rings=bool),
    )
    relief = _Relief(gauge.watch, lambda _: None)

    async def stays(left: Left) -> bool:
        gauge.turn(left)
        accepted = Accepted(10_000)
        admission.enter(accepted)
        await relief.bring(services)
        admission.leave(accepted)
        return not accepted.is_gone

    seen = [await stays(left) for _ in range(CALM_LOOKS + 3)]
    assert not any(seen[:CALM_LOOKS])
    assert seen[-1]
    assert not await stays(DIRE)  # somebody takes more


def test_as_many_as_there_were_may_come_back() -> None:
    gauge = Gauge()
    admission = Admission(10_000, 100, gauge.watch)
    connections = [Accepted() for _ in range(100)]
    for accepted in connections:
        admission.enter(accepted)
        admission.note_websocket(accepted)
    gauge.turn(LOW)
    with pytest.raises(ChatError):
        admission.check_memory()
    for accepted in connections[:20]:
        admission.leave(accepted)
    admission.check_memory()
    gauge.turn(SCARCE)
    with pytest.raises(ChatError):
        admission.check_memory()


# A server


Turn = Callable[[Left], None]


@pytest.fixture
async def server_and_turn(start_server: StartServer) -> tuple[Server, Turn]:
    server = await start_server({"metrics.enabled": True})
    memory = server.services.admission.memory

    def turn(left: Left) -> None:
        memory._read = lambda: [left]
        memory.look()

    return server, turn


@pytest.mark.slow
async def test_new_ones_are_refused_and_the_others_are_served(server_and_turn: tuple[Server, Turn]) -> None:
    server, turn = server_and_turn
    alice, bob = server.user("alice"), server.user("bob")
    room_id = await alice.make_room("bob")
    there = await bob.connect()
    turn(LOW)
    for path in ("/ws", "/events/stream"):
        reply = await server.refused_handshake(path, headers={"X-API-Key": server.api_key, "X-User-Id": "alice"})
        assert (reply.status, reply.error["code"], reply.headers["Retry-After"]) == (503, "INTERNAL_ERROR", "5")
    assert (await alice.post("/sync", {"wait": 5})).status == 503
    tenant_id = (await server.make_tenant())["tenant_id"]
    assert (await server.admin("GET", f"/tenants/{tenant_id}/export")).status == 503
    assert (await alice.get("/readyz")).status == 200
    await alice.say(room_id, "small")
    assert (await there.expect("message"))["content"] == "small"
    assert (await alice.get(f"/rooms/{room_id}/messages")).data["messages"]
    metrics = (await server.request("GET", "/metrics")).body
    assert "chatapi_memory_low 1.0" in metrics
    assert "chatapi_memory_refusals_total 4.0" in metrics
    turn(AMPLE)
    await alice.connect()


@pytest.mark.slow
async def test_while_it_is_scarce_large_bodies_are_refused_and_clients_wait(
    server_and_turn: tuple[Server, Turn],
) -> None:
    server, turn = server_and_turn
    alice = server.user("alice")
    room_id = await alice.make_room("bob")
    there = await alice.connect()
    reader, writer = await server.open()
    head = (
        f"POST /rooms/{room_id}/messages HTTP/1.1\r\nHost: chat\r\nX-API-Key: {server.api_key}\r\nX-User-Id: alice\r\n"
    )
    writer.write(f"{head}Content-Type: application/json\r\nContent-Length: 60000\r\n\r\n{{".encode())
    memory = server.services.admission.memory
    await eventually(lambda: memory._held_bytes > 0)
    turn(DIRE)
    assert (await asyncio.wait_for(reader.readline(), WAIT_SECONDS)).startswith(b"HTTP/1.1 503 ")
    for content in ("first", "second"):
        await there.send("send_message", room_id=room_id, content=content)
        await there.expect("message.sent")
    assert (await alice.post(f"/rooms/{room_id}/messages", {"content": "x" * 60_000})).status == 503
    assert (await alice.post(f"/rooms/{room_id}/messages", {"content": "small"})).status == 201
    writer.close()


@pytest.mark.slow
async def test_a_client_that_reads_nothing_makes_room(server_and_turn: tuple[Server, Turn]) -> None:
    server, turn = server_and_turn
    alice = server.user("alice")
    room_id = await alice.make_room("bob", "carol")
    slow = await server.user("bob").connect_raw(ready=True, is_narrow=True)
    carol = await server.user("carol").connect()
    [connection] = server.connections_of("bob")
    while connection.unsent_bytes() < 10_000:
        await alice.say(room_id, "x" * 5_000)
        await carol.expect("message")
    turn(SCARCE)
    await eventually(lambda: not server.connections_of("bob"))
    await alice.say(room_id, "still there")
    assert (await carol.expect("message"))["content"] == "still there"
    slow.abort()


@pytest.mark.slow
async def test_nothing_is_kept_for_slow_readers_when_a_commit_would_take_too_much(
    server_and_turn: tuple[Server, Turn],
) -> None:
    server, turn = server_and_turn
    alice = server.user("alice")
    room_id = await alice.make_room("bob", "carol")
    slow = await server.user("bob").connect_raw(ready=True, is_narrow=True)
    carol = await server.user("carol").connect()
    [bob], [quick] = server.connections_of("bob"), server.connections_of("carol")
    while bob.unsent_bytes() < 100_000:
        await alice.say(room_id, "x" * 5_000)
        await carol.expect("message")
    unsent_bytes = bob.unsent_bytes()
    turn(Left(MIN_RESERVE_BYTES // 2 + 10_000, LIMIT))
    await alice.say(room_id, "x" * 5_000)
    assert bob.state is ConnectionState.RECOVERING
    assert bob.unsent_bytes() == unsent_bytes
    assert quick.state is ConnectionState.LIVE
    await carol.expect("message")
    slow.abort()
