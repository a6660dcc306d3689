"""The routes by which a developer makes the server misbehave (docs/testing.md). See `chatapi.faults`."""

from chatapi.faults import Faults
from chatapi.protocol.fault_records import FaultSet, FaultsNow
from chatapi.rest.call import OpenCall, Response, ok
from chatapi.services import Services


async def get_faults(call: OpenCall[None, None]) -> Response[FaultsNow]:
    """Get the faults that are on."""
    return ok(_faults(call.services).describe())


async def set_faults(call: OpenCall[FaultSet, None]) -> Response[FaultsNow]:
    """Replace the faults that are on; `{}` ends them."""
    faults = _faults(call.services)
    faults.replace(call.body)
    return ok(faults.describe())


def _faults(services: Services) -> Faults:
    assert services.dev is not None  # else no such route is served
    return services.dev.faults
