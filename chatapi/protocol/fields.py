"""The fields of what clients get, with the examples that make those of the documents."""

from typing import Annotated

from msgspec import Meta

from chatapi.protocol.json import MAX_INTEGER

TIME_PATTERN = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$"
EXAMPLE_TIME = "2025-12-13T12:00:00.123456Z"

SubscriptionIdText = Annotated[str, Meta(examples=["sub_0abc5d2f9113a704"])]
KeyIdText = Annotated[str, Meta(examples=["key_1c2d3e4f5a6b7c8d"])]
DeadLetterIdText = Annotated[str, Meta(examples=["dlv_0abc5d2e81f3a70400000001"])]
Time = Annotated[
    str,
    Meta(
        pattern=TIME_PATTERN,
        description="RFC 3339 in UTC with microseconds",
        examples=[EXAMPLE_TIME],
        extra_json_schema={"format": "date-time"},
    ),
]
Never = Annotated[
    str | None,
    Meta(
        description="a time, or null until it has happened",
        examples=[None],
        extra_json_schema={"format": "date-time"},
    ),
]
LogSeq = Annotated[int, Meta(ge=1, le=MAX_INTEGER, examples=[42], description="the event's place in the room's log")]
Position = Annotated[int, Meta(ge=0, le=MAX_INTEGER, examples=[42], description="the seq up to which")]
RequestIdText = Annotated[str, Meta(max_length=64, description="as it stood in the frame that this answers")]
Epoch = Annotated[str, Meta(description="changes when the database is restored", examples=["9f2c61d0a4b84e17"])]
Metadata = Annotated[dict[str, object] | None, Meta(examples=[{"project": "lighthouse"}])]
OneTimeKey = Annotated[str, Meta(examples=["sk_shown-once-and-stored-as-a-hash-only"])]
OneTimeSecret = Annotated[str, Meta(examples=["shown-once-signs-user-tokens"])]
WebhookSecret = Annotated[str, Meta(examples=["whsec_c2hvd24tb25jZS1zaWducy13ZWJob29rcw=="])]
HasMore = Annotated[bool, Meta(description="whether there is another page", examples=[False])]
NextCursor = Annotated[
    str,
    Meta(
        description="where there is another page: its `cursor`, which skips nothing that is there all along",
        examples=["r3q0b2lZaGVsWzEsImFsaWNlIl0"],
    ),
]
