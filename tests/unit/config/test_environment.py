"""A wrong value of the log's settings is one line that names the variable."""

from __future__ import annotations

import pytest
from django.core.exceptions import ImproperlyConfigured

from config import environment


def test_level__is_taken_in_any_case(monkeypatch):
    monkeypatch.setenv("LOG_LEVEL", "debug")
    assert environment.level("LOG_LEVEL", "INFO") == "DEBUG"
    monkeypatch.setenv("LOG_LEVEL", "loud")
    with pytest.raises(ImproperlyConfigured, match=r"LOG_LEVEL must be one of .*WARNING.* 'LOUD'"):
        environment.level("LOG_LEVEL", "INFO")


def test_count__is_never_below_nothing(monkeypatch):
    """A log that is rotated at -1 bytes is rotated at every line, and keeps five."""
    monkeypatch.setenv("LOG_FILE_BYTES", "0")
    assert environment.count("LOG_FILE_BYTES", 5) == 0
    for value in ("-1", "many"):
        monkeypatch.setenv("LOG_FILE_BYTES", value)
        with pytest.raises(ImproperlyConfigured, match="LOG_FILE_BYTES must be"):
            environment.count("LOG_FILE_BYTES", 5)
