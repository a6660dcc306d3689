"""The request to move a tenant."""

from typing import Annotated

from msgspec import Meta

from chatapi.protocol.requests import Body


class MoveTenant(Body, frozen=True):
    """`to` is the address of the server that gets the tenant, as its clients reach it."""

    to: Annotated[str, Meta(min_length=1, max_length=2000, examples=["https://chat2.example.com"])]
