"""The keys and secrets that the server makes for its tenants."""

import base64
import hashlib
import secrets
from functools import lru_cache
from urllib.parse import quote

from chatapi.models import KeyId

KEY_BYTES = 32  # random, of API keys and secrets


@lru_cache(maxsize=1024)  # a backend sends the same key each time
def hash_key(api_key: str) -> bytes:
    """SHA-256, by which a key is stored and looked up: keys are random, so that no salt is needed."""
    return hashlib.sha256(api_key.encode("utf-8", "surrogateescape")).digest()


def make_api_key(tenant_id: str) -> str:
    return "sk_" + make_routed_secret(tenant_id, KEY_BYTES)


def make_routed_secret(tenant_id: str, random_bytes: int) -> str:
    """`<tenant>_<secret>`, from which a proxy learns where to send the request. Nothing may be allowed by its first
    part. The secret is hexadecimal, so that the last `_` divides the two."""
    return f"{encode_routing_name(tenant_id)}_{secrets.token_hex(random_bytes)}"


def encode_routing_name(tenant_id: str) -> str:
    """The tenant's id as keys, tickets and a proxy's map spell it: percent-encoded, since imported ids may hold
    anything but U+0000."""
    return quote(tenant_id, safe="")


def make_key_id() -> KeyId:
    return KeyId(f"key_{secrets.token_hex(8)}")


def make_secret() -> str:
    return secrets.token_urlsafe(KEY_BYTES)


def make_webhook_secret() -> str:
    """As Standard Webhooks defines it: the prefix, then base64 of the key."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()
