"""How far a tenant has got on its way to another server."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta


class MoveState(msgspec.Struct, frozen=True, kw_only=True):
    state: Annotated[Literal["copying", "held", "moved"], Meta(examples=["copying"])]
    url: Annotated[str, Meta(description="of the other server", examples=["https://chat2.example.com"])]
    rows: Annotated[int, Meta(ge=0, description="sent so far", examples=[51_200])]
