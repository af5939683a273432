"""An audit that could look at nothing is no audit that found nothing."""

import subprocess

from tests import audit

#: As pip-audit 2 prints it, with exit code 0, where its service does not answer for a package.
SKIPPED = {
    "dependencies": [
        {
            "name": "amqp",
            "skip_reason": "Dependency not found on PyPI and could not be audited: amqp (5.4.2)",
        },
        {"name": "anyio", "version": "4.16.0", "vulns": []},
    ],
    "fixes": [],
}
VULNERABLE = {
    "dependencies": [
        {
            "name": "django",
            "version": "3.2.0",
            "vulns": [{"id": "PYSEC-2021-98", "fix_versions": ["3.2.4"], "aliases": []}],
        }
    ],
    "fixes": [],
}


def says(monkeypatch, *, stdout="", stderr="", code=0):
    done = subprocess.CompletedProcess([], code, stdout, stderr)
    monkeypatch.setattr(audit.subprocess, "run", lambda *_a, **_k: done)


def test_audit__of_packages_that_are_sound_passes(monkeypatch, capsys):
    says(monkeypatch, stdout='{"dependencies": [{"name": "a", "version": "1", "vulns": []}]}')
    assert audit.main(["base.txt"]) == 0
    assert capsys.readouterr().out == "base.txt: 1 packages, 0 findings\n"


def test_audit__fails_for_a_package_that_was_skipped(monkeypatch, capsys):
    says(monkeypatch, stdout=audit.json.dumps(SKIPPED), stderr="No known vulnerabilities found")
    assert audit.main(["base.txt"]) == 1
    assert "amqp: skipped" in capsys.readouterr().out


def test_audit__fails_for_a_package_that_is_vulnerable(monkeypatch, capsys):
    says(monkeypatch, stdout=audit.json.dumps(VULNERABLE), code=1)
    assert audit.main(["base.txt"]) == 1
    assert "django 3.2.0: PYSEC-2021-98, mended in 3.2.4" in capsys.readouterr().out


def test_audit__fails_when_it_could_not_ask(monkeypatch, capsys):
    says(monkeypatch, stderr="ERROR:pip_audit._cli:Could not connect", code=1)
    assert audit.main(["base.txt"]) == 1
    assert "Could not connect" in capsys.readouterr().out


def test_audit__fails_when_there_was_nothing_to_look_at(monkeypatch):
    says(monkeypatch, stdout='{"dependencies": [], "fixes": []}')
    assert audit.main(["base.txt"]) == 1
