"""From chatapi.toml, the environment and flags to a checked `Config` (docs/contract.md, section 18)."""

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from chatapi.config.kinds import ListOf, OneOf, Text, ValueKind, is_key
from chatapi.config.settings import SECTION_CLASSES, SETTINGS, Config, Setting

SEARCH_PATHS = (Path("chatapi.toml"), Path("/etc/chatapi/chatapi.toml"))
FILE_VARIABLE = "CHATAPI_CONFIG"
VARIABLE_PREFIX = "CHATAPI_"
SLIP_CUTOFF = (
    0.87  # of difflib: takes SEVER_PORT and SERVERPORT for SERVER_PORT, but not TO_MASTER_KEY for AUTH_MASTER_KEY
)
MAX_KEY_FILE_BYTES = 4096  # a key is far shorter; a wrong path to a large file should not be read into memory


class ConfigError(Exception):
    """A setting that stops the start. Its text is one line for the operator and never shows a secret."""

    def __init__(self, source: str, key: str, expected: str, got: str = "") -> None:
        where = f"{source}: {key}" if key else source
        super().__init__(f"{where}: expected {expected}" + (f", got {got}" if got else ""))
        self.source = source
        self.key = key
        self.expected = expected


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """The settings in force and where each comes from; `file` is the one that was read, if any."""

    config: Config
    sources: Mapping[str, str]  # "server.port" → "default", a file's path, a variable's name or "command line"
    file: Path | None

    def value(self, setting: Setting) -> object:
        return getattr(getattr(self.config, setting.section), setting.key)


def load_config(path: str | None, environ: Mapping[str, str], flags: Mapping[str, object]) -> LoadedConfig:
    """Raises ConfigError. `flags` is keyed as `SETTINGS` is ("server.port"); None = not given."""
    file = _find_file(path, environ)
    values: dict[str, object] = {name: setting.default for name, setting in SETTINGS.items()}
    sources = dict.fromkeys(SETTINGS, "default")
    given = [
        *([(str(file), _read_file(file))] if file else []),
        *((variable, {name: value}) for variable, name, value in _read_environment(environ)),
        ("command line", _read_flags(flags)),
    ]
    for source, layer in given:
        values |= layer
        sources |= dict.fromkeys(layer, source)
    _read_key_file(values, sources)
    config = _build(values)
    _check_together(config, sources)
    return LoadedConfig(config, sources, file)


def _find_file(path: str | None, environ: Mapping[str, str]) -> Path | None:
    """A file that was named has to exist; the usual paths may be empty."""
    named = path or environ.get(FILE_VARIABLE)
    if named:
        return Path(named)
    return next((usual for usual in SEARCH_PATHS if _exists(usual)), None)


def _exists(path: Path) -> bool:
    """Also False for a file in a current directory that this user may not enter: `runuser` and `sudo` keep root's
    directory."""
    try:
        path.stat()  # from Python 3.14 on, `exists` is False also where it may not look
        return True
    except (FileNotFoundError, NotADirectoryError):
        return False
    except PermissionError as error:
        if path.is_absolute():
            raise ConfigError(str(path), "", "a readable file", error.strerror or "") from None
        return False


def _read_file(file: Path) -> dict[str, object]:
    source = str(file)
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(source, "", "a readable file", error.strerror or type(error).__name__) from None
    except UnicodeDecodeError:
        raise ConfigError(source, "", "UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(source, "", "valid TOML", str(error)) from None
    values = {}
    for section, table in document.items():
        if section not in SECTION_CLASSES:
            raise ConfigError(source, section, _choices(section, SECTION_CLASSES), "an unknown section")
        if not isinstance(table, dict):
            raise ConfigError(source, section, f"a section, [{section}]", type(table).__name__)
        for key, value in table.items():
            setting = _find_setting(source, section, key, f"{section}.{key}")
            values[setting.name] = _accept(setting, value, source, setting.name)
    return values


def _read_environment(environ: Mapping[str, str]) -> list[tuple[str, str, object]]:
    """Sorted, so that of several mistakes it is always the same one that is reported."""
    found: list[tuple[str, str, object]] = []
    for variable, text in sorted(environ.items()):
        if not variable.startswith(VARIABLE_PREFIX):
            continue
        section, _, key = variable.removeprefix(VARIABLE_PREFIX).lower().partition("_")
        if section not in SECTION_CLASSES or not key:
            if meant := _find_slip(variable, text):
                raise ConfigError("environment", variable, meant, "an unknown section")
            continue  # other programs may use the prefix too
        setting = _find_setting("environment", section, key, variable)
        if text.strip():
            value = _accept(setting, _parse_text(setting.kind, text.strip()), "environment", variable)
            found.append((variable, setting.name, value))
    return found


def _find_slip(variable: str, text: str) -> str | None:
    """The variable that this one seems to mean: a section misspelt or left out, as in CHATAPI_SEVER_PORT and
    CHATAPI_MASTER_KEY. None for what another program may have set, Kubernetes for its service `chatapi` above all."""
    name = variable.removeprefix(VARIABLE_PREFIX).lower()
    if variable == FILE_VARIABLE or name.startswith("service_") or text.startswith("tcp://"):
        return None
    settings = {setting.name.replace(".", "_"): setting.key for setting in SETTINGS.values()}
    without_section = [full_name for full_name, key in settings.items() if key == name]
    alike = without_section or difflib.get_close_matches(name, settings, n=1, cutoff=SLIP_CUTOFF)
    return f"{VARIABLE_PREFIX}{alike[0].upper()}" if alike else None


def _read_flags(flags: Mapping[str, object]) -> dict[str, object]:
    given = {name: value for name, value in flags.items() if value is not None}
    return {name: _accept(SETTINGS[name], value, "command line", name) for name, value in given.items()}


def _find_setting(source: str, section: str, key: str, shown_key: str) -> Setting:
    setting = SETTINGS.get(f"{section}.{key}")
    if setting is None:
        keys = [known.key for known in SETTINGS.values() if known.section == section]
        raise ConfigError(source, shown_key, _choices(key, keys), "an unknown key")
    return setting


def _choices(unknown: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(unknown, known, n=1)
    return near[0] if near else "one of " + ", ".join(known)


def _parse_text(kind: ValueKind, text: str) -> object:
    """A variable's text as TOML. Where text is wanted, only quotes make it TOML: the key `1234` is not a number."""
    if isinstance(kind, Text | OneOf) and text[0] not in "\"'":
        return text
    try:
        document = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return document["value"] if len(document) == 1 else text


def _accept(setting: Setting, value: object, source: str, shown_key: str) -> object:
    kind = setting.kind
    if not kind.accepts(value):
        got = "" if setting.secret else _shown(value)
        if isinstance(kind, ListOf) and (culprit := kind.find_culprit(value)):
            index, item = culprit
            got = f"{_shown(item)} as item {index}"
        raise ConfigError(source, shown_key, kind.expected, got)
    return tuple(value) if isinstance(value, list) else value


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _read_key_file(values: dict[str, object], sources: dict[str, str]) -> None:
    path = values["auth.master_key_file"]
    if values["auth.master_key"] or not path:
        return
    try:
        with open(str(path), "rb") as file:
            key = file.read(MAX_KEY_FILE_BYTES).decode("ascii", errors="replace").strip()
    except OSError as error:
        raise _blame("auth.master_key_file", sources, f"a readable file ({error.strerror})") from None
    if not is_key(key):
        raise _blame("auth.master_key_file", sources, f"a file with {SETTINGS['auth.master_key'].kind.expected}")
    values["auth.master_key"] = key
    sources["auth.master_key"] = str(path)


def _check_together(config: Config, sources: Mapping[str, str]) -> None:
    server, websocket = config.server, config.websocket
    if server.tls_cert and not server.tls_key:
        raise _blame("server.tls_cert", sources, "server.tls_key beside it")
    if server.tls_key and not server.tls_cert:
        raise _blame("server.tls_key", sources, "server.tls_cert beside it")
    if websocket.timeout_seconds <= websocket.heartbeat_seconds:
        expected = f"more than websocket.heartbeat_seconds ({websocket.heartbeat_seconds})"
        raise _blame("websocket.timeout_seconds", sources, f"{expected}, got {websocket.timeout_seconds}")


def _blame(name: str, sources: Mapping[str, str], expected: str) -> ConfigError:
    return ConfigError(sources[name], name, expected)


def _build(values: Mapping[str, object]) -> Config:
    return Config(
        **{
            section: section_class(**{item.name: values[f"{section}.{item.name}"] for item in fields(section_class)})
            for section, section_class in SECTION_CLASSES.items()
        }
    )
