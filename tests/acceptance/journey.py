"""What a program does that has nothing but the generated client; `test_journey.py` runs it.

Usage: PASSWORD=… python journey.py URL USER LEDGER OUT. Prints one line for each thing it did.
"""

from __future__ import annotations

import io
import json
import os
import sys
from http import HTTPStatus
from pathlib import Path

from ai_business_engine_client import AuthenticatedClient, Client
from ai_business_engine_client.api.access import sign_in, who_am_i
from ai_business_engine_client.api.artifacts import download_artifact
from ai_business_engine_client.api.departments import list_automations, pause_department
from ai_business_engine_client.api.runs import get_run, list_run_artifacts, list_runs, start_run
from ai_business_engine_client.api.webhooks import create_webhook
from ai_business_engine_client.models import (
    Credentials,
    Problem,
    RunDetail,
    RunState,
    StartRunFilesBody,
    WebhookRequest,
)
from ai_business_engine_client.types import File

AUTOMATION = "finance.cashflow_report"


def main(url: str, user: str, ledger: Path, out: Path) -> None:
    """Sign in, upload, start, follow, download; then try what is not allowed."""
    pair = sign_in.sync(client=Client(base_url=url), body=Credentials(user, os.environ["PASSWORD"]))
    client = AuthenticatedClient(base_url=url, token=pair.access)
    print("signed in as", who_am_i.sync(client=client).subject)
    print("can run", [found.name for found in list_automations.sync(client=client).results])

    run = started(client, ledger, key="journey-1")
    again = started(client, ledger, key="journey-1")
    assert again.id == run.id, "the same key starts no second run"
    print("started", run.automation)

    kinds = followed(client, run)
    print("followed", kinds[0], "to", kinds[-1])
    ended = get_run.sync(run_id=str(run.id), client=client)
    assert ended.state == RunState.SUCCEEDED, ended
    print("progress", ended.progress.percent, "%")

    files = {
        found.name: found for found in list_run_artifacts.sync(str(run.id), client=client).results
    }
    pdf = download_artifact.sync_detailed(str(files["report.pdf"].id), client=client)
    assert pdf.headers["content-disposition"].startswith("attachment"), pdf.headers
    (out / "report.pdf").write_bytes(pdf.content)
    print("downloaded report.pdf")

    refused(pause_department.sync_detailed("lab", client=client), HTTPStatus.NOT_FOUND, "not_found")
    body = WebhookRequest(url="https://example.com/hook")
    refused(
        create_webhook.sync_detailed(client=client, body=body),
        HTTPStatus.FORBIDDEN,
        "scope_missing",
    )
    stale = AuthenticatedClient(base_url=url, token=pair.access[:-4] + "AAAA")
    refused(list_runs.sync_detailed(client=stale), HTTPStatus.UNAUTHORIZED, "token_invalid")
    others = list_runs.sync(client=client, department="lab")
    assert others.results == [], "runs of other departments are not there"
    print("refused everything else")


def started(client: AuthenticatedClient, ledger: Path, *, key: str) -> RunDetail:
    """Upload the ledger and start the report on it in one call."""
    body = StartRunFilesBody(automation=AUTOMATION, input_=json.dumps({"title": "Journey"}))
    body["ledger"] = File(io.BytesIO(ledger.read_bytes()), ledger.name, "text/csv")
    answer = start_run.sync_detailed(client=client, body=body, idempotency_key=key)
    assert isinstance(answer.parsed, RunDetail), answer
    return answer.parsed


def followed(client: AuthenticatedClient, run: RunDetail) -> list[str]:
    """Read the run's stream to its end; return the kinds of its events."""
    kinds: list[str] = []
    address = f"/runs/{run.id}/stream"
    with client.get_httpx_client().stream("GET", address, timeout=60) as answer:
        assert answer.status_code == HTTPStatus.OK, answer.read()
        for line in answer.iter_lines():
            if line.startswith("event: "):
                kinds.append(line.removeprefix("event: "))
            if kinds and kinds[-1] == "end":
                break
    return kinds


def refused(answer: object, status: HTTPStatus, code: str) -> None:
    """Make sure that the call was refused, and why."""
    problem = answer.parsed
    assert isinstance(problem, Problem), answer
    assert (answer.status_code, problem.code) == (status, code), problem


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
