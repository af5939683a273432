import base64
from datetime import UTC, datetime, timedelta

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from engine.access import sealing
from engine.webhooks import signing

BODY = '{"type":"run.completed","data":{"name":"Müller"}}'


def headers(*secrets, at=None):
    found = signing.headers(
        message_id="msg_1", body=BODY, at=at or datetime.now(UTC), secrets=secrets
    )
    return dict(found)


def test_secret__is_of_the_standard_and_never_the_same():
    first, second = signing.new_secret(), signing.new_secret()
    assert first != second
    assert first.startswith("whsec_")
    assert len(base64.b64decode(first.removeprefix("whsec_"))) == 32


def test_headers__pass_the_standards_own_library():
    secret = signing.new_secret()
    assert Webhook(secret).verify(BODY, headers(secret))["type"] == "run.completed"
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(BODY + " ", headers(secret))
    with pytest.raises(WebhookVerificationError, match="old"):
        Webhook(secret).verify(BODY, headers(secret, at=datetime.now(UTC) - timedelta(minutes=6)))


def test_headers__hold_a_signature_of_each_secret():
    old, new = signing.new_secret(), signing.new_secret()
    signed = headers(new, old)
    assert len(signed["webhook-signature"].split()) == 2
    for secret in (old, new):
        Webhook(secret).verify(BODY, signed)
    with pytest.raises(WebhookVerificationError):
        Webhook(signing.new_secret()).verify(BODY, signed)


def test_sealing__is_opened_by_the_same_key_only():
    sealed = sealing.seal("whsec_x", key="one master key")
    assert "whsec_x" not in sealed
    assert sealing.unseal(sealed, key="one master key") == "whsec_x"
    assert sealing.unseal(sealed, key="another, one master key") == "whsec_x", "rotation"
    for key in ("another", "", " , "):
        with pytest.raises(sealing.UnsealableError, match="MASTER_KEY"):
            sealing.unseal(sealed, key=key)
