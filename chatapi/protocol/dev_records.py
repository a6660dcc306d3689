"""The bodies and answers of `/dev`, which only `serve --dev` and `--test` have."""

from typing import Annotated

import msgspec
from msgspec import Meta

from chatapi.protocol.answers import Answer
from chatapi.protocol.fields import EXAMPLE_TIME, Time
from chatapi.protocol.json import Encoded
from chatapi.protocol.requests import Body

MAX_ADVANCE_SECONDS = 10 * 365 * 86_400  # in all until a reset: keys of messages are made from the time, until 2091


class AdvanceClock(Body, frozen=True):
    advance: Annotated[float, Meta(ge=0, le=MAX_ADVANCE_SECONDS, description="seconds, forward only", examples=[3600])]


class DevTime(Answer, frozen=True, kw_only=True):
    now: Annotated[Time, Meta(description="the server's time, which stored times are of")]
    advanced: Annotated[float, Meta(description="seconds by which it is ahead of the machine's", examples=[3600.0])]


_EXAMPLE_BODY: dict[str, object] = {
    "type": "message.offline",
    "timestamp": EXAMPLE_TIME,
    "data": {"user_id": "bob"},
}


class WebhookCallTaken(msgspec.Struct, frozen=True, kw_only=True):
    id: Annotated[str, Meta(description="its header `webhook-id`", examples=["dlv_0abc5d2e81f3a70400000001"])]
    type: Annotated[str, Meta(examples=["message.offline"])]
    body: Annotated[Encoded[dict[str, object]], Meta(examples=[_EXAMPLE_BODY])]
    valid: Annotated[
        bool, Meta(description="whether the signature is right, and its timestamp is the clock's", examples=[True])
    ]
    at: Time


class WebhookCallsTaken(Answer, frozen=True, kw_only=True):
    calls: list[WebhookCallTaken]
