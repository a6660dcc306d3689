from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError
from texts import CHARACTERS

from chatapi.config import Config, resolve_settings
from chatapi.models import ReplacedSecret, TenantId, TenantKey, TenantState
from chatapi.tenant_secrets import make_webhook_secret
from chatapi.webhooks.signing import list_secrets, sign


def make_tenant(secret: str | None, *replaced: ReplacedSecret) -> TenantState:
    return TenantState(
        tenant_key=TenantKey(1),
        tenant_id=TenantId("tenant_1"),
        name="x",
        token_secret="x",
        config={},
        settings=resolve_settings({}, Config()),
        created_at_us=0,
        epoch="e1",
        webhook_secret=secret,
        replaced_webhook_secrets=replaced,
    )


@given(st.text(CHARACTERS, max_size=200), st.integers(0, 2**31))
def test_signature_equals_the_reference_librarys(text: str, timestamp_s: int) -> None:
    secret, body = make_webhook_secret(), text.encode()
    headers = sign([secret], "dlv_1", timestamp_s, body)
    at = datetime.fromtimestamp(timestamp_s, UTC)
    assert headers["webhook-signature"] == Webhook(secret).sign("dlv_1", at, body.decode())


def test_each_secret_verifies_and_no_other() -> None:
    secrets = [make_webhook_secret(), make_webhook_secret()]
    timestamp_s = int(datetime.now(UTC).timestamp())
    headers = dict(sign(secrets, "dlv_1", timestamp_s, b'{"a":1}'))
    for secret in secrets:
        assert Webhook(secret).verify(b'{"a":1}', headers) == {"a": 1}
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(b'{"a":2}', headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(make_webhook_secret()).verify(b'{"a":1}', headers)


def test_a_replaced_secret_signs_until_its_time_is_over() -> None:
    tenant = make_tenant("whsec_new", ReplacedSecret("whsec_old", 1000), ReplacedSecret("whsec_older", 500))
    assert list_secrets(tenant, 499) == ["whsec_new", "whsec_old", "whsec_older"]
    assert list_secrets(tenant, 999) == ["whsec_new", "whsec_old"]
    assert list_secrets(tenant, 1000) == ["whsec_new"]
    assert list_secrets(make_tenant(None), 0) == []
