"""Calls that other tools make of the OpenAPI document: a collection in Postman, and generated clients."""

import json
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from server_process import ServerProcess, free_port

HERE = Path(__file__).parent / "documents"
DEAD_LETTER_SECONDS = 20.0

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    settings = {"webhooks.allow_private_addresses": "true", "webhooks.retry_schedule_seconds": "[0]"}
    with ServerProcess(tmp_path, settings, dev=False) as server:
        yield server


def call(server: ServerProcess, method: str, path: str, body: object = None, **headers: str) -> Any:
    data = None if body is None else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(
        server.url + path, data, {"Content-Type": "application/json", **named}, method=method
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        text = answer.read()
    return json.loads(text)["data"] if text else None


def run(*command: str, directory: Path) -> str:
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def save_document(server: ServerProcess, directory: Path) -> Path:
    with urllib.request.urlopen(f"{server.url}/openapi.json", timeout=60) as answer:
        (directory / "openapi.json").write_bytes(answer.read())
    return directory / "openapi.json"


# Postman


def make_what_the_examples_name(server: ServerProcess) -> tuple[str, dict[str, str]]:
    """A tenant in which there is one of everything: its key, and the ids for those of the examples."""
    master = {"X_Master_Key": server.master_key}
    config = {"webhook_url": f"http://127.0.0.1:{free_port()}/"}
    tenant = call(server, "POST", "/admin/tenants", {"name": "Acme", "config": config}, **master)
    alice = {"X_API_Key": tenant["api_key"], "X_User_Id": "alice"}
    room = call(server, "POST", "/rooms", {"type": "group", "members": ["zoe"]}, **alice)["room_id"]
    for _ in range(42):  # the examples' seq
        message = call(server, "POST", f"/rooms/{room}/messages", {"content": "Hello"}, **alice)
    targets = {"topic": "t", "payload": 1, "targets": {"user_ids": ["alice"]}}
    call(server, "POST", "/notify", targets, **alice)
    report = f"/rooms/{room}/messages/{message['message_id']}/report"
    admin = f"/admin/tenants/{tenant['tenant_id']}"
    ids = {
        "room_5f3a9c0e71b24d6688aa10cf": room,
        "msg_0abc5d2e81f3a704": message["message_id"],
        "notif_0abc5d2f02c3a704": call(server, "GET", "/notifications", **alice)["notifications"][0]["notification_id"],
        "sub_0abc5d2f9113a704": call(server, "POST", "/subscriptions", {"topic": "x"}, **alice)["subscription_id"],
        "report_0abc5d2e81f3a704": call(server, "POST", report, {"reason": "spam"}, **alice)["report_id"],
        "tenant_9b1f6c3a2d4e5f607182": tenant["tenant_id"],
        "key_1c2d3e4f5a6b7c8d": call(server, "POST", f"{admin}/keys", **master)["key_id"],
        "dlv_0abc5d2e81f3a70400000001": wait_for_dead_letter(server, master),
    }
    return tenant["api_key"], ids


def wait_for_dead_letter(server: ServerProcess, master: dict[str, str]) -> str:
    deadline_s = time.monotonic() + DEAD_LETTER_SECONDS
    while not (dead := call(server, "GET", "/admin/dead-letters", **master)["failed_messages"]):
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    return str(dead[0]["id"])


def open_stream(server: ServerProcess, room_id: str, api_key: str) -> str:
    """A message with as many appends as the examples say, the first of which is an example, too."""
    alice = {"X_API_Key": api_key, "X_User_Id": "alice"}
    path = f"/rooms/{room_id}/messages"
    message_id = str(call(server, "POST", path, {"stream": True}, **alice)["message_id"])
    for index in range(1, 8):
        call(server, "POST", f"{path}/{message_id}/append", {"index": index, "text": "Hello"}, **alice)
    return message_id


# In this order: others need what they make.
OF_STREAMS = ("append", "cancel", "finish")
FIRST = (*(("POST", name) for name in OF_STREAMS), ("POST", "members"), ("PUT", "users"), ("PUT", "ban"))
# And these in this one: each takes something away that the others need.
LAST = (
    ("DELETE", "reactions"),
    ("DELETE", "pins"),
    ("DELETE", "blocks"),
    ("DELETE", "ban"),
    ("DELETE", "messages"),
    ("DELETE", "members"),
    ("PUT", "bans"),
    ("DELETE", "bans"),
    ("DELETE", "subscriptions"),
    ("DELETE", "rooms"),
    ("DELETE", "users"),
    ("DELETE", "keys"),
    ("DELETE", "tenants"),
)


def list_requests(folder: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for item in folder["item"]:
        if "item" in item:
            yield from list_requests(item)
        else:
            yield item


def rank(item: dict[str, Any]) -> int:
    path = item["request"]["url"]["path"]
    if path == ["admin", "dead-letters", "retry"]:
        return 1
    step = item["request"]["method"], [part for part in path if not part.startswith(":")][-1]
    if step in FIRST:
        return FIRST.index(step) - len(FIRST)
    return 2 + LAST.index(step) if step[0] == "DELETE" or step in LAST else 0


def make_collection(
    converted: str, ids: dict[str, str], stream_id: str, api_key: str, master_key: str
) -> dict[str, Any]:
    """What a person does after the import: fills in the keys, and the ids of what there is."""
    for example, real in ids.items():
        assert example in converted
        converted = converted.replace(example, real)
    collection: dict[str, Any] = json.loads(converted)
    items = sorted(list_requests(collection), key=rank)
    # There is no other server, and no file of a tenant.
    items = [item for item in items if item["request"]["url"]["path"][-1] not in ("move", "import")]
    for item in items:
        request = item["request"]
        if request["url"]["path"] == ["events", "stream"]:
            request["method"] = "HEAD"  # its answer to GET does not end
        if request["url"]["path"][-1] in OF_STREAMS:
            for variable in request["url"]["variable"]:
                if variable["key"] == "message_id":
                    variable["value"] = stream_id
        for header in request.get("header", ()):
            if header["key"] == "X-Client-Message-Id":  # the two routes of pipes would write the same message
                header["disabled"] = True
        for entry in (request.get("auth") or {}).get("apikey", ()):
            if entry["key"] == "value":
                is_operators = {"key": "key", "value": "X-Master-Key"} in request["auth"]["apikey"]
                entry["value"] = master_key if is_operators else api_key
        for parameter in request["url"].get("query", ()):
            # One page has one place to start from, and one question; the server's file is not the example's.
            parameter["disabled"] = parameter["key"] in (
                "before_seq",
                "before",
                "cursor",
                "database",
                "reply_to",
                "thread_id",
                "top_level",
            ) or (parameter["key"], request["url"]["path"]) in (("q", ["users"]), ("after", ["admin", "audit"]))
    collection["item"] = items
    check = "pm.test('2xx', () => pm.expect(pm.response.code, pm.response.text()).to.be.within(200, 299));"
    collection["event"] = [{"listen": "test", "script": {"exec": [check]}}]
    return collection


def test_newman_runs_the_collection_green(document_tools: None, server: ServerProcess, tmp_path: Path) -> None:
    api_key, ids = make_what_the_examples_name(server)
    document = save_document(server, tmp_path)
    converted = run("node", "import.cjs", "collection", str(document), directory=HERE)
    assert json.loads(converted)["variable"] == [{"key": "baseUrl", "value": server.url}]
    stream_id = open_stream(server, ids["room_5f3a9c0e71b24d6688aa10cf"], api_key)
    collection = make_collection(converted, ids, stream_id, api_key, server.master_key)
    (tmp_path / "collection.json").write_text(json.dumps(collection))
    operations = [op for path in json.loads(document.read_text())["paths"].values() for op in path.values()]
    assert len(collection["item"]) + 2 == len(operations)
    newman = str(HERE / "node_modules" / ".bin" / "newman")
    run(newman, "run", "collection.json", "--color", "off", directory=tmp_path)


# Generated clients


def test_the_types_of_openapi_typescript(document_tools: None, server: ServerProcess, tmp_path: Path) -> None:
    for name in ("package.json", "tsconfig.json", "typed.mjs"):
        shutil.copy(HERE / name, tmp_path)
    (tmp_path / "node_modules").symlink_to(HERE / "node_modules")
    tools = HERE / "node_modules" / ".bin"
    document = str(save_document(server, tmp_path))
    run(str(tools / "openapi-typescript"), document, "-o", "schema.d.ts", directory=tmp_path)
    run(str(tools / "tsc"), "--project", "tsconfig.json", directory=tmp_path)
    assert run("node", "typed.mjs", server.url, server.create_tenant("acme"), directory=tmp_path) == "ok\n"


PYTHON_CLIENT = """
import sys
from chat_api_client import Client
from chat_api_client.api.messages import list_messages, send_message
from chat_api_client.api.rooms import create_room, list_rooms
from chat_api_client.models import CreateRoom, MessageDraft, RoomType

url, key = sys.argv[1:]
client = Client(base_url=url, headers={"X-API-Key": key}, raise_on_unexpected_status=True)
room = create_room.sync(client=client, body=CreateRoom(type_=RoomType.GROUP, members=["bob"]), x_user_id="alice")
draft = MessageDraft(content="Hello")
sent = send_message.sync(room.data.room_id, client=client, body=draft, x_user_id="alice")
page = list_messages.sync(room.data.room_id, client=client, x_user_id="bob", limit=10)
rooms = list_rooms.sync(client=client, x_user_id="bob")
assert [message.content for message in page.data.messages] == ["Hello"], page
assert rooms.data.rooms[0].last_message.seq == sent.data.seq == 1
print("ok")
"""
UNKNOWN_TO_THE_GENERATOR = ("/rooms/{room_id}/messages/stream", "/users/{user_id}/export")


def test_the_client_of_openapi_python_client(server: ServerProcess, tmp_path: Path) -> None:
    generate = (sys.executable, "-m", "openapi_python_client", "generate", "--meta", "none", "--fail-on-warning")
    path = save_document(server, tmp_path)
    document = json.loads(path.read_text())
    # It cannot send text, nor read lines of JSON, and would leave these routes out with a warning.
    for unknown in UNKNOWN_TO_THE_GENERATOR:
        document["paths"].pop(unknown)
    path.write_text(json.dumps(document))
    said = run(*generate, "--path", str(path), directory=tmp_path)
    assert "WARNING" not in said
    (tmp_path / "use.py").write_text(PYTHON_CLIENT)
    assert run(sys.executable, "use.py", server.url, server.create_tenant("acme"), directory=tmp_path) == "ok\n"
