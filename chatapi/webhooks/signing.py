"""Signatures as Standard Webhooks (https://www.standardwebhooks.com) wants them.

Signing is these few lines of hmac; the reference package verifies them in the tests, which says more than if it had
made them too.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence

from chatapi.models import TenantState

SECRET_PREFIX = "whsec_"
TOLERANCE_SECONDS = 300  # of a timestamp, as the reference packages have it
_TIMESTAMP = re.compile(r"[0-9]{1,12}")


def list_secrets(tenant: TenantState, now_us: int) -> list[str]:
    """The secrets that sign: the tenant's own, and for a day each one that was replaced."""
    secrets = [] if tenant.webhook_secret is None else [tenant.webhook_secret]
    return secrets + [replaced.secret for replaced in tenant.replaced_webhook_secrets if now_us < replaced.until_us]


def sign(secrets: Sequence[str], delivery_id: str, timestamp_s: int, body: bytes) -> Mapping[str, str]:
    """The three headers of a call."""
    signed = b"%s.%d.%s" % (delivery_id.encode(), timestamp_s, body)
    return {
        "webhook-id": delivery_id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": " ".join(f"v1,{_sign(secret, signed)}" for secret in secrets),
    }


def verify(secrets: Sequence[str], headers: Mapping[str, str], body: bytes, now_s: int) -> bool:
    """Whether one of these secrets signed this call within the last five minutes, or the next."""
    delivery_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not _TIMESTAMP.fullmatch(timestamp) or abs(now_s - int(timestamp)) > TOLERANCE_SECONDS:
        return False
    expected = sign(secrets, delivery_id, int(timestamp), body)["webhook-signature"].split()
    given = headers.get("webhook-signature", "").split()
    return any(hmac.compare_digest(one.encode(), other.encode()) for one in given for other in expected)


def _sign(secret: str, signed: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    return base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
