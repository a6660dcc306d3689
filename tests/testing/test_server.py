"""The server of the fixture `chatapi`, without pytest between it and the test."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from chatapi.client import ApiError, ChatAPI
from chatapi.testing.server import Server

pytestmark = pytest.mark.slow

ORPHAN = """
import os, signal
from chatapi.testing.server import Server
server = Server({})
server.start()
server.reset()
server.reset()
print(server._process._scratch, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
END_SECONDS = 60.0


@pytest.fixture(scope="module")
def started() -> Iterator[Server]:
    server = Server({"websocket.presence_grace_seconds": 0.1})
    server.start()
    yield server
    server.close()


@pytest.fixture
def server(started: Server) -> Iterator[Server]:
    started.reset()
    yield started
    started.hang_up()


def make_room(server: Server) -> str:
    return str(server.user("alice").create_room("group", ["bob"])["room_id"])


@pytest.mark.parametrize("has_restarted", [False, True])
def test_a_reset_leaves_the_tenant_alone(server: Server, has_restarted: bool) -> None:
    known = server.url, server.tenant_id, server.api_key, server.token_secret, server.webhook_secret, server.master_key
    alice = server.user("alice")
    other = server.tenant(rate_limit=5)
    assert other.tenant_id != server.tenant_id
    server.configure(max_message_bytes=10)
    make_room(server)
    server.clock.advance(86_400)
    if has_restarted:
        server.restart()
    logged = server.log
    server.reset()
    assert "faults" not in server.log.removeprefix(logged)  # none were on
    assert known == (
        server.url,
        server.tenant_id,
        server.api_key,
        server.token_secret,
        server.webhook_secret,
        server.master_key,
    )
    assert alice.list_rooms()["rooms"] == []
    alice.send_message(make_room(server), "more than ten bytes")
    with pytest.raises(ApiError, match="AUTHENTICATION_ERROR"):
        other.user("alice").list_rooms()


def test_a_tenant_has_its_own_users_and_settings(server: Server) -> None:
    other = server.tenant("shop", max_message_bytes=10)
    assert other.user("alice").url == server.url
    assert other.webhook_secret is None
    other.configure(webhook_url=f"{server.url}/dev/hook")
    assert other.webhook_secret not in (None, server.webhook_secret)
    room_id = other.user("alice").create_room("group")["room_id"]
    with pytest.raises(ApiError) as refused:
        other.user("alice").send_message(room_id, "more than ten bytes")
    assert refused.value.status == 400
    other.configure(max_message_bytes=None)
    other.user("alice").send_message(room_id, "more than ten bytes")
    with pytest.raises(ApiError, match=r"config\.rate_limit"):
        other.configure(rate_limit="many")
    with pytest.raises(ApiError, match="NOT_FOUND"):
        server.user("alice").get_room(room_id)


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_its_data_outlasts_it(server: Server, end: str) -> None:
    """Also where several resets have left databases behind."""
    for _ in range(3):
        server.reset()
    room_id = make_room(server)
    inbox = server.user("bob").connect()
    server.user("alice").send_message(room_id, "before")
    url = server.url
    getattr(server, end)()
    with pytest.raises(OSError):  # noqa: PT011 - which one differs
        server.clock.advance(1)
    server.start()
    assert server.url == url
    server.user("alice").send_message(room_id, "after")
    assert [inbox.wait_for("message")["content"] for _ in range(2)] == ["before", "after"]
    contents = [message["content"] for message in server.user("alice").list_messages(room_id)["messages"]]
    assert contents == ["before", "after"]
    server.reset()
    assert server.user("alice").list_rooms()["rooms"] == []
    server.kill()
    server.reset()  # as for the next test
    assert server.user("alice").list_rooms()["rooms"] == []
    assert "started" in server.log


def test_events_are_waited_for(server: Server) -> None:
    room_id = make_room(server)
    alice, inbox = server.user("alice"), server.user("bob").connect()
    for text in ("one", "two", "three"):
        alice.send_message(room_id, text)
    assert inbox.wait_for("message", content="two")["seq"] == 2
    assert [inbox.wait_for("message")["content"] for _ in range(2)] == ["one", "three"]
    with pytest.raises(AssertionError, match=r"no message content='four' within 0.05 s; there came: .*message"):
        inbox.wait_for("message", content="four", timeout_s=0.05)
    alice.ban_user("bob")
    with pytest.raises(ApiError, match="AUTHORIZATION_ERROR"):
        inbox.wait_for("message")
    with pytest.raises(ApiError, match="AUTHENTICATION_ERROR"):
        server._clients.make_user(server.url, "sk_wrong", "alice").connect()


def test_webhooks_are_waited_for(server: Server) -> None:
    server.user("alice").send_message(make_room(server), "Hello")
    call = server.webhooks.wait_for("message.offline", user_id="bob")
    assert call.is_valid
    assert [call] == server.webhooks.calls
    with pytest.raises(AssertionError, match=r"there came: message\.offline; 1 of them were waited for"):
        server.webhooks.wait_for("message.offline", timeout_s=0.05)
    body = {"type": "message.offline", "timestamp": "2025-01-01T00:00:00Z", "data": {"user_id": "forged"}}
    server._process.ask("POST", "/dev/hook", body)
    with pytest.raises(AssertionError, match=r"the signature of the webhook .* is wrong"):
        server.webhooks.wait_for("message.offline", user_id="forged")
    assert "Hello" not in server.log


def test_the_clock_is_advanced(server: Server) -> None:
    before = server.clock.now
    server.clock.advance(3600)
    assert 3600 <= (server.clock.now - before).total_seconds() < 3660
    with pytest.raises(ApiError):
        server.clock.advance(-1)


async def test_a_client_of_the_loop_of_the_test(server: Server) -> None:
    async with server.client("alice") as alice, ChatAPI(server.url, token=server.token("bob")) as bob:
        room = await alice.create_room("group", ["bob"])
        assert [one["room_id"] for one in (await bob.list_rooms())["rooms"]] == [room["room_id"]]


def test_faults_end_with_their_block_and_with_the_test(server: Server) -> None:
    alice, room_id = server.user("alice"), make_room(server)
    begun_s = time.monotonic()
    with server.faults(delay_ms=200, user_id="alice"):
        alice.get_room(room_id)
        assert time.monotonic() - begun_s >= 0.2
        assert server._process.ask("GET", "/dev/faults")["delay_ms"] == 200
    assert server._process.ask("GET", "/dev/faults")["delay_ms"] == 0
    server.faults(error={"status": 503})
    server.reset()
    assert alice.list_rooms()["rooms"] == []
    with pytest.raises(ApiError, match="delay_ms"):
        server.faults(delay_ms=-1)
    with pytest.raises(TypeError, match="lose_confirmation: no fault has this name"):
        server.faults(lose_confirmation=1)


def test_rooms_come_from_a_file(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "demo.toml"
    file.write_text('[[rooms]]\ntype = "channel"\nname = "News"\ncreated_by = "alice"\n')
    [room_id] = server.seed(file)
    assert server.user("alice").get_room(room_id)["name"] == "News"


def test_nothing_is_left_of_a_server_whose_test_was_killed() -> None:
    ran = subprocess.run([sys.executable, "-c", ORPHAN], capture_output=True, text=True, timeout=250, check=False)
    scratch = Path(ran.stdout.strip())
    assert scratch.is_absolute(), ran.stderr
    end_s = time.monotonic() + END_SECONDS
    while scratch.exists():
        assert time.monotonic() < end_s, os.listdir(scratch)
        time.sleep(0.02)
