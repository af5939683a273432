"""Telling people about dead letters. The rows are the truth; this is the bell."""

from __future__ import annotations

import structlog

from engine import dead_letters, selectors

log = structlog.get_logger(__name__)


def notify(*, dead_letter_id: int) -> bool:
    """Announce a dead letter in the log, once; return whether this call was the one.

    The row remembers that it was announced (`notified_at`), so a duplicate message says nothing.
    """
    letter = dead_letters.notified(dead_letter_id=dead_letter_id)
    if letter is None:
        return False
    log.error(
        "dead_letter",
        dead_letter_id=letter.pk,
        run_id=str(letter.run_id),
        step_id=letter.step_run_id,
        correlation_id=selectors.run(run_id=letter.run_id).correlation_id,
        department=letter.department,
        automation=letter.automation,
        step=letter.step,
        error_code=letter.error_code,
        attempt=letter.attempts,
        remedy=f"manage.py dlq show {letter.pk}",
    )
    return True
