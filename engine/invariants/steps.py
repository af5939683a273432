"""I2 to I5, I8, I10: every step is where its parents, its run and its claim say it is.

The waits of I2 are judged by what the row holds, not by the clock: a row that somebody will find is
in order also while the platform is stopped. Whether the processes live is `/health`'s to say.
"""

from __future__ import annotations

from engine.invariants.plans import CANCEL_IT, NODES, OWED, STARTED
from engine.invariants.surveys import Check, Survey
from engine.policies import MAX_CRASHES

OPEN = "s.state NOT IN ('succeeded', 'failed', 'dead', 'cancelled', 'skipped')"
BY_HAND = "A bug or a hand wrote this row. "

STEPS = Survey(
    name="steps",
    before=f"""{NODES}, {OWED},
        letter AS (
            SELECT step_run_id, count(*) FILTER (WHERE state = 'open') AS open,
                (array_agg(state ORDER BY id DESC))[1] AS last
            FROM engine_deadletter GROUP BY step_run_id),
        question AS (SELECT DISTINCT step_run_id FROM engine_effect WHERE state = 'unknown')""",
    source="""
        FROM engine_steprun s LEFT JOIN engine_run r ON r.id = s.run_id
        LEFT JOIN node n ON n.version_id = r.version_id AND n.key = s.key
        LEFT JOIN owed w ON w.run_id = s.run_id AND w.key = s.key AND s.map_index = -1
        LEFT JOIN engine_lane a ON a.slug = s.lane
        LEFT JOIN engine_lease l ON l.claim = s.claim
        LEFT JOIN letter d ON d.step_run_id = s.id
        LEFT JOIN question q ON q.step_run_id = s.id
        LEFT JOIN engine_stepoutput o ON o.step_run_id = s.id
        LEFT JOIN engine_stepinput i ON i.step_run_id = s.id""",
    run_id="s.run_id",
    step_run_id="s.id",
    facts={
        "step": "s.key",
        "state": "s.state",
        "run_state": "r.state",
        "pending": "s.pending",
        "owed": "COALESCE(w.n, 0)",
        "lane": "s.lane",
        "claim": "s.claim",
        "crashes": "s.crashes",
        "failures": "s.failures",
        "attempt": "s.attempt",
        "letters": "COALESCE(d.open, 0)",
        "kind": "s.kind",
        "map_index": "s.map_index",
    },
    checks=(
        Check(
            name="step_has_its_run",
            invariant="I1",
            broken="r.id IS NULL",
            says="is of a run that is not there",
            remedy=BY_HAND + "It will not be claimed; restore its run, or delete it.",
        ),
        Check(
            name="step_is_planned",
            invariant="I1",
            broken="r.id IS NOT NULL AND n.key IS NULL"
            " OR s.kind <> CASE WHEN s.map_index = -1 THEN n.kind"
            " ELSE 'step' END OR (s.map_index >= 0 AND n.kind <> 'map')",
            says="{step}[{map_index}] is a {kind} that the run's plan does not have",
            remedy=CANCEL_IT,
        ),
        Check(
            name="item_has_its_input",
            invariant="I1",
            broken="s.map_index >= 0 AND i.step_run_id IS NULL",
            says="is an item without the value it works on",
            remedy=CANCEL_IT,
        ),
        Check(
            name="step_pending_counts",
            invariant="I5",
            broken="s.pending <> COALESCE(w.n, 0)",
            says="counts {pending} parents, {owed} have not succeeded",
            remedy=CANCEL_IT,
        ),
        Check(
            name="parents_come_first",
            invariant="I4",
            broken=f"w.n > 0 AND s.state IN {STARTED}",
            says="is {state} although {owed} parents have not succeeded",
            remedy="Do not trust its result: cancel the run and start it again.",
        ),
        Check(
            name="waiting_has_a_parent",
            invariant="I2",
            broken="s.state = 'waiting' AND COALESCE(w.n, 0) = 0 AND r.state <> 'cancelling'",
            says="waits although every parent has succeeded: nobody will ready it",
            remedy=CANCEL_IT,
        ),
        Check(
            name="ended_run_has_ended_steps",
            invariant="I9",
            broken=f"{OPEN} AND r.state IN ('succeeded', 'failed', 'cancelled', 'timed_out')",
            says="is {state} in a run that is {run_state}",
            remedy=BY_HAND + "It will not be claimed; keep the run's history for the bug report.",
        ),
        Check(
            name="holder_has_a_lease",
            invariant="I2",
            broken="(s.state = 'running' OR (s.state = 'queued' AND s.claim IS NOT NULL))"
            " AND l.claim IS NULL",
            says="is {state} under claim {claim}, of which no lease is known",
            remedy="The manager's reaper ends running ones within a second; see that it is alive.",
        ),
        Check(
            name="claim_has_a_holder",
            invariant="I2",
            broken="s.claim IS NOT NULL"
            " AND s.state IN ('waiting', 'ready', 'retry_wait', 'sleeping', 'awaiting')",
            says="is {state} with claim {claim}, so that nobody can claim it",
            remedy=BY_HAND + "Cancel the run.",
        ),
        Check(
            name="sleeper_has_a_moment",
            invariant="I2",
            broken="s.state IN ('retry_wait', 'sleeping') AND s.next_at IS NULL",
            says="is {state} without a moment at which to wake",
            remedy=BY_HAND + "Cancel the run, or set `next_at` to now.",
        ),
        Check(
            name="sent_step_has_a_moment",
            invariant="I2",
            broken="s.state = 'queued' AND s.claim IS NULL AND s.dispatched_at IS NULL",
            says="is queued since nobody knows when: a lost message would not be missed",
            remedy="Pause and resume the run: what is ready is sent again.",
        ),
        Check(
            name="lane_exists",
            invariant="I2",
            broken=f"{OPEN} AND a.slug IS NULL",
            says="is in the lane {lane}, which does not exist: nobody sends or claims it",
            remedy="Run `manage.py sync_catalog`; a submission of that department declares it too.",
        ),
        Check(
            name="stopped_step_has_an_ending_run",
            invariant="I10",
            broken=f"{OPEN} AND s.cancel_requested AND r.state <> 'cancelling'",
            says="is {state} and asked to stop in a {run_state} run: nobody claims or ends it",
            remedy="Cancel the run; a requeue clears the mark.",
        ),
        Check(
            name="awaiting_has_a_question",
            invariant="I2",
            broken="s.state = 'awaiting' AND q.step_run_id IS NULL",
            says="awaits an answer, but nothing is asked of anybody",
            remedy=CANCEL_IT,
        ),
        Check(
            name="dead_step_has_a_letter",
            invariant="I2",
            broken="s.state = 'dead' AND COALESCE(d.last, '') NOT IN ('open', 'discarded')",
            says="is dead and nobody is asked: no open dead letter, none discarded",
            remedy="Cancel the run.",
        ),
        Check(
            name="letter_has_a_dead_step",
            invariant="I2",
            broken="s.state <> 'dead' AND d.open > 0",
            says="has an open dead letter and is {state}",
            remedy="Discard nothing: a discard would end the run. Keep it for the bug report.",
        ),
        Check(
            name="poison_is_dead",
            invariant="I8",
            broken=f"s.crashes > {MAX_CRASHES} OR (s.crashes = {MAX_CRASHES}"
            " AND s.state <> 'dead')",
            says=f"has lost {{crashes}} workers and is {{state}}; {MAX_CRASHES} make it dead",
            remedy="Cancel the run before it costs another worker.",
        ),
        Check(
            name="attempts_cover_failures",
            invariant="I7",
            broken="s.failures + s.crashes > s.attempt",
            says="has {failures} failures and {crashes} crashes in {attempt} attempts",
            remedy=BY_HAND + "Its budget of attempts cannot be trusted: cancel the run.",
        ),
        Check(
            name="output_is_of_a_success",
            invariant="I3",
            broken="o.step_run_id IS NOT NULL AND s.state <> 'succeeded'",
            says="is {state} and has an output",
            remedy="Do not trust its result: cancel the run and start it again.",
        ),
        Check(
            name="success_has_an_output",
            invariant="I3",
            broken="o.step_run_id IS NULL AND s.state = 'succeeded' AND s.kind = 'step'",
            says="is succeeded and its output is not there",
            remedy="Restore it from a backup, or start the run again.",
        ),
    ),
)

LEASES = Survey(
    name="leases",
    source="""
        FROM engine_lease l
        WHERE NOT EXISTS (SELECT 1 FROM engine_steprun s
            WHERE s.claim = l.claim AND s.state IN ('queued', 'running'))""",
    facts={"claim": "l.claim", "worker": "l.worker", "expires_at": "l.expires_at"},
    checks=(
        Check(
            name="lease_has_a_holder",
            invariant="I2",
            broken="true",
            says="lease {claim} of {worker} holds no step",
            remedy="The manager's reaper removes it when it expires. Report it all the same.",
        ),
    ),
)
