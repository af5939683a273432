"""Every page of ours in a real browser: it works under its own policy, and needs all of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from urllib.parse import urlsplit

import pytest

from tests.acceptance.stack import ROOT
from tests.browser import Browser
from tests.eventually import eventually

pytestmark = pytest.mark.timeout(300)

NAME, PASSWORD = "looker", "only-for-looking-1234"
LINKS = "[...document.links].map(link => link.href)"
#: Pages that are each the same but for an id or a date, visited once.
VARYING = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}|\d+")
#: Leads out, or changes something.
LEFT_OUT = re.compile(r"/admin/(logout|jsi18n|.*/download|.*/content)")
MOST_PAGES = 120


@pytest.fixture(scope="module")
def looker(stack):
    """A superuser, and something to see: a run that succeeded, one that is blocked, a schedule."""
    subprocess.run(
        [sys.executable, "manage.py", "createsuperuser", "--noinput", "--username", NAME,
         "--email", "looker@example.org"],
        cwd=ROOT,
        env=stack.environment | {"DJANGO_SUPERUSER_PASSWORD": PASSWORD},
        check=True,
        capture_output=True,
    )  # fmt: skip
    stack.reaches(stack.submit("lab.squares", count=3), "succeeded")
    stack.reaches(stack.submit("lab.fragile", folder=str(stack.folder)), "blocked")
    return NAME


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture
def page(browser):
    return browser.page()


def sign_in(page, stack):
    page.open(f"{stack.url}/admin/login/")
    if page.ask("document.querySelector('#id_username') !== null"):
        page.submit(
            f"document.querySelector('#id_username').value = '{NAME}';"
            f"document.querySelector('#id_password').value = '{PASSWORD}';"
            "document.querySelector('#id_password').form.submit()"
        )
    assert page.ask("location.pathname") == "/admin/"


def shape(url: str) -> tuple[str, bool]:
    """Return what pages that differ only in an id, or in how they are filtered, have in common."""
    parts = urlsplit(url)
    return VARYING.sub("0", parts.path), bool(parts.query)


def crawl(page, stack, *, begin: list[str]) -> dict[str, list[str]]:
    """Visit a page of every shape there is a link to; return what each complained of."""
    waiting, seen, found = list(begin), set(), {}
    while waiting:
        url = waiting.pop(0).partition("#")[0]
        parts = urlsplit(url)
        if f"{parts.scheme}://{parts.netloc}" != stack.url or LEFT_OUT.search(parts.path):
            continue
        if not parts.path.startswith("/admin/") or shape(url) in seen:
            continue
        seen.add(shape(url))
        assert len(seen) < MOST_PAGES, sorted(seen)
        page.open(url)
        found[url] = page.complaints()
        waiting += page.ask(LINKS)
    return found


def test_admin__every_page_opens_without_a_violation_or_an_error(stack, looker, page, tmp_path):
    sign_in(page, stack)
    assert page.complaints() == []
    begin = [f"{stack.url}/admin/", f"{stack.url}/admin/password_change/"]
    found = crawl(page, stack, begin=begin)
    print(f"\nadmin: {len(found)} pages, {sum(map(len, found.values()))} complaints")
    assert len(found) > 25
    assert {url: said for url, said in found.items() if said} == {}
    if folder := os.environ.get("PICTURES"):
        page.open(f"{stack.url}/admin/")
        page.picture(tmp_path.__class__(folder) / "admin.png")


def test_admin__its_scripts_work_under_the_policy(stack, looker, page):
    sign_in(page, stack)
    assert page.ask("typeof Alpine") == "object"
    opened = "getComputedStyle(document.querySelector('nav[x-show]')).display"
    assert page.ask("document.querySelectorAll('[x-show]').length") > 0, opened
    assert page.complaints() == []


def test_admin__a_script_that_is_put_into_a_page_does_not_run(stack, looker, page):
    sign_in(page, stack)
    page.ask(
        "(() => { const bad = document.createElement('script');"
        " bad.textContent = 'window.__ran = true'; document.body.append(bad) })()"
    )
    page.ask(
        "(() => { const bad = document.createElement('img'); bad.src = 'x:';"
        " bad.setAttribute('onerror', 'window.__ran = true'); document.body.append(bad) })()"
    )
    page.ask("fetch('https://collector.example/').catch(() => null)")
    assert page.ask("window.__ran") is None
    said = " ".join(page.complaints())
    for directive in ("script-src-elem inline", "script-src-attr inline", "connect-src"):
        assert directive in said


@pytest.mark.parametrize(
    "allowed",
    [
        "/admin/ script-src 'self'",
        "/admin/ script-src 'unsafe-eval'",
        "/admin/ style-src 'self'",
        "/admin/ style-src 'unsafe-inline'",
        "/admin/ font-src 'self'",
        "/docs script-src 'self'",
        "/docs style-src 'self'",
        "/docs img-src data:",
        "/docs connect-src 'self'",
    ],
)
def test_policy__allows_nothing_that_its_page_does_not_need(stack, looker, page, allowed):
    path, directive, source = allowed.split()
    sign_in(page, stack)

    def without(headers):
        policy = headers["content-security-policy"]
        parts = dict(part.split(" ", 1) for part in policy.split("; "))
        left = [word for word in parts[directive].split() if word != source]
        assert left != parts[directive].split(), policy
        parts[directive] = " ".join(left) or "'none'"
        changed = "; ".join(f"{name} {words}" for name, words in parts.items())
        return {**headers, "content-security-policy": changed}

    page.rewrite = without
    page.open(stack.url + path)
    said: list[str] = []

    def violated() -> bool:
        said.extend(page.complaints())
        return any(text.startswith(f"violates {directive}") for text in said)

    eventually(violated, within=20, what=f"{allowed} is needed")


def test_docs__open_without_a_violation_or_an_error_and_can_call(stack, looker, page):
    page.open(f"{stack.url}/docs")
    page.ask(
        "new Promise(done => { const look = () => document.querySelector('.opblock')"
        " ? done() : setTimeout(look, 50); look() })"
    )
    assert page.ask("document.querySelectorAll('.opblock').length") > 15
    assert page.ask("fetch('/runs').then(answer => answer.status)") == 401
    said = [text for text in page.complaints() if "401" not in text]
    assert said == []


def test_api__in_a_tab_is_text_in_a_sandbox(stack, page):
    page.open(f"{stack.url}/runs")
    assert "not_authenticated" in page.ask("document.body.innerText")
    assert page.ask("window.origin") == "null"
