"""The operators' pages of webhooks: what they show, and what can be done there."""

from __future__ import annotations

import re

import pytest
from django.contrib.auth.models import User

from engine.access import grants
from engine.models import IncomingHook, WebhookDelivery, WebhookEndpoint
from engine.webhooks import deliveries, endpoints, incoming

URL = "https://hooks.example/in"


@pytest.fixture
def told(line):
    """A webhook of one department, told once, and one of all departments."""
    endpoints.create(url="https://others.example/", actor="test")
    mine, _ = endpoints.create(url=URL, actor="test", department="lab")
    sent = deliveries.send_test(endpoint_id=mine.pk, actor="test")
    WebhookDelivery.objects.update(excerpt="what they said", error_code="http_status")
    return mine, sent


def shown(client, place):
    answered = client.get(f"/admin/engine/{place}")
    assert answered.status_code == 200, place
    return answered.content.decode()


def test_pages__show_webhooks_their_log_and_hooks_without_secrets(operator, told):
    mine, sent = told
    hook, token, _ = incoming.create(automation="lab.squares", actor="test")
    places = {
        "webhookendpoint/": URL,
        f"webhookendpoint/{mine.pk}/change/": URL,
        "webhookdelivery/": "webhook.test",
        f"webhookdelivery/?webhook={mine.pk}": "webhook.test",
        f"webhookdelivery/{sent.pk}/change/": "what they said",
        "incominghook/": "lab.squares",
        f"incominghook/{hook.pk}/change/": "lab.squares",
    }
    for place, word in places.items():
        page = shown(operator, place)
        assert word in page, place
        for secret in (mine.secret, hook.secret, hook.token_hash, token, "whsec_"):
            assert secret not in page, place
    other = WebhookEndpoint.objects.exclude(pk=mine.pk).get()
    assert f"/webhookdelivery/{sent.pk}/" not in shown(
        operator, f"webhookdelivery/?webhook={other.pk}"
    )
    menu = operator.get("/admin/").content.decode()
    assert all(f"/admin/engine/{place}/" in menu for place in ("webhookendpoint", "incominghook"))


def test_buttons__disable_and_enable(operator, told):
    mine, _ = told
    place = f"webhookendpoint/{mine.pk}/change/"
    verbs = set(re.findall(r"/act/(\w+)", shown(operator, place)))
    assert verbs == {"test", "disable"}
    act = f"/admin/engine/webhookendpoint/{mine.pk}/act"
    assert operator.get(f"{act}/disable").status_code == 405
    assert operator.post(f"{act}/delete").status_code == 404
    operator.post(f"{act}/disable")
    mine.refresh_from_db()
    assert (mine.enabled, mine.disabled_reason) == (False, "disabled by operator")
    assert set(re.findall(r"/act/(\w+)", shown(operator, place))) == {"enable"}
    assert "when the webhook is enabled" in shown(operator, "webhookdelivery/")
    operator.post(f"{act}/enable")
    mine.refresh_from_db()
    assert mine.enabled


def test_resend__is_an_action_of_the_log(operator, told):
    _, sent = told
    WebhookDelivery.objects.update(status="failed")
    data = {"action": "resend_selected", "_selected_action": [str(sent.pk)]}
    page = operator.post("/admin/engine/webhookdelivery/", data, follow=True).content.decode()
    assert "On the way again" in page
    sent.refresh_from_db()
    assert sent.status == "pending"
    endpoints.disable(endpoint_id=sent.endpoint_id, actor="test")
    page = operator.post("/admin/engine/webhookdelivery/", data, follow=True).content.decode()
    assert "is disabled" in page


def test_delivery__is_sent_again_by_a_button_while_its_webhook_is_told(operator, told):
    _, sent = told
    WebhookDelivery.objects.update(status="failed")
    place = f"webhookdelivery/{sent.pk}/change/"
    assert re.findall(r"/act/(\w+)", shown(operator, place)) == ["resend"]
    act = f"/admin/engine/webhookdelivery/{sent.pk}/act"
    assert operator.post(f"{act}/delete").status_code == 404
    page = operator.post(f"{act}/resend", follow=True).content.decode()
    assert "On the way again" in page
    sent.refresh_from_db()
    assert sent.status == "pending"
    endpoints.disable(endpoint_id=sent.endpoint_id, actor="test")
    assert "/act/" not in shown(operator, place)


def test_hook__is_switched_by_its_button(operator, line):
    hook, _, _ = incoming.create(automation="lab.squares", actor="test")
    for verb, enabled in (("disable", False), ("enable", True)):
        page = shown(operator, f"incominghook/{hook.pk}/change/")
        assert re.findall(r"/act/(\w+)", page) == [verb]
        operator.post(f"/admin/engine/incominghook/{hook.pk}/act/{verb}")
        assert IncomingHook.objects.get().enabled is enabled


def test_hooks__are_switched_by_actions(operator, line):
    hook, _, _ = incoming.create(automation="lab.squares", actor="test")
    for action, enabled in (("disable_selected", False), ("enable_selected", True)):
        data = {"action": action, "_selected_action": [str(hook.pk)]}
        operator.post("/admin/engine/incominghook/", data)
        assert IncomingHook.objects.get().enabled is enabled


def test_roles__show_a_department_its_own_and_let_only_admins_act(client, told):
    mine, sent = told
    keeper = User.objects.create_user("keeper", "", "pw", is_staff=True)
    grants.grant(user=keeper, role="operator", department="lab", by="test")
    client.force_login(keeper)
    page = shown(client, "webhookendpoint/")
    assert URL in page
    assert "others.example" not in page
    assert not re.findall(r"/act/(\w+)", shown(client, f"webhookendpoint/{mine.pk}/change/"))
    refused = client.post(f"/admin/engine/webhookendpoint/{mine.pk}/act/disable")
    assert refused.status_code == 403
    other = WebhookEndpoint.objects.exclude(pk=mine.pk).get()
    assert client.get(f"/admin/engine/webhookendpoint/{other.pk}/change/").status_code == 302
    assert client.post(f"/admin/engine/webhookendpoint/{other.pk}/act/disable").status_code == 403
    assert mine.pk == sent.endpoint_id
    assert WebhookEndpoint.objects.filter(enabled=True).count() == 2
