import pytest
from django.contrib.auth.models import User

pytestmark = pytest.mark.django_db

SIGN_IN = "/admin/login/"


@pytest.fixture(autouse=True)
def somebody():
    User.objects.create_superuser("root", "", "pw")


def tried(client, password, following="/admin/"):
    given = {"username": "root", "password": password, "next": following}
    return client.post(SIGN_IN, given)


@pytest.mark.parametrize(
    "following",
    ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)"],
)
def test_sign_in__leads_nowhere_else(client, following):
    assert tried(client, "pw", following).headers["Location"] == "/admin/"


def test_sign_in__gives_a_cookie_scripts_cannot_read(client):
    cookie = tried(client, "pw").cookies["sessionid"]
    assert cookie["httponly"]
    assert cookie["samesite"] == "Lax"
