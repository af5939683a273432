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


def test_page__offers_no_way_back_to_where_it_came_from(client):
    page = client.get(SIGN_IN).content.decode()
    assert "Return to site" not in page
    assert 'href="/"' not in page


def test_person__is_added_with_the_way_into_the_admin(client):
    tried(client, "pw")
    page = client.get("/admin/auth/user/add/").content.decode()
    assert 'name="usable_password"' not in page, "there is no other way to sign in"
    given = {"username": "ann", "password1": "right-9-horse", "password2": "right-9-horse"}
    no_roles = {"role_grants-TOTAL_FORMS": "0", "role_grants-INITIAL_FORMS": "0"}
    client.post("/admin/auth/user/add/", given | no_roles | {"is_staff": "on"})
    ann = User.objects.get(username="ann")
    assert ann.is_staff
    assert ann.check_password("right-9-horse")
