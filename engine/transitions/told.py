"""What each event of `automation.events` says of its run, so that none leaves a word out."""

from __future__ import annotations

#: For RETURNING, of the run under the alias `r`.
OF_RUN = "r.id, r.state, r.automation, r.department, r.correlation_id, r.traceparent"


def words(row: str) -> str:
    """Return the arguments of `jsonb_build_object`; `row` has the columns of OF_RUN."""
    return f"""'automation', {row}.automation, 'department', {row}.department,
        'correlation_id', {row}.correlation_id, 'traceparent', {row}.traceparent,
        'status', {row}.state"""
