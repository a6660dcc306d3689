"""`GET /metrics`."""

from chatapi.errors import not_found
from chatapi.rest.call import Call, Reply


async def metrics(call: Call) -> Reply:
    """Metrics for Prometheus."""
    raise not_found("Route")
