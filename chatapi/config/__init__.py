"""Settings: defaults, then chatapi.toml, then the environment, then flags; and a tenant's own settings over them."""

from chatapi.config.load import ConfigError, LoadedConfig, load_config
from chatapi.config.settings import (
    SECTION_DOCS,
    SETTINGS,
    AuthConfig,
    Config,
    DatabaseConfig,
    LimitsConfig,
    LogConfig,
    MetricsConfig,
    PlaygroundConfig,
    RetentionConfig,
    ServerConfig,
    Setting,
    WebhooksConfig,
    WebSocketConfig,
)
from chatapi.config.tenant import TenantSettings, parse_tenant_config, resolve_settings

__all__ = [
    "SECTION_DOCS",
    "SETTINGS",
    "AuthConfig",
    "Config",
    "ConfigError",
    "DatabaseConfig",
    "LimitsConfig",
    "LoadedConfig",
    "LogConfig",
    "MetricsConfig",
    "PlaygroundConfig",
    "RetentionConfig",
    "ServerConfig",
    "Setting",
    "TenantSettings",
    "WebSocketConfig",
    "WebhooksConfig",
    "load_config",
    "parse_tenant_config",
    "resolve_settings",
]
