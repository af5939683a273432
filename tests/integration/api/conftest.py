import pytest
from django.core.cache import cache

from tests.integration.faces import ApiClient


@pytest.fixture(autouse=True)
def no_leftovers(settings):
    # whitenoise warns of a STATIC_ROOT nobody has collected; throttles count in the cache.
    settings.STATIC_ROOT = None
    cache.clear()


@pytest.fixture
def api():
    return ApiClient()
