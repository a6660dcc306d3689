"""Answers about the server itself, as TypedDicts. See `client.records`."""

from typing import Literal, TypedDict


class ServerInfo(TypedDict):
    """The server's name and version, and the paths of its pages and documents, by name."""

    name: Literal["ChatAPI"]
    version: str
    links: dict[str, str]


class Status(TypedDict):
    status: Literal["ok"]


class SearchHealth(TypedDict):
    """`lag`: messages and edits that are not in its index yet, counted to 10,000; None if it cannot be read."""

    enabled: bool
    lag: int | None


class Health(TypedDict):
    """`uptime` is for people: `3d 4h 0m 12s`."""

    status: Literal["ok"]
    service: Literal["chatapi"]
    version: str
    uptime: str
    uptime_seconds: int
    db_writable: bool
    search: SearchHealth
