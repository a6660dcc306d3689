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
    ListOf,
    Number,
    OneOf,
    Text,
    ValueKind,
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
        "Path of a Unix socket to listen on instead of host and port, for a proxy on the same machine. The"
        " permissions of its folder decide who may connect; the server believes the X-Forwarded-For of everyone who"
        " does.",
    ] = ""
    tls_cert: Annotated[
        str, OPTIONAL_PATH, "PEM file with the certificate chain. Set it together with tls_key, or neither."
    ] = ""
    tls_key: Annotated[str, OPTIONAL_PATH, "PEM file with the certificate's private key."] = ""
    public_url: Annotated[
        str,
        Text(f"{WEB_URL.what}, query or fragment", is_base_url, optional=True),
        "The address at which clients reach the server, if it differs from the one it listens on (a proxy). The API"
        " documents show it, and its pages count as the server's own even if a proxy changes Host.",
    ] = ""
    allowed_origins: Annotated[
        tuple[str, ...],
        ListOf(ORIGIN, 0, 1000),
        "Origins of web pages that may use the API from a browser, over CORS and WebSocket. Pages of the server's own"
        " host always may; the server refuses all others. Case and default ports make no difference; list each"
        " subdomain by itself.",
    ] = ()
    trusted_proxies: Annotated[
        tuple[str, ...],
        ListOf(Text("an IP address or network in CIDR notation", is_network), 0, 1000),
        "Proxies whose X-Forwarded-For the server believes. Anyone else could make it up to escape the limit on wrong"
        " keys.",
    ] = ()
    memory_limit_mb: Annotated[
        int,
        Whole(0, 16_777_216),
        "Megabytes (of 1,048,576 bytes) of memory that the server may use. Before they are used up it refuses new"
        " connections. 0 = what its cgroup allows (a container's limit, systemd's MemoryMax) and the machine has left.",
    ] = 0
    shutdown_grace_seconds: Annotated[
        float,
        Number(0, 3600),
        "Seconds in which running requests and queued writes have to finish after SIGTERM. Container runtimes kill"
        " after 10 (Docker) or 30 (Kubernetes) seconds: raise their limit before this one.",
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
        "full: a confirmed message survives a power loss. normal: it survives a crash of the process, but a power"
        " loss may take the newest ones; since the server writes in batches, normal is hardly faster.",
    ] = "full"
    readers: Annotated[
        int,
        Whole(1, 32),
        "Number of connections that read, each with a thread. Reads are short and share the processor with Python, so"
        " two are enough.",
    ] = 2
    checkpoints: Annotated[
        str,
        OneOf(("server", "external")),
        "server: the server copies its log, the WAL, into the database now and then (a checkpoint). external: it leaves"
        " that to the program that replicates the database, Litestream, and does it only if the log grows past 1 GiB.",
    ] = "server"
    commit_interval_ms: Annotated[
        int,
        Whole(0, 1000),
        "Milliseconds for which a commit waits for more messages and other writes, counted from the first one; 0 = for"
        " none. Each commit writes whole pages, so on a flash card a few shared ones wear it less than many. Senders"
        " wait so much longer for the confirmation.",
    ] = 0


@dataclass(frozen=True, slots=True)
class AuthConfig:
    master_key: Annotated[
        str,
        Text("16 to 512 characters of printable ASCII without spaces", is_key, optional=True, secret=True),
        "The operator's key, for /admin and the commands that use it. Without a master key /admin always answers 401."
        " Choose a long random one, for instance with `openssl rand -hex 32`.",
    ] = field(default="", repr=False)
    master_key_file: Annotated[
        str,
        OPTIONAL_PATH,
        "File that holds the master key, for use when master_key is not set (a mounted secret). White space around"
        " the key is ignored.",
    ] = ""
    query_api_key: Annotated[
        bool,
        Flag(),
        "Accept ?api_key=&user_id= at /ws. Use it for development only: addresses end up in the logs of proxies and"
        " in browser histories.",
    ] = False


@dataclass(frozen=True, slots=True)
class LimitsConfig:
    rate_limit: Annotated[
        float,
        Number(0.001, 1_000_000),
        "Requests and frames per second for each tenant, on average. A tenant's own figure overrides it.",
    ] = 100
    rate_burst: Annotated[
        int,
        Whole(0, 1_000_000),
        "Requests that a tenant may make at once after a pause; 0 = as many as the rate_limit in force.",
    ] = 0
    user_rate_limit: Annotated[
        float,
        Number(0, 1_000_000),
        "Requests and frames per second for each user who comes with a user token, on average, and twice as many at"
        " once; 0 = no limit of their own. So one user cannot use up what the tenant has for all.",
    ] = 20
    connections_per_user: Annotated[
        int,
        Whole(1, 100_000),
        "WebSockets that one user may have open. The default is enough for a few devices with a few tabs each.",
    ] = 10
    connections_per_tenant: Annotated[
        int, Whole(0, 10_000_000), "WebSockets that one tenant may have open; 0 = no limit."
    ] = 0
    max_message_bytes: Annotated[
        int,
        Whole(1, 131_072),
        "Largest content of a message, in bytes of UTF-8. Over WebSocket the whole frame must also fit into 131072"
        " bytes.",
    ] = 65_536
    sync_limit: Annotated[
        int,
        Whole(1, 100_000),
        "Events per room that the server streams to a client that was away. Of a longer backlog it streams the newest"
        " ones and names the others, which the client can fetch, so that one client cannot occupy the server.",
    ] = 1000
    send_buffer_bytes: Annotated[
        int,
        Whole(1024, 1_073_741_824),
        "Unsent bytes that the server keeps in memory for each connection. Beyond that it serves a slow client from"
        " the database, as fast as the client reads.",
    ] = 1_048_576
    slow_consumer_seconds: Annotated[
        float,
        Number(0.1, 3600),
        "Seconds after which the server closes a slow connection (4009) if its client has not taken a single byte."
        " Nothing is lost: a client that reconnects continues where it stopped.",
    ] = 30


@dataclass(frozen=True, slots=True)
class WebSocketConfig:
    heartbeat_seconds: Annotated[
        float,
        Number(0.1, 3600),
        "Seconds between the server's pings. Must be less than timeout_seconds; choose less than the idle timeout of"
        " proxies (often 60).",
    ] = 30
    timeout_seconds: Annotated[
        float,
        Number(0.2, 7200),
        "Seconds of silence after which the server drops a connection. Must be more than heartbeat_seconds, so that a"
        " client has time to answer a ping.",
    ] = 60
    presence_grace_seconds: Annotated[
        float,
        Number(0, 300),
        "Seconds from the end of a user's last connection until others see the user as offline, so that nobody"
        " notices a change of network.",
    ] = 5
    typing_seconds: Annotated[
        float, Number(0.1, 300), "Seconds after which the server stops a typing.start that the client has not repeated."
    ] = 6


@dataclass(frozen=True, slots=True)
class WebhooksConfig:
    retry_schedule_seconds: Annotated[
        tuple[float, ...],
        ListOf(Number(0, 604_800), 1, 50),
        "Seconds to wait before each try, counted from the one before; the server adds up to 10 % at random. After"
        " the last try the call becomes a dead letter. The default spans 17 hours, so that calls survive an outage"
        " overnight.",
    ] = (0, 5, 30, 300, 1800, 7200, 18_000, 36_000)
    timeout_seconds: Annotated[float, Number(0.1, 300), "Seconds that one call may take in total."] = 15
    concurrency: Annotated[
        int, Whole(1, 1000), "Calls under way at once, for all tenants together; the tenants take turns."
    ] = 20
    allow_private_addresses: Annotated[
        bool,
        Flag(),
        "Let webhooks call private and loopback addresses. While it is off, no tenant can make this server call into"
        " your network; switch it on only if you trust every tenant.",
    ] = False
    dead_letter_days: Annotated[
        float, Number(0.001, 10 * YEAR_DAYS), "Days for which the server keeps a dead letter for inspection and retry."
    ] = 30


@dataclass(frozen=True, slots=True)
class RetentionConfig:
    days: Annotated[
        float,
        Number(0, 100 * YEAR_DAYS),
        "Days for which the server keeps messages; 0 = forever. A tenant's own retention_days overrides it.",
    ] = 0


@dataclass(frozen=True, slots=True)
class AuditConfig:
    days: Annotated[
        float,
        Number(0, 100 * YEAR_DAYS),
        "Days for which the server keeps entries of the audit; 0 = forever.",
    ] = 365


@dataclass(frozen=True, slots=True)
class StreamsConfig:
    idle_seconds: Annotated[
        float,
        Number(1, 86_400),
        "Seconds without an append after which the server ends an open stream as failed.",
    ] = 60
    open_streams: Annotated[
        int,
        Whole(1, 100_000),
        "Messages of one tenant that may be open as streams at once. A tenant's own open_streams overrides it.",
    ] = 256


@dataclass(frozen=True, slots=True)
class SearchConfig:
    enabled: Annotated[
        bool,
        Flag(),
        "Serve /search, and index new messages for it. While it is off, the server indexes nothing, and catches up when"
        " it is on again. A tenant's own search overrides it for that tenant's calls, if it is on here.",
    ] = True


@dataclass(frozen=True, slots=True)
class LogConfig:
    level: Annotated[
        str, OneOf(("debug", "info", "warning", "error")), "Lines of this level and of more severe ones are written."
    ] = "info"
    format: Annotated[str, OneOf(("text", "json")), "text for people, json (one object per line) for collectors."] = (
        "text"
    )
    requests: Annotated[
        bool,
        Flag(),
        "Write a line for each HTTP request. It is off because it costs throughput; failures are always logged.",
    ] = False


@dataclass(frozen=True, slots=True)
class MetricsConfig:
    enabled: Annotated[bool, Flag(), "Serve /metrics."] = True
    require_master_key: Annotated[
        bool,
        Flag(),
        "Require the master key at /metrics (X-Master-Key). Use it if /metrics can be reached from outside.",
    ] = False
    tenant_label: Annotated[
        bool, Flag(), "Label metrics with the tenant's id. Use it with few tenants only: each one adds its own series."
    ] = False


@dataclass(frozen=True, slots=True)
class PlaygroundConfig:
    enabled: Annotated[bool, Flag(), "Serve the playground at /playground."] = True


@dataclass(frozen=True, slots=True)
class Config:
    server: Annotated[ServerConfig, "Where the server listens, and which proxies it trusts."] = field(
        default_factory=ServerConfig
    )
    database: Annotated[DatabaseConfig, "The one file that holds everything."] = field(default_factory=DatabaseConfig)
    auth: Annotated[AuthConfig, "The operator's credential. Tenants and their keys are in the database."] = field(
        default_factory=AuthConfig
    )
    limits: Annotated[LimitsConfig, "What one tenant, user or connection may use."] = field(
        default_factory=LimitsConfig
    )
    websocket: Annotated[WebSocketConfig, "Intervals and timeouts of connections."] = field(
        default_factory=WebSocketConfig
    )
    webhooks: Annotated[WebhooksConfig, "Calls to tenants' endpoints about users who are offline."] = field(
        default_factory=WebhooksConfig
    )
    retention: Annotated[RetentionConfig, "How long messages are kept."] = field(default_factory=RetentionConfig)
    audit: Annotated[AuditConfig, "Acts of operators and moderators."] = field(default_factory=AuditConfig)
    streams: Annotated[StreamsConfig, "Messages that are still being written."] = field(default_factory=StreamsConfig)
    search: Annotated[SearchConfig, "Full-text search over messages."] = field(default_factory=SearchConfig)
    log: Annotated[LogConfig, "What is logged. Keys, tokens and content never are."] = field(default_factory=LogConfig)
    metrics: Annotated[MetricsConfig, "Prometheus metrics."] = field(default_factory=MetricsConfig)
    playground: Annotated[PlaygroundConfig, "The page to try the API in a browser."] = field(
        default_factory=PlaygroundConfig
    )


@dataclass(frozen=True, slots=True)
class Setting:
    section: str
    key: str
    kind: ValueKind
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
