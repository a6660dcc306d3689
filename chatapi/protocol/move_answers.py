"""The answers of a move, to the operator and between the two servers."""

from typing import Annotated, Literal

from msgspec import Meta

from chatapi.protocol.answers import Answer
from chatapi.protocol.requests import TenantIdText


class TenantMove(Answer, frozen=True, kw_only=True):
    """How far a tenant has got on its way to another server."""

    tenant_id: TenantIdText
    state: Annotated[
        Literal["copying", "held", "moved"],
        Meta(description="`held` while its writes are refused; `moved` once the other server serves it"),
    ]
    url: Annotated[str, Meta(description="of the other server", examples=["https://chat2.example.com"])]
    rows: Annotated[int, Meta(ge=0, description="sent so far", examples=[51_200])]
    held_ms: Annotated[int, Meta(ge=0, description="how long its writes were refused", examples=[180])]


class NewArrival(Answer, frozen=True, kw_only=True):
    """Between servers: the secret of one arrival."""

    arrival_id: str
    secret: str


class ArrivalNamed(Answer, frozen=True, kw_only=True):
    """Between servers."""

    arrival_id: str
