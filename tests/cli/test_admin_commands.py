"""`chatapi tenant` and `chatapi key` against a server process, as an operator or a script runs them."""

import io
import json
import shlex
import socketserver
import threading
from contextlib import closing
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from examples import example
from server_process import ServerProcess, free_port

from chatapi.cli import main
from chatapi.cli.admin import PAGE, find_server
from chatapi.cli.errors import CliError
from chatapi.cli.output import print_table
from chatapi.cli.tenant import parse_settings
from chatapi.config import ServerConfig

SHOW_AUDIT = example("docs/operations.md", "sh", "chatapi audit")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with ServerProcess(tmp_path_factory.mktemp("server"), dev=False) as server:
        yield server


@pytest.fixture
def operator(server, tmp_path, monkeypatch):
    """Where the server is, and the master key, come from the settings."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "chatapi.toml").write_text(f"[server]\nport = {server.port}\n")
    monkeypatch.setenv("CHATAPI_AUTH_MASTER_KEY", server.master_key)


@pytest.fixture
def run(operator, capsys):
    """Runs a command that succeeds: what it prints."""

    def run(*arguments):
        status = main(arguments)
        out, err = capsys.readouterr()
        assert (status, err) == (0, "")
        return out

    return run


@pytest.fixture
def ask(run):
    """What a script reads."""
    return lambda *arguments: json.loads(run(*arguments, "--json"))


@pytest.fixture
def refuse(operator, capsys):
    """Runs a command that fails: its one line."""

    def refuse(*arguments):
        assert main(arguments) == 1
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("chatapi: ")
        assert err.count("\n") == 1
        return err.removeprefix("chatapi: ").rstrip("\n")

    return refuse


def is_accepted(server, api_key):
    connection = HTTPConnection("127.0.0.1", server.port, timeout=5)
    with closing(connection):
        connection.request("GET", "/rooms", headers={"X-API-Key": api_key, "X-User-Id": "alice"})
        status = connection.getresponse().status
    assert status in (200, 401)
    return status == 200


# Tenants


def test_the_key_of_a_new_tenant_works(server, ask):
    tenant = ask("tenant", "create", "Acme Corp")
    assert tenant["name"] == "Acme Corp"
    assert is_accepted(server, tenant["api_key"])


def test_the_secrets_of_a_new_tenant_are_shown_to_people_once(server, run):
    lines = run("tenant", "create", "Acme Corp").splitlines()
    fields = dict(line.split(maxsplit=1) for line in lines if line and not line.startswith("Keep"))
    assert is_accepted(server, fields["api_key"])
    assert fields["name"] == "Acme Corp"
    assert lines[-1] == "Keep api_key and token_secret now: shown only this once."
    shown = run("tenant", "show", fields["tenant_id"])
    assert "Acme Corp" in shown
    assert "api_key" not in shown
    assert "token_secret" not in shown


def test_show_as_json_is_the_answers_data(server, ask):
    created = ask("tenant", "create", "Acme")
    shown = ask("tenant", "show", created["tenant_id"])
    assert shown == {name: created[name] for name in ("tenant_id", "name", "config", "created_at")}


def test_the_list_is_whole_however_long(ask, run, monkeypatch):
    monkeypatch.setattr("chatapi.cli.admin.PAGE", 2)
    created = [ask("tenant", "create", f"Listed {number}")["tenant_id"] for number in range(5)]
    data = ask("tenant", "list")
    assert data["has_more"] is False
    listed = [tenant["tenant_id"] for tenant in data["tenants"]]
    assert listed[-5:] == created
    assert len(set(listed)) == len(listed)
    table = run("tenant", "list").splitlines()
    assert table[0].split() == ["tenant_id", "name", "created_at", "config"]
    assert len(table) == 1 + len(listed)


def test_a_page_is_the_most_that_the_server_gives(ask):
    assert PAGE == 100
    ask("tenant", "list")  # more would be refused


def test_settings_are_changed_and_taken_back(ask, run):
    tenant_id = ask("tenant", "create", "Acme")["tenant_id"]
    changed = ask("tenant", "set", tenant_id, "rate_limit=5", "name=2024", "webhook_url=https://example.com/hook?a=b")
    assert changed["name"] == "2024"
    assert changed["config"] == {"rate_limit": 5, "webhook_url": "https://example.com/hook?a=b"}
    assert changed["webhook_secret"].startswith("whsec_")
    again = ask("tenant", "set", tenant_id, "rate_limit=")
    assert again["config"] == {"webhook_url": "https://example.com/hook?a=b"}
    assert "webhook_secret" not in again
    assert "retention_days=1.5" in run("tenant", "set", tenant_id, "retention_days=1.5")


def test_the_backends_events_are_named(ask, refuse):
    tenant_id = ask("tenant", "create", "Acme")["tenant_id"]

    def set_events(text):
        return ask("tenant", "set", tenant_id, f"webhook_events={text}")["config"]

    assert set_events("*") == {"webhook_events": ["*"]}
    assert set_events('["message.created", "user.online"]') == {"webhook_events": ["message.created", "user.online"]}
    assert refuse("tenant", "set", tenant_id, 'webhook_events=["*", "typing"]').endswith("(config.webhook_events[1])")
    assert refuse("tenant", "set", tenant_id, "webhook_events=message.created").endswith("(config.webhook_events)")
    assert set_events("") == {}


def test_a_webhook_secret_is_shown_to_people_once(ask, run):
    tenant_id = ask("tenant", "create", "Acme")["tenant_id"]
    assert "Keep webhook_secret now" in run("tenant", "set", tenant_id, "webhook_url=https://example.com/")
    assert "webhook_secret" not in run("tenant", "set", tenant_id, "rate_limit=5")


@pytest.mark.parametrize(
    ("answer", "is_deleted"),
    [("y\n", True), ("Yes\n", True), ("n\n", False), ("\n", False), ("acme\n", False), ("", False)],
)
def test_deleting_a_tenant_asks_first(server, ask, operator, capsys, monkeypatch, answer, is_deleted):
    tenant_id = ask("tenant", "create", "Acme")["tenant_id"]
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    status = main(("tenant", "delete", tenant_id))
    out, err = capsys.readouterr()
    assert f"Delete the tenant Acme ({tenant_id})" in err
    assert (status, out) == ((0, f"{tenant_id} is deleted\n") if is_deleted else (1, ""))
    assert ("nothing was deleted" in err) is not is_deleted
    assert ("--yes" in err) is (answer == "")
    assert (tenant_id in [tenant["tenant_id"] for tenant in ask("tenant", "list")["tenants"]]) is not is_deleted


def test_a_deleted_tenant_is_gone(server, ask, run, refuse):
    tenant = ask("tenant", "create", "Acme")
    assert run("tenant", "delete", "--yes", tenant["tenant_id"]) == f"{tenant['tenant_id']} is deleted\n"
    assert not is_accepted(server, tenant["api_key"])
    assert "NOT_FOUND" in refuse("tenant", "delete", "--yes", tenant["tenant_id"])
    assert ask("tenant", "delete", "--yes", ask("tenant", "create", "Acme")["tenant_id"]) == {}


# Keys


def test_keys_are_replaced_without_downtime(server, ask, run):
    tenant = ask("tenant", "create", "Acme")
    [old] = ask("key", "list", tenant["tenant_id"])["keys"]
    new = ask("key", "create", tenant["tenant_id"])
    assert is_accepted(server, new["api_key"])
    assert is_accepted(server, tenant["api_key"])
    assert run("key", "revoke", tenant["tenant_id"], old["key_id"]) == f"{old['key_id']} is revoked\n"
    assert not is_accepted(server, tenant["api_key"])
    assert is_accepted(server, new["api_key"])
    table = run("key", "list", tenant["tenant_id"])
    assert new["key_id"] in table
    assert old["key_id"] not in table
    assert new["api_key"] not in table


def test_a_new_key_is_shown_to_people_once(server, ask, run):
    tenant_id = ask("tenant", "create", "Acme")["tenant_id"]
    lines = run("key", "create", tenant_id).splitlines()
    assert is_accepted(server, lines[1].split()[1])
    assert lines[-1] == "Keep api_key now: shown only this once."


def test_revoking_as_json(ask, refuse):
    tenant_id = ask("tenant", "create", "Acme")["tenant_id"]
    [key] = ask("key", "list", tenant_id)["keys"]
    assert ask("key", "revoke", tenant_id, key["key_id"]) == {}
    assert "NOT_FOUND" in refuse("key", "revoke", tenant_id, key["key_id"])


# What goes wrong


def test_the_servers_refusal_is_one_line(server, refuse):
    assert refuse("tenant", "show", "tenant_nope") == f"{server.url} refused the request: NOT_FOUND: Tenant not found"
    assert refuse("tenant", "show", "../keys/a b") == f"{server.url} refused the request: NOT_FOUND: Tenant not found"
    assert "VALIDATION_ERROR" in refuse("tenant", "create", "x" * 201)


def test_an_unknown_setting_is_named(ask, refuse):
    tenant_id = ask("tenant", "create", "Acme")["tenant_id"]
    assert refuse("tenant", "set", tenant_id, "rate_limi=5").endswith("(config.rate_limi)")
    assert refuse("tenant", "set", tenant_id, "rate_limit") == "rate_limit: expected KEY=VALUE"


def test_flags_go_before_the_settings(server, run, refuse, monkeypatch):
    wrong = "wrong-key-0123456789"
    line = refuse("tenant", "list", "--master-key", wrong)
    assert "AUTHENTICATION_ERROR" in line
    assert wrong not in line
    monkeypatch.setenv("CHATAPI_AUTH_MASTER_KEY", wrong)
    monkeypatch.setenv("CHATAPI_SERVER_PORT", "1")
    run("tenant", "list", "--master-key", server.master_key, "--url", f"{server.url}/")


def test_without_a_master_key_nothing_is_asked(refuse, monkeypatch):
    monkeypatch.delenv("CHATAPI_AUTH_MASTER_KEY")
    assert refuse("tenant", "list").startswith("no master key: ")


def test_a_server_that_is_not_there(refuse):
    url = f"http://127.0.0.1:{free_port()}"
    assert refuse("tenant", "list", "--url", url) == f"no answer from {url}: Connection refused; is the server running?"
    assert refuse("tenant", "list", "--url", "example.com").startswith("--url example.com: ")


def test_something_else_that_answers(refuse):
    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(502)

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Proxy) as proxy:
        threading.Thread(target=proxy.handle_request).start()
        line = refuse("tenant", "list", "--url", f"http://127.0.0.1:{proxy.server_port}")
    assert line.startswith("the server at http://127.0.0.1:")
    assert line.endswith("HTTP 502 without ChatAPI's envelope")


# Where the server is


def test_a_unix_socket_is_used_where_the_server_listens_on_one(tmp_path, monkeypatch, run, refuse):
    path = str(tmp_path / "chatapi.sock")
    monkeypatch.setenv("CHATAPI_SERVER_UNIX_SOCKET", path)
    assert refuse("tenant", "list").startswith(f"no answer from {path}: No such file or directory")
    asked = []

    class Server(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, self.headers["X-Master-Key"]))
            body = b'{"success": true, "data": {"tenants": [], "has_more": false}, "error": null}'
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    with socketserver.UnixStreamServer(path, Server) as server:
        threading.Thread(target=server.handle_request).start()
        assert run("tenant", "list").split() == ["tenant_id", "name", "created_at", "config"]
    assert asked == [("/v1/admin/tenants?limit=100&offset=0", "master-key-of-the-tests-0123456789")]


@pytest.mark.parametrize(
    ("settings", "url"),
    [
        ({}, "http://127.0.0.1:8080"),
        ({"host": "0.0.0.0", "port": 9000}, "http://127.0.0.1:9000"),
        ({"host": "::", "public_url": "https://chat.example"}, "http://[::1]:8080"),
        ({"host": "chat.internal", "tls_cert": "c", "tls_key": "k"}, "https://chat.internal:8080"),
        ({"tls_cert": "c", "tls_key": "k", "public_url": "https://chat.example"}, "https://chat.example"),
        ({"port": 0, "public_url": "https://chat.example"}, "https://chat.example"),
    ],
)
def test_the_address_follows_from_the_settings(settings, url):
    assert find_server(ServerConfig(**settings)) == (url, "")


def test_a_port_that_only_the_server_knows_has_to_be_given():
    with pytest.raises(CliError, match="give --url"):
        find_server(ServerConfig(port=0))


# Values and tables


def test_values_are_toml_and_bare_words_are_strings():
    settings = ["a=5", "b=1.5", "c=true", "d=word", 'e="5"', "f=", "g = x = y", "name=12", "h=[1, 2]", "i=1\nj=2"]
    assert parse_settings(settings) == {
        "a": 5,
        "b": 1.5,
        "c": True,
        "d": "word",
        "e": "5",
        "f": None,
        "g": "x = y",
        "name": "12",
        "h": [1, 2],
        "i": "1\nj=2",
    }
    assert parse_settings(['name="a b"', "name="]) == {"name": None}
    for wrong in ("a", "=5"):
        with pytest.raises(CliError, match="expected KEY=VALUE"):
            parse_settings([wrong])


def test_tables_are_aligned(capsys):
    print_table(("name", "rows", "config"), [("a", 5, {}), ("longer", 1234, {"x": 1, "y": None}), ("", 0, None)])
    assert capsys.readouterr().out.splitlines() == [
        "name    rows  config",
        "a          5  -",
        "longer  1234  x=1 y=-",
        "-          0  -",
    ]


def test_an_empty_table_is_its_header(capsys):
    print_table(("name", "rows"), [])
    assert capsys.readouterr().out == "name  rows\n"


def test_the_audit_is_shown_line_by_line(server, run, refuse, monkeypatch):
    monkeypatch.setattr("chatapi.cli.audit.PAGE", 2)
    tenant = server.make_tenant("acme")
    as_alice = {"key": tenant["api_key"], "user": "alice"}
    for number in range(4):  # more than a page
        server.call("PUT", f"/users/u{number}/ban", {}, **as_alice)
    arguments = ("audit", "--tenant", tenant["tenant_id"])
    entries = [json.loads(line) for line in run(*arguments, "--json").splitlines()]
    assert [entry["target"] for entry in entries[1:]] == [f"u{number}" for number in range(4)]
    lines = run(*arguments).splitlines()
    assert len(lines) == len(entries)
    first, second = ([*line.split("  ")] for line in lines[:2])
    assert first[2:] == ["master", "127.0.0.1", "tenant.create", *[tenant["tenant_id"]] * 2, first[-1]]
    assert first[-1] == f"key_id={entries[0]['details']['key_id']}"
    key_id = entries[1]["actor"]["key_id"]
    assert second == [
        entries[1]["at"],
        entries[1]["id"],
        f"{key_id} for alice",
        "127.0.0.1",
        "user.ban",
        tenant["tenant_id"],
        "u0",
        "until=-",
    ]
    assert run(*arguments, "--after", entries[-2]["id"]).splitlines() == lines[-1:]
    assert "Must be the id of an entry" in refuse("audit", "--after", "x")
    of_tenant, after = (shlex.split(line, comments=True)[1:] for line in SHOW_AUDIT.splitlines())
    assert run(*(tenant["tenant_id"] if word.startswith("tenant_") else word for word in of_tenant)) == run(*arguments)
    shown = run(*(entries[-2]["id"] if word.startswith("audit_") else word for word in after))
    assert [json.loads(line) for line in shown.splitlines()] == entries[-1:]
