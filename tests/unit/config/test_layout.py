"""Where the embedded servers keep their files."""

import os
import stat
from pathlib import Path

import pytest

from config.embedded import layout
from config.embedded.errors import EmbeddedError


@pytest.fixture
def rooms(tmp_path):
    found = layout.Layout(var_dir=tmp_path / "var")
    found.prepare()
    yield found
    memory = found.run_dir / "socket_dir"
    if memory.exists():
        Path(memory.read_text().strip()).rmdir()


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_layout__keeps_every_folder_private(rooms):
    assert mode(rooms.var_dir) == 0o700
    assert {mode(folder) for folder in rooms.var_dir.iterdir()} == {0o700}


def test_layout__closes_folders_that_stood_open(rooms):
    rooms.log_dir.chmod(0o755)
    rooms.prepare()
    assert mode(rooms.log_dir) == 0o700


def test_layout__names_the_owner_of_a_foreign_folder(rooms, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(EmbeddedError, match=r"belongs to .* run as"):
        rooms.prepare()


def test_layout__puts_the_socket_beside_the_data_when_the_path_is_short(rooms):
    assert rooms.socket_dir() == rooms.run_dir / "pg"
    assert mode(rooms.socket_dir()) == 0o700


@pytest.fixture
def deep(tmp_path, monkeypatch):
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    found = layout.Layout(var_dir=tmp_path / ("d" * 100) / "var")
    found.prepare()
    yield found
    Path((found.run_dir / "socket_dir").read_text().strip()).rmdir()


def test_socket_dir__is_short_private_and_remembered_below_a_deep_checkout(deep):
    first = deep.socket_dir()
    assert len(os.fsencode(first / layout.POSTGRES_SOCKET_NAME)) <= layout.SOCKET_PATH_BYTES
    assert mode(first) == 0o700
    assert deep.socket_dir() == first


def test_socket_dir__is_not_trusted_any_more_when_others_could_enter(deep):
    first = deep.socket_dir()
    first.chmod(0o755)
    second = deep.socket_dir()
    first.rmdir()
    assert second != first


def test_socket_dir__does_not_follow_a_link_somebody_prepared(deep, tmp_path):
    first = deep.socket_dir()
    first.rmdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    first.symlink_to(elsewhere)
    second = deep.socket_dir()
    first.unlink()
    assert second != first


def test_write_private__is_readable_by_its_owner_only(tmp_path):
    path = tmp_path / "secret"
    layout.write_private(path, "x")
    assert (mode(path), path.read_text()) == (0o600, "x")
    assert list(tmp_path.iterdir()) == [path]
