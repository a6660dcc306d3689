"""The answers of REST that concern a user's data. See `protocol.answers`."""

from typing import Annotated

from msgspec import Meta

from chatapi.protocol.answers import Answer


class Erased(Answer, frozen=True, kw_only=True):
    """`erased` is false while the erasure is under way."""

    erased: Annotated[bool, Meta(examples=[True])]
