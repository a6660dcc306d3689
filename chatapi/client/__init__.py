"""ChatAPI's client: REST calls and a connection that survives the network and the server. See docs/python-sdk.md."""

from chatapi.client.admin import AdminAPI
from chatapi.client.api import ChatAPI
from chatapi.client.connection import Connection
from chatapi.client.errors import ApiError, Closed, NoAnswer, NotChatAPI, NoToken, StreamFailed
from chatapi.client.events import Event, LogEvent
from chatapi.client.frames import is_log_event
from chatapi.client.growing import GrowingMessage
from chatapi.client.options import State
from chatapi.client.records import Cursors
from chatapi.client.replay import apply_event

__all__ = [
    "AdminAPI",
    "ApiError",
    "ChatAPI",
    "Closed",
    "Connection",
    "Cursors",
    "Event",
    "GrowingMessage",
    "LogEvent",
    "NoAnswer",
    "NoToken",
    "NotChatAPI",
    "State",
    "StreamFailed",
    "apply_event",
    "is_log_event",
]
