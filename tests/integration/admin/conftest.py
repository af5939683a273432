import pytest
from django.contrib.auth.models import User

from engine.access import grants


@pytest.fixture(autouse=True)
def no_static_root(settings):
    # whitenoise warns of a STATIC_ROOT nobody has collected.
    settings.STATIC_ROOT = None


@pytest.fixture
def operator(client, line):
    client.force_login(User.objects.create_superuser("operator", "", "pw"))
    return client


@pytest.fixture
def onlooker(client, line):
    user = User.objects.create_user("onlooker", "", "pw", is_staff=True)
    grants.grant(user=user, role="viewer", by="root")
    client.force_login(user)
    return client
