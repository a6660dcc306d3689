import argparse
import contextlib
import os
import tomllib
from dataclasses import fields, replace
from pathlib import Path
from typing import get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatapi.cli import config as command
from chatapi.config import (
    SECTION_DOCS,
    SETTINGS,
    Config,
    ConfigError,
    LimitsConfig,
    RetentionConfig,
    Setting,
    TenantSettings,
    load_config,
    parse_tenant_config,
    resolve_settings,
)
from chatapi.config.tenant import SERVERS_SETTINGS, TENANT_KINDS
from chatapi.errors import ChatError, Code

ROOT = Path(__file__).parent.parent

NOBODY = 65534


@pytest.fixture(autouse=True)
def empty_directory(tmp_path, monkeypatch):
    """No test finds a chatapi.toml that it did not write."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("chatapi.config.load.SEARCH_PATHS", (Path("chatapi.toml"), tmp_path / "etc.toml"))
    return tmp_path


def load(text="", environ=None, flags=None):
    Path("chatapi.toml").write_text(text)
    return load_config(None, environ or {}, flags or {})


def refusal(text="", environ=None, flags=None):
    with pytest.raises(ConfigError) as caught:
        load(text, environ, flags)
    assert "\n" not in str(caught.value)
    return caught.value


# The documented settings


def uncommented(text):
    return "\n".join(line[1:] if line[:1] == "#" and line[1:2] not in ("", " ") else line for line in text.splitlines())


def test_chatapi_toml_is_the_output_of_the_command():
    assert (ROOT / "chatapi.toml").read_text() == command.default_toml()


def test_chatapi_toml_holds_every_setting_with_its_default():
    document = tomllib.loads(uncommented((ROOT / "chatapi.toml").read_text()))
    listed = {f"{section}.{key}": value for section, table in document.items() for key, value in table.items()}
    defaults = {
        name: list(setting.default) if isinstance(setting.default, tuple) else setting.default
        for name, setting in SETTINGS.items()
    }
    assert listed == defaults


def test_chatapi_toml_changes_nothing_as_it_stands():
    loaded = load((ROOT / "chatapi.toml").read_text())
    assert loaded.config == Config()
    assert set(loaded.sources.values()) == {"default"}


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
def test_every_setting_states_its_bounds_and_keeps_them(setting: Setting):
    text = " ".join((ROOT / "chatapi.toml").read_text().replace("\n# ", " ").split())
    assert f"Expected: {setting.kind.expected}." in text
    assert setting.doc in text
    assert setting.kind.accepts(setting.default)


def test_the_table_and_the_dataclasses_name_the_same_settings():
    config = Config()
    names = [
        f"{section.name}.{item.name}" for section in fields(config) for item in fields(getattr(config, section.name))
    ]
    assert list(SETTINGS) == names
    assert list(SECTION_DOCS) == [section.name for section in fields(config)]


# Where values come from


def test_later_sources_win_and_are_named():
    loaded = load(
        "[server]\nport = 1\nhost = 'a'\n[limits]\nrate_limit = 0.5",
        {"CHATAPI_SERVER_PORT": "2", "CHATAPI_SERVER_HOST": "b"},
        {"server.port": 3, "database.path": None},
    )
    assert (loaded.config.server.port, loaded.config.server.host, loaded.config.limits.rate_limit) == (3, "b", 0.5)
    assert loaded.sources["server.port"] == "command line"
    assert loaded.sources["server.host"] == "CHATAPI_SERVER_HOST"
    assert loaded.sources["limits.rate_limit"] == "chatapi.toml"
    assert loaded.sources["database.path"] == "default"


@contextlib.contextmanager
def kept_out(folder):
    """As another user than the folder's, also where the tests run as root."""
    folder.chmod(0)
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)
        folder.chmod(0o700)


def test_a_current_directory_of_somebody_else_has_no_file(tmp_path, monkeypatch):
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    monkeypatch.chdir(foreign)
    monkeypatch.setattr("chatapi.config.load.SEARCH_PATHS", (Path("chatapi.toml"), Path("/nowhere/chatapi.toml")))
    with kept_out(foreign):
        assert load_config(None, {}, {}).config == Config()


def test_a_usual_place_that_may_not_be_looked_into_stops_the_start(tmp_path, monkeypatch):
    foreign = tmp_path / "etc"
    foreign.mkdir()
    monkeypatch.setattr("chatapi.config.load.SEARCH_PATHS", (foreign / "chatapi.toml",))
    with kept_out(foreign), pytest.raises(ConfigError, match=r"etc/chatapi.toml: expected a readable file"):
        load_config(None, {}, {})


def test_the_file_is_looked_for_in_order(empty_directory):
    for name, port in (("flag.toml", 1), ("variable.toml", 2), ("chatapi.toml", 3), ("etc.toml", 4)):
        (empty_directory / name).write_text(f"[server]\nport = {port}")
    environ = {"CHATAPI_CONFIG": "variable.toml"}
    assert load_config("flag.toml", environ, {}).config.server.port == 1
    assert load_config(None, environ, {}).config.server.port == 2
    assert load_config(None, {"CHATAPI_CONFIG": ""}, {}).config.server.port == 3
    Path("chatapi.toml").unlink()
    assert load_config(None, {}, {}).config.server.port == 4
    Path("etc.toml").unlink()
    assert load_config(None, {}, {}).file is None


@pytest.mark.parametrize(("path", "environ"), [("absent.toml", {}), (None, {"CHATAPI_CONFIG": "absent.toml"})])
def test_a_file_that_was_named_has_to_exist(path, environ):
    with pytest.raises(ConfigError, match=r"^absent\.toml: expected a readable file, got No such file"):
        load_config(path, environ, {})


# Variables


@pytest.mark.parametrize(
    ("variable", "text", "name", "value"),
    [
        ("CHATAPI_AUTH_MASTER_KEY", "1234567890123456", "auth.master_key", "1234567890123456"),
        ("CHATAPI_AUTH_MASTER_KEY", "[1,2,3,4,5,6,7,8]", "auth.master_key", "[1,2,3,4,5,6,7,8]"),
        ("CHATAPI_AUTH_MASTER_KEY", '"quoted-in-a-shell"', "auth.master_key", "quoted-in-a-shell"),
        ("CHATAPI_AUTH_MASTER_KEY", '"half-of-the-quotes', "auth.master_key", '"half-of-the-quotes'),
        ("CHATAPI_DATABASE_PATH", "/data/chat.db", "database.path", "/data/chat.db"),
        ("CHATAPI_LOG_LEVEL", "debug", "log.level", "debug"),
        ("CHATAPI_LOG_REQUESTS", "true", "log.requests", True),
        ("CHATAPI_LIMITS_RATE_LIMIT", "0.5", "limits.rate_limit", 0.5),
        ("CHATAPI_WEBHOOKS_RETRY_SCHEDULE_SECONDS", "[0, 5]", "webhooks.retry_schedule_seconds", (0, 5)),
        ("CHATAPI_SERVER_ALLOWED_ORIGINS", '["*"]', "server.allowed_origins", ("*",)),
        ("CHATAPI_SERVER_PORT", "  ", "server.port", 8080),
        ("CHATAPI_SERVER_PORT", "", "server.port", 8080),
    ],
)
def test_variables_hold_toml(variable, text, name, value):
    loaded = load(environ={variable: text})
    assert loaded.value(SETTINGS[name]) == value


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("CHATAPI_URL", "x"),
        ("CHATAPI_SERVER", "x"),
        ("CHATAPI_KEY", "x"),
        ("CHATAPI_TO_MASTER_KEY", "x" * 20),
        ("PATH", "x"),
        ("SEVER_PORT", "1"),
        # Kubernetes sets these for a service of the name `chatapi`.
        ("CHATAPI_SERVICE_HOST", "10.0.0.1"),
        ("CHATAPI_SERVICE_PORT", "8080"),
        ("CHATAPI_PORT", "tcp://10.0.0.1:8080"),
        ("CHATAPI_PORT_8080_TCP_ADDR", "10.0.0.1"),
    ],
)
def test_variables_of_other_programs_are_left_alone(variable, text):
    assert load(environ={variable: text}).config == Config()


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("CHATAPI_SEVER_PORT", "CHATAPI_SERVER_PORT"),
        ("CHATAPI_SERVERPORT", "CHATAPI_SERVER_PORT"),
        ("CHATAPI_PORT", "CHATAPI_SERVER_PORT"),
        ("CHATAPI_MASTER_KEY", "CHATAPI_AUTH_MASTER_KEY"),
        ("CHATAPI_LIMIT_RATE_LIMIT", "CHATAPI_LIMITS_RATE_LIMIT"),
        ("CHATAPI_AUHT_MASTER_KEY", "CHATAPI_AUTH_MASTER_KEY"),
        ("CHATAPI_WEBSOCKETS_HEARTBEAT_SECONDS", "CHATAPI_WEBSOCKET_HEARTBEAT_SECONDS"),
    ],
)
def test_a_variable_that_looks_like_a_slip_stops_the_start(variable, meant):
    error = refusal(environ={variable: "top-secret-of-the-test"})
    assert str(error) == f"environment: {variable}: expected {meant}, got an unknown section"


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="\"'"), min_size=16, max_size=512))
def test_any_key_passes_through_a_variable_unchanged(key):
    assert load_config(None, {"CHATAPI_AUTH_MASTER_KEY": key}, {}).config.auth.master_key == key


# Refusals


@pytest.mark.parametrize(
    ("text", "environ", "message"),
    [
        ("[server]\nprot = 1", {}, "chatapi.toml: server.prot: expected port, got an unknown key"),
        ("[log]\nx = 1", {}, "chatapi.toml: log.x: expected one of level, format, requests, got an unknown key"),
        ("[sever]\nport = 1", {}, "chatapi.toml: sever: expected server, got an unknown section"),
        ("server = 1", {}, "chatapi.toml: server: expected a section, [server], got int"),
        ("[server]\nport = '1'", {}, "chatapi.toml: server.port: expected a whole number from 0 to 65535, got '1'"),
        ("[server]\nport = true", {}, "chatapi.toml: server.port: expected a whole number from 0 to 65535, got True"),
        ("[server]\nport = 65536", {}, "chatapi.toml: server.port: expected a whole number from 0 to 65535, got 65536"),
        (
            "[limits]\nrate_limit = nan",
            {},
            "chatapi.toml: limits.rate_limit: expected a number from 0.001 to 1000000, got nan",
        ),
        (
            "[log]\nlevel = 'loud'",
            {},
            "chatapi.toml: log.level: expected one of debug, info, warning, error, got 'loud'",
        ),
        ("[log]\nrequests = 1", {}, "chatapi.toml: log.requests: expected true or false, got 1"),
        ("", {"CHATAPI_SERVER_PROT": "1"}, "environment: CHATAPI_SERVER_PROT: expected port, got an unknown key"),
        ("", {"CHATAPI_LOG_REQUESTS": "yes"}, "environment: CHATAPI_LOG_REQUESTS: expected true or false, got 'yes'"),
        ("[server]\ntls_cert = 'a'", {}, "chatapi.toml: server.tls_cert: expected server.tls_key beside it"),
        (
            "",
            {"CHATAPI_SERVER_TLS_KEY": "a"},
            "CHATAPI_SERVER_TLS_KEY: server.tls_key: expected server.tls_cert beside it",
        ),
        (
            "[websocket]\ntimeout_seconds = 30",
            {},
            "chatapi.toml: websocket.timeout_seconds: expected more than websocket.heartbeat_seconds (30), got 30",
        ),
    ],
)
def test_refusal_names_the_source_the_key_and_the_reason(text, environ, message):
    assert str(refusal(text, environ)) == message


@pytest.mark.parametrize("schedule", ["[]", "5", "[-1]", "[604801]", "['x']", str([1] * 51)])
def test_the_retry_schedule_has_bounds(schedule):
    error = refusal(f"[webhooks]\nretry_schedule_seconds = {schedule}")
    assert error.key == "webhooks.retry_schedule_seconds"
    assert error.expected == "a list of 1 to 50 items, each a number from 0 to 604800"


@pytest.mark.parametrize("text", ["[server", b"\xff"])
def test_a_file_that_is_not_toml_is_refused(text):
    Path("chatapi.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError, match=r"^chatapi\.toml: expected (valid TOML|UTF-8 text)"):
        load_config(None, {}, {})


def test_a_flag_out_of_bounds_is_refused():
    assert str(refusal(flags={"server.port": -1})).startswith("command line: server.port: expected")


@pytest.mark.parametrize(
    "text", ["[auth]\nmaster_key = 'top secret'", "auth = 'top secret'", "[auth]\nkey = 'top secret'"]
)
def test_a_refusal_never_shows_a_secret(text):
    assert "secret" not in str(refusal(text))


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        (
            "server.allowed_origins",
            [
                *("*", "null", "https://a.example:8443", "app://x", "HTTPS://A.Example:443", "http://[::1]:3000"),
                *("https://bücher.example", "chrome-extension://abcdefgh", "http://a_b.example.", "http://10.0.0.1"),
            ],
            [
                *("a.example", "https://a/", "https://", "https://*.example.com", "https://a.example/path"),
                *(
                    "https://a?b",
                    "https://u@a.example",
                    "https://a.example:0",
                    "https://a.example:65536",
                    "https://a:b",
                ),
                *("https://[::1", "https://[fe80::1%eth0]", "https://a b", "https://a.example#x", "file://", "null "),
                *("NULL", "", "//a"),
            ],
        ),
        (
            "server.trusted_proxies",
            ["10.0.0.0/8", "10.1.2.3/8", "::1", "::ffff:10.0.0.0/104", "2001:DB8::/32"],
            ["10.0.0.0/33", "proxy", "", "10.0.0.1:80", "[::1]", "10.0.0.0/8,::1", "*"],
        ),
        ("webhooks.retry_schedule_seconds", [0, 5], [True, "5", -1]),
    ],
)
def test_items_of_lists_are_checked(name, good, bad):
    kind = SETTINGS[name].kind
    assert kind.accepts(good)
    assert not [item for item in bad if kind.accepts([item])]


def test_a_refused_list_names_the_item():
    error = str(refusal("[server]\nallowed_origins = ['https://a.example', 'https://*.b.example']"))
    assert error.startswith("chatapi.toml: server.allowed_origins: expected a list of 0 to 1000 items, each an origin")
    assert error.endswith("got 'https://*.b.example' as item 1")
    assert "no wildcard" in error


@pytest.mark.parametrize("host", ["[::1]", "a b", "", "http://localhost", "localhost/x"])
def test_a_host_to_listen_on_has_no_brackets_and_no_scheme(host):
    assert not SETTINGS["server.host"].kind.accepts(host)
    assert SETTINGS["server.host"].kind.accepts("::1")


@pytest.mark.parametrize("url", ["https://a.example/?b", "https://a.example/#b", "https://u@a.example", "a.example"])
def test_a_public_url_takes_a_path_at_its_end(url):
    assert not SETTINGS["server.public_url"].kind.accepts(url)
    assert SETTINGS["server.public_url"].kind.accepts("https://a.example/base")


def test_a_socket_path_is_bounded_in_bytes():
    kind = SETTINGS["server.unix_socket"].kind
    assert kind.accepts("é" * 51)
    assert not kind.accepts("é" * 52)


# The master key's file


def test_the_master_key_is_read_from_its_file(empty_directory):
    (empty_directory / "key").write_text("  the-key-of-the-file\n")
    loaded = load("[auth]\nmaster_key_file = 'key'")
    assert loaded.config.auth.master_key == "the-key-of-the-file"
    assert loaded.sources["auth.master_key"] == "key"


def test_a_master_key_goes_before_its_file():
    assert load("[auth]\nmaster_key = 'sixteen-letters.'\nmaster_key_file = 'absent'").config.auth.master_key == (
        "sixteen-letters."
    )


@pytest.mark.parametrize("content", [None, b"", b"two words", b"x" * 5000, b"x" * 15, b"\xff"])
def test_an_unusable_key_file_stops_the_start(empty_directory, content):
    if content is not None:
        (empty_directory / "key").write_bytes(content)
    assert refusal("[auth]\nmaster_key_file = 'key'").key == "auth.master_key_file"


def test_the_master_key_is_not_in_the_configurations_text():
    assert "the-secret" not in repr(load(environ={"CHATAPI_AUTH_MASTER_KEY": "the-secret-of-the-test"}))


# A tenant's own figures


def test_a_tenants_figures_go_before_the_servers():
    server = replace(Config(), limits=LimitsConfig(rate_limit=10, rate_burst=40), retention=RetentionConfig(days=7))
    config = parse_tenant_config({"rate_limit": 2.5, "connections_per_tenant": 3, "retention_days": None})
    settings = resolve_settings(config, server)
    assert (settings.rate_limit, settings.rate_burst) == (2.5, 40)
    assert (settings.connections_per_tenant, settings.connections_per_user) == (3, 10)
    assert (settings.retention_days, settings.max_message_bytes, settings.webhook_url) == (7, 65_536, None)


@pytest.mark.parametrize("key", SERVERS_SETTINGS)
def test_a_tenants_setting_has_the_type_and_the_bounds_of_the_servers(key):
    setting = SETTINGS[SERVERS_SETTINGS[key]]
    section = type(getattr(Config(), setting.section))
    assert get_type_hints(TenantSettings)[key] == get_type_hints(section)[setting.key]
    assert TENANT_KINDS[key] is setting.kind


@pytest.mark.parametrize(("rate", "burst"), [(100, 100), (2.5, 3), (0.5, 1)])
def test_a_burst_of_0_is_the_rate_in_force_and_lets_a_request_pass(rate, burst):
    assert resolve_settings({"rate_limit": rate}, Config()).rate_burst == burst


def test_a_tenant_takes_the_rate_back_as_its_burst():
    server = replace(Config(), limits=LimitsConfig(rate_burst=40))
    assert resolve_settings({"rate_limit": 5, "rate_burst": 0}, server).rate_burst == 5


def test_a_tenants_config_comes_back_as_it_was_given():
    given_config = {"rate_limit": 5, "webhook_url": "https://a.example/hook", "connections_per_tenant": 0}
    assert parse_tenant_config({**given_config, "rate_burst": None}) == given_config
    assert parse_tenant_config({"webhook_url": ""}) == {}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("colour", "red"),
        ("rate_limit", 0),
        ("rate_limit", "5"),
        ("rate_limit", True),
        ("rate_burst", -1),
        ("rate_burst", 1.5),
        ("connections_per_user", 0),
        ("max_message_bytes", 0),
        ("retention_days", -1),
        ("webhook_url", 5),
        ("webhook_url", "ftp://a.example"),
        ("webhook_url", "https://"),
        ("webhook_url", "https://user:password@a.example"),
        ("webhook_url", "https://a.example:99999"),
        ("webhook_url", "https://a.example:0"),
        ("webhook_url", "https://[::1"),
        ("webhook_url", "https://a.example/a b"),
        ("webhook_url", "https://a.example/\n"),
        ("webhook_url", "https://a.example/" + "a" * 2048),
    ],
)
def test_a_tenants_config_is_checked(key, value):
    with pytest.raises(ChatError) as caught:
        parse_tenant_config({key: value})
    assert (caught.value.code, caught.value.field) == (Code.VALIDATION_ERROR, f"config.{key}")


# The command


@pytest.fixture
def run(capsys):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)

    def run_command(*arguments):
        args = parser.parse_args(arguments)
        assert args.run(args) == 0
        return capsys.readouterr().out

    return run_command


def test_the_command_prints_the_default_file(run):
    assert run("--default") == (ROOT / "chatapi.toml").read_text()


def test_the_command_shows_values_with_their_sources(run, monkeypatch, empty_directory):
    (empty_directory / "my.toml").write_text(
        '[server]\npublic_url = "https://a.example/"\n[database]\npath = "a\\"\\u0007b"'
    )
    monkeypatch.setenv("CHATAPI_AUTH_MASTER_KEY", "the-secret-of-the-test")
    output = run("--config", "my.toml")
    assert "# file: my.toml\n" in output
    assert 'public_url = "https://a.example/"  # my.toml\n' in output
    assert 'master_key = "********"  # CHATAPI_AUTH_MASTER_KEY\n' in output
    assert "port = 8080  # default\n" in output
    assert "the-secret" not in output
    assert tomllib.loads(output)["database"]["path"] == 'a"\ab'


def test_the_command_does_not_mask_a_key_that_is_not_there(run):
    assert 'master_key = ""  # default\n' in run()
