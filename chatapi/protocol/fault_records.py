"""The body and the answer of `/dev/faults`. See `protocol.requests` and `protocol.answers`."""

from typing import Annotated

import msgspec
from msgspec import Meta

from chatapi.protocol.answers import Answer
from chatapi.protocol.requests import Body, UserIdText

MAX_DELAY_MS = 60_000
MAX_STALL_SECONDS = 600
MIN_CUT_SECONDS = 0.1  # shorter, no client would have the time to connect
MAX_CUT_SECONDS = 3_600
MAX_LOST = 100_000

Share = Annotated[float, Meta(gt=0, le=1)]
CutSeconds = Annotated[
    float,
    Meta(
        ge=MIN_CUT_SECONDS,
        le=MAX_CUT_SECONDS,
        description="what `drop` cuts is cut so often; the first time when so long has passed",
        examples=[5],
    ),
]
DelayMs = Annotated[
    int, Meta(ge=0, le=MAX_DELAY_MS, description="everything that is answered comes so much later", examples=[200])
]
Lost = Annotated[
    int,
    Meta(
        ge=0,
        le=MAX_LOST,
        description="so many of the next writes are stored, and their connections cut in place of the confirmation",
        examples=[1],
    ),
]
StallSeconds = Annotated[
    float,
    Meta(ge=0, le=MAX_STALL_SECONDS, description="for so long, connections take and give nothing", examples=[10]),
]


class ErrorFault(msgspec.Struct, frozen=True, kw_only=True):
    """Requests and frames, except light frames, get an error and are not carried out."""

    status: Annotated[int, Meta(ge=400, le=599, examples=[503])]
    rate: Annotated[Share, Meta(description="the share of the requests", examples=[0.5])] = 1.0
    html: Annotated[
        bool,
        Meta(
            description="as a broken proxy: a page of HTML without an envelope and CORS headers; no frame is refused",
            examples=[False],
        ),
    ] = False


class FaultSet(Body, frozen=True, kw_only=True):
    """Replaces all faults that were on; `{}` ends them. With `user_id` they strike this user's connections and requests
    alone."""

    needs_body = True

    drop: Annotated[
        bool | Share,
        Meta(
            description="cut WebSockets, event streams and running requests now, without a close frame: all, or"
            " at random this share",
            examples=[True],
        ),
    ] = False
    cut_every_seconds: CutSeconds | None = None
    delay_ms: DelayMs = 0
    error: ErrorFault | None = None
    lose_confirmations: Lost = 0
    stall_seconds: StallSeconds = 0.0
    user_id: UserIdText | None = None


class FaultsNow(Answer, frozen=True, kw_only=True):
    """The faults that are on."""

    dropped: Annotated[int, Meta(description="connections that were cut since these faults were set", examples=[2])]
    cut_every_seconds: CutSeconds | None
    delay_ms: DelayMs
    error: ErrorFault | None
    lose_confirmations: Annotated[int, Meta(description="how many are still to be lost", examples=[1])]
    stall_seconds: Annotated[float, Meta(description="seconds until the stall ends", examples=[8.4])]
    user_id: UserIdText | None
