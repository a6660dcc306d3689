"""The one table of settings. Each field's annotation holds its type, what is accepted and its documentation.

`SETTINGS` reads them from there, so that loading, `chatapi config` and chatapi.toml cannot drift apart. The dataclasses
check nothing, so that a test may build one with any figure; `load_config` checks.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, get_type_hints

from chatapi.config.kinds import (
    MAX_URL_CHARS,
    Flag,
    Kind,
    ListOf,
    Number,
    OneOf,
    Text,
    Whole,
    is_base_url,
    is_host,
    is_key,
    is_network,
    is_origin,
    is_path,
    is_socket_path,
    is_web_url,
)

YEAR_DAYS = 365

OPTIONAL_PATH = Text("a path of up to 4096 characters", is_path, optional=True)
WEB_URL = Text(
    f"an http or https URL of up to {MAX_URL_CHARS} characters without credentials", is_web_url, optional=True
)
ORIGIN = Text(
    'an origin such as "https://app.example.com" (scheme, host and port, with no path and no wildcard), "null",'
    ' or "*" for all',
    is_origin,
)


@dataclass(frozen=True, slots=True)
class ServerConfig:
    host: Annotated[
        str,
        Text("a host name or an address without brackets, of 1 to 255 characters", is_host),
        "Address to listen on. Only this machine can connect by default, so that nothing is exposed by accident;"
        " in a container, or where the proxy is on another machine, use 0.0.0.0.",
    ] = "127.0.0.1"
    port: Annotated[int, Whole(0, 65_535), "TCP port to listen on; 0 picks a free one."] = 8080
    unix_socket: Annotated[
        str,
        Text("a path of up to 103 bytes", is_socket_path, optional=True),
        "Path of a Unix socket to listen on instead of host and port, for a proxy on the same machine. Its folder says"
        " who may connect; they are believed about X-Forwarded-For.",
    ] = ""
    tls_cert: Annotated[
        str, OPTIONAL_PATH, "PEM file with the certificate chain. Given together with tls_key, or not at all."
    ] = ""
    tls_key: Annotated[str, OPTIONAL_PATH, "PEM file with the certificate's private key."] = ""
    public_url: Annotated[
        str,
        Text(f"{WEB_URL.what}, query or fragment", is_base_url, optional=True),
        "The address under which clients reach the server, where it differs from the one it listens on (a proxy);"
        " the API documents show it, and its pages count as the server's own where a proxy changes Host.",
    ] = ""
    allowed_origins: Annotated[
        tuple[str, ...],
        ListOf(ORIGIN, 0, 1000),
        "Origins of web pages that may use the API from a browser, over CORS and WebSocket. The server's own host"
        " always may; every other page is refused. Case and default ports make no difference; each subdomain"
        " stands for itself.",
    ] = ()
    trusted_proxies: Annotated[
        tuple[str, ...],
        ListOf(Text("an IP address or network in CIDR notation", is_network), 0, 1000),
        "Proxies whose X-Forwarded-For is believed. From anyone else it could be made up to escape the limit on wrong"
        " keys.",
    ] = ()
    shutdown_grace_seconds: Annotated[
        float,
        Number(0, 3600),
        "Seconds that running requests and queued writes get to finish after SIGTERM. Container runtimes kill after"
        " 10 (Docker) or 30 (Kubernetes): raise theirs first.",
    ] = 10


@dataclass(frozen=True, slots=True)
class DatabaseConfig:
    path: Annotated[
        str,
        Text("a path of 1 to 4096 characters", is_path),
        "The SQLite file, relative to the working directory. It must be on a local disk: SQLite's locks are not"
        " reliable on network file systems.",
    ] = "chatapi.db"
    synchronous: Annotated[
        str,
        OneOf(("full", "normal")),
        "full: a confirmed message survives power loss. normal: it survives a crash of the process, but the last"
        " ones may be gone after power loss; writes are batched, so little is gained.",
    ] = "full"
    readers: Annotated[
        int,
        Whole(1, 32),
        "Connections that read, each a thread. Reads are short and share the processor with Python itself, so that"
        " two are enough.",
    ] = 2


@dataclass(frozen=True, slots=True)
class AuthConfig:
    master_key: Annotated[
        str,
        Text("16 to 512 characters of printable ASCII without spaces", is_key, optional=True, secret=True),
        "The operator's key, for /admin and the commands that use it. Without one /admin answers 401, always."
        " Choose a long random one, for instance with `openssl rand -hex 32`.",
    ] = field(default="", repr=False)
    master_key_file: Annotated[
        str,
        OPTIONAL_PATH,
        "File to read the master key from when master_key is not set (a mounted secret); white space around it is"
        " dropped.",
    ] = ""
    query_api_key: Annotated[
        bool,
        Flag(),
        "Accept ?api_key=&user_id= at /ws. Addresses end up in the logs of proxies and in browser histories: for"
        " development only.",
    ] = False


@dataclass(frozen=True, slots=True)
class LimitsConfig:
    rate_limit: Annotated[
        float,
        Number(0.001, 1_000_000),
        "Requests and frames per second for each tenant, on average. A tenant's own figure goes first.",
    ] = 100
    rate_burst: Annotated[
        int, Whole(0, 1_000_000), "Requests that a tenant may make at once after a pause; 0 = the rate_limit in force."
    ] = 0
    connections_per_user: Annotated[
        int, Whole(1, 100_000), "WebSockets that one user may hold: a few devices with a few tabs each."
    ] = 10
    connections_per_tenant: Annotated[
        int, Whole(0, 10_000_000), "WebSockets that one tenant may hold; 0 = no limit."
    ] = 0
    max_message_bytes: Annotated[
        int,
        Whole(1, 131_072),
        "UTF-8 bytes of a message's content. Over WebSocket the frame around it has to fit 131072 bytes as well.",
    ] = 65_536
    sync_limit: Annotated[
        int,
        Whole(1, 100_000),
        "Events per room that are streamed to a client that was away; of a longer backlog it gets the newest ones and"
        " is told which it has to fetch, so that one return cannot occupy the server.",
    ] = 1000
    send_buffer_bytes: Annotated[
        int,
        Whole(1024, 1_073_741_824),
        "Unsent bytes kept in memory per connection. Beyond it a slow client is served from the database as it drains.",
    ] = 1_048_576
    slow_consumer_seconds: Annotated[
        float,
        Number(0.1, 3600),
        "Seconds after which a slow connection is closed (4009) if its client has taken not a single byte. Nothing is"
        " lost: it continues where it stopped when it reconnects.",
    ] = 30


@dataclass(frozen=True, slots=True)
class WebSocketConfig:
    heartbeat_seconds: Annotated[
        float,
        Number(0.1, 3600),
        "Seconds between the server's pings. Less than timeout_seconds, and than the idle timeout of"
        " proxies (often 60).",
    ] = 30
    timeout_seconds: Annotated[
        float,
        Number(0.2, 7200),
        "Seconds of silence after which a connection is dropped; more than heartbeat_seconds, so that a client that is"
        " there has answered a ping.",
    ] = 60
    presence_grace_seconds: Annotated[
        float,
        Number(0, 300),
        "Seconds after a user's last connection ended until it is shown as offline, so that a change of network goes"
        " unnoticed.",
    ] = 5
    typing_seconds: Annotated[
        float, Number(0.1, 300), "Seconds after which a typing.start that is not repeated is stopped by the server."
    ] = 6


@dataclass(frozen=True, slots=True)
class WebhooksConfig:
    retry_schedule_seconds: Annotated[
        tuple[float, ...],
        ListOf(Number(0, 604_800), 1, 50),
        "Seconds to wait before each try, counted from the one before, with jitter added. After the last one it is a"
        " dead letter. The default spans 17 hours, so that an outage over night is survived.",
    ] = (0, 5, 30, 300, 1800, 7200, 18_000, 36_000)
    timeout_seconds: Annotated[float, Number(0.1, 300), "Seconds that one call may take in all."] = 15
    concurrency: Annotated[
        int, Whole(1, 1000), "Calls in flight at once, all tenants together; each tenant gets its turn."
    ] = 20
    allow_private_addresses: Annotated[
        bool,
        Flag(),
        "Let webhooks call private and loopback addresses. Off, a tenant cannot make this server reach into your"
        " network; switch it on only where every tenant is trusted.",
    ] = False
    dead_letter_days: Annotated[
        float, Number(0.001, 10 * YEAR_DAYS), "Days that a dead letter is kept for inspection and retry."
    ] = 30


@dataclass(frozen=True, slots=True)
class RetentionConfig:
    days: Annotated[
        float,
        Number(0, 100 * YEAR_DAYS),
        "Days that messages are kept; 0 = for ever. A tenant's own retention_days goes first.",
    ] = 0


@dataclass(frozen=True, slots=True)
class LogConfig:
    level: Annotated[str, OneOf(("debug", "info", "warning", "error")), "The least severe lines that are written."] = (
        "info"
    )
    format: Annotated[str, OneOf(("text", "json")), "text for people, json (one object per line) for collectors."] = (
        "text"
    )
    requests: Annotated[
        bool,
        Flag(),
        "A line per HTTP request. Off, since it costs throughput; failures are always logged.",
    ] = False


@dataclass(frozen=True, slots=True)
class MetricsConfig:
    enabled: Annotated[bool, Flag(), "Serve /metrics."] = True
    require_master_key: Annotated[
        bool, Flag(), "Ask for the master key at /metrics (X-Master-Key), where it can be reached from outside."
    ] = False
    tenant_label: Annotated[
        bool, Flag(), "Label metrics with the tenant's id. Each tenant multiplies the series: for few tenants only."
    ] = False


@dataclass(frozen=True, slots=True)
class PlaygroundConfig:
    enabled: Annotated[bool, Flag(), "Serve the playground at /playground."] = True


@dataclass(frozen=True, slots=True)
class Config:
    server: Annotated[ServerConfig, "Where the server listens, and whom it believes."] = field(
        default_factory=ServerConfig
    )
    database: Annotated[DatabaseConfig, "The one file that holds everything."] = field(default_factory=DatabaseConfig)
    auth: Annotated[AuthConfig, "The operator's own credential. Tenants and their keys are in the database."] = field(
        default_factory=AuthConfig
    )
    limits: Annotated[LimitsConfig, "What one tenant, user or connection may use."] = field(
        default_factory=LimitsConfig
    )
    websocket: Annotated[WebSocketConfig, "The clocks of connections."] = field(default_factory=WebSocketConfig)
    webhooks: Annotated[WebhooksConfig, "Calls to tenants' endpoints for users who are offline."] = field(
        default_factory=WebhooksConfig
    )
    retention: Annotated[RetentionConfig, "How long messages are kept."] = field(default_factory=RetentionConfig)
    log: Annotated[LogConfig, "What is logged. Keys, tokens and content never are."] = field(default_factory=LogConfig)
    metrics: Annotated[MetricsConfig, "Prometheus metrics."] = field(default_factory=MetricsConfig)
    playground: Annotated[PlaygroundConfig, "The page to try the API in a browser."] = field(
        default_factory=PlaygroundConfig
    )


@dataclass(frozen=True, slots=True)
class Setting:
    section: str
    key: str
    kind: Kind
    doc: str
    default: object

    @property
    def name(self) -> str:
        return f"{self.section}.{self.key}"

    @property
    def secret(self) -> bool:
        return isinstance(self.kind, Text) and self.kind.secret


def _read_settings(section: str, section_class: type) -> list[Setting]:
    hints = get_type_hints(section_class, include_extras=True)
    settings = []
    for item in fields(section_class):
        kind, doc = hints[item.name].__metadata__
        settings.append(Setting(section, item.name, kind, doc, item.default))
    return settings


SECTION_CLASSES: Mapping[str, type] = get_type_hints(Config)
SECTION_DOCS: Mapping[str, str] = {
    section: hint.__metadata__[0] for section, hint in get_type_hints(Config, include_extras=True).items()
}
SETTINGS: Mapping[str, Setting] = {
    setting.name: setting
    for section, section_class in SECTION_CLASSES.items()
    for setting in _read_settings(section, section_class)
}
