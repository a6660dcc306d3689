"""`chatapi seed`, and its page docs/seeding.md."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest
from driver import Server
from examples import ROOT, example

from chatapi.cli import main
from chatapi.cli.seed import MAX_FILE_BYTES, SeedMessage, SeedRoom, SeedUser
from chatapi.protocol.requests import MAX_MEMBERS_AT_CREATION

DEMO = example("docs/seeding.md", "toml")
COMMANDS = example("docs/seeding.md", "sh")
MISTAKE = example("docs/seeding.md", "text")
PAGE = (ROOT / "docs" / "seeding.md").read_text()


@pytest.fixture
def run(
    shared_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Any:
    """Runs `chatapi seed` on a file of this content: its exit status, what it prints, and its error."""
    monkeypatch.setenv("CHATAPI_API_KEY", shared_server.api_key)
    monkeypatch.chdir(tmp_path)

    async def run(content: object, *arguments: str) -> tuple[int, str, str]:
        name = "demo.toml" if isinstance(content, str) else "demo.json"
        (tmp_path / name).write_text(content if isinstance(content, str) else json.dumps(content))
        status = await asyncio.to_thread(main, ["seed", name, "--url", shared_server.url, *arguments])
        return status, *capsys.readouterr()

    return run


def one_room(*messages: dict[str, Any], **fields: Any) -> dict[str, Any]:
    room = {"type": "group", "name": "Keepers", "created_by": "alice", "members": ["bob"], "messages": list(messages)}
    return {"rooms": [{**room, **fields}]}


def say(content: str, sender_id: str = "bob", **fields: Any) -> dict[str, Any]:
    return {"sender_id": sender_id, "content": content, **fields}


async def events_of(server: Server, room_id: str) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = (await server.user("alice").get(f"/rooms/{room_id}/events", limit=100)).data[
        "events"
    ]
    return events


async def test_the_pages_example(run: Any, shared_server: Server) -> None:
    assert 'chatapi seed demo.toml --url "$URL"' in COMMANDS
    assert "CHATAPI_API_KEY" in COMMANDS
    status, out, err = await run(DEMO, "--json")
    assert (status, err) == (0, "")
    planted = json.loads(out)
    assert (planted["users"], planted["messages"]) == (2, 4)
    group, dm = planted["rooms"]
    alice, carol = shared_server.user("alice"), shared_server.user("carol")

    room = (await alice.get(f"/rooms/{group['room_id']}")).data
    assert (room["name"], room["slow_mode_seconds"], room["member_count"]) == ("Lighthouse keepers", 30, 4)
    members = (await alice.get(f"/rooms/{group['room_id']}/members")).data["members"]
    assert {member["user_id"]: member["role"] for member in members} == {
        "alice": "admin",
        "bob": "member",
        "carol": "member",
        "dora": "admin",
    }
    first, second, third = (await alice.get(f"/rooms/{group['room_id']}/messages")).data["messages"]
    assert (first["content"], first["mentions"]) == ("Is the lamp lit?", ["alice"])
    assert first["reactions"] == [{"emoji": "👍", "count": 2, "user_ids": ["alice", "carol"]}]
    assert first["pinned_at"]
    assert (second["reply_to"], second["meta"]) == (first["message_id"], {"lamp": 1})
    assert third["thread_id"] == first["message_id"]
    [own] = (await carol.get("/rooms")).data["rooms"]
    assert own["last_read"] == third["seq"]
    [lunch] = (await alice.get(f"/rooms/{dm['room_id']}/messages")).data["messages"]
    assert (lunch["sender_id"], lunch["content"]) == ("bob", "Lunch?")
    assert (await alice.get("/users/bob")).data["metadata"] == {"team": "keepers"}
    [subscription] = (await alice.get("/subscriptions")).data["subscriptions"]
    assert subscription["topic"] == "order.shipped"

    before = await events_of(shared_server, group["room_id"])
    assert await run(DEMO, "--json") == (0, out, "")
    assert await events_of(shared_server, group["room_id"]) == before
    status, out, err = await run(DEMO)
    assert out == f"{shared_server.url} has 2 users, 2 rooms and 4 messages of demo.toml\n"


async def test_a_second_run_writes_missing_things_alone(run: Any, shared_server: Server) -> None:
    """Also in the rooms that only a second page of the list has, and with rules that would refuse its messages."""
    same = say("Fog"), say("Fog")
    _, out, _ = await run(one_room(*same, posting="admins", slow_mode_seconds=60), "--json")
    [room] = json.loads(out)["rooms"]
    room_id, alice = room["room_id"], shared_server.user("alice")
    await alice.delete(f"/rooms/{room_id}/members/bob")
    await alice.patch(
        f"/rooms/{room_id}", {"metadata": {"changed": True}, "posting": "members", "slow_mode_seconds": 0}
    )
    [first, _] = (await alice.get(f"/rooms/{room_id}/messages")).data["messages"]
    await alice.delete(f"/rooms/{room_id}/messages/{first['message_id']}")
    for number in range(101):
        await alice.make_room(name=f"Other {number}")
    again = one_room(say("New", "alice"), *same, posting="admins", slow_mode_seconds=60, admins=["bob"])
    again["rooms"][0]["messages"][1]["reactions"] = {"👍": ["bob"]}
    status, out, err = await run(again, "--json")
    assert (status, err) == (0, "")
    assert json.loads(out)["rooms"] == [room]
    messages = (await alice.get(f"/rooms/{room_id}/messages")).data["messages"]
    assert [message["content"] for message in messages] == [None, "Fog", "New"]
    found = (await alice.get(f"/rooms/{room_id}")).data
    assert (found["posting"], found["slow_mode_seconds"], found["metadata"]) == ("admins", 60, None)
    members = (await alice.get(f"/rooms/{room_id}/members")).data["members"]
    assert [member["role"] for member in members] == ["admin", "admin"]


@pytest.mark.slow
async def test_more_members_than_a_room_may_begin_with(run: Any, shared_server: Server) -> None:
    members = [f"user-{number}" for number in range(MAX_MEMBERS_AT_CREATION + 5)]
    for _ in range(2):
        status, out, err = await run(one_room(members=members), "--json")
        assert (status, err) == (0, "")
        [room] = json.loads(out)["rooms"]
        found = (await shared_server.user("alice").get(f"/rooms/{room['room_id']}")).data
        assert found["member_count"] == len(members) + 1


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (
            "[[rooms]\n",
            "demo.toml: Malformed TOML: Expected ']]' at the end of an array declaration (at line 1, column 8)",
        ),
        (one_room(say("x", "mallory")), "demo.json: rooms[0].messages[0].sender_id: Not a member of this room"),
        (one_room(say("x", mentions=["carol"])), "rooms[0].messages[0].mentions: carol is not a member of this room"),
        (
            one_room(say("x", reactions={"👍": ["carol"]})),
            "messages[0].reactions.👍: carol is not a member of this room",
        ),
        (one_room(say("x", reactions={"a b": []})), "rooms[0].messages[0].reactions.emoji: Must be 1 to 64 bytes"),
        (one_room(say("x"), say("y", reply_to="z")), "rooms[0].messages[1].reply_to: No message before this one"),
        (one_room(*[say("x", client_message_id="a")] * 2), "messages[1].client_message_id: An earlier message"),
        (one_room(say("")), "rooms[0].messages[0].content: Expected `str` of length >= 1"),
        (one_room(say("x", meta={"n": 2**60})), "rooms[0].messages[0].meta.n: Integers must be below 2^53"),
        (one_room(say("x", meta={"n": "x" * 17_000})), "messages[0].meta: Must be at most 16384 bytes as JSON"),
        (one_room(type="party"), "rooms[0].type: Invalid enum value 'party': must be one of dm, group, channel"),
        (one_room(name=None), "rooms[0].name: Required: the room is found again by it"),
        (one_room(type="dm"), None),
        (one_room(type="dm", members=[]), "rooms[0].members: A dm has one member beside the one who creates it"),
        (one_room(type="dm", slow_mode_seconds=3), "rooms[0].slow_mode_seconds: Not in a dm"),
        (one_room(colour="red"), "rooms[0]: Object contains unknown field `colour`"),
        ({"rooms": one_room()["rooms"] * 2}, "rooms[1].name: The same as rooms[0]"),
        ({"users": [{"user_id": "a b"}]}, "users[0].user_id: Must be 1 to 128 characters of printable ASCII"),
        ({"users": [{"user_id": "a", "metadata": {"n": "x" * 17_000}}]}, "users[0].metadata: Must be at most"),
        ({"users": [{"user_id": "a"}] * 2}, "users[1].user_id: The same as users[0]"),
    ],
)
async def test_a_mistake_in_the_file_is_named(run: Any, shared_server: Server, content: Any, error: str | None) -> None:
    status, out, err = await run(content)
    if error is None:
        assert (status, err) == (0, "")
        return
    assert (status, out) == (1, "")
    assert err.startswith("chatapi: demo.")
    assert error in err
    assert err.count("\n") == 1
    assert (await shared_server.user("alice").get("/rooms")).data["rooms"] == []


async def test_the_pages_mistake_is_told_so(run: Any) -> None:
    wrong = DEMO.replace('sender_id = "alice"', 'sender_id = "mallory"')
    assert await run(wrong) == (1, "", MISTAKE)


async def test_a_refusal_of_the_server_names_the_place(run: Any, shared_server: Server) -> None:
    await run(one_room(say("x", client_message_id="a")))
    status, _, err = await run(one_room(say("other", client_message_id="a")))
    assert status == 1
    assert err.startswith("chatapi: the server refused rooms[0].messages[0]")
    assert "CONFLICT" in err
    await shared_server.user("alice").put("/users/mallory/ban", {})
    status, _, err = await run({"users": [{"user_id": "mallory", "topics": ["news"]}]})
    assert (status, err.count("\n")) == (1, 1)
    assert "the server refused users[0]: AUTHORIZATION_ERROR" in err


async def test_a_command_that_cannot_begin_says_why(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*arguments: str) -> str:
        assert main(["seed", *arguments]) == 1
        return capsys.readouterr().err

    (tmp_path / "large.json").write_bytes(b" " * (MAX_FILE_BYTES + 1))
    (tmp_path / "latin.toml").write_bytes(b'a = "\xe9"')
    (tmp_path / "empty.json").write_text("{}")
    refusals = [
        await asyncio.to_thread(refuse, *arguments)
        for arguments in (
            ("none.toml",),
            ("large.json",),
            ("latin.toml",),
            ("empty.json", "--url", "localhost:8080"),
            ("empty.json", "--url", "http://127.0.0.1:1", "--api-key", "sk_x"),
        )
    ]
    assert refusals[0] == "chatapi: none.toml: No such file or directory\n"
    assert refusals[1] == "chatapi: large.json: larger than 32 MiB; make several files of it\n"
    assert refusals[2] == "chatapi: latin.toml: Malformed TOML: not UTF-8 at byte 5\n"
    assert refusals[3] == "chatapi: --url localhost:8080: url must start with http:// or https://\n"
    assert refusals[4].startswith("chatapi: no answer from http://127.0.0.1:1: Connection refused")
    monkeypatch.delenv("CHATAPI_API_KEY")
    assert "no API key: set CHATAPI_API_KEY" in await asyncio.to_thread(refuse, "empty.json")
    status, _, err = await run({}, "--api-key", "sk_wrong")
    assert status == 1
    assert "AUTHENTICATION_ERROR" in err


def test_the_page_names_each_field() -> None:
    for what, record in (("a user", SeedUser), ("a room", SeedRoom), ("a message", SeedMessage)):
        [row] = re.findall(rf"^\| {what} \| (.+) \|$", PAGE, re.MULTILINE)
        named = set(re.findall(r"`(\w+)`", row))
        assert named == set(record.__struct_fields__)
