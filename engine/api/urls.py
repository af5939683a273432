"""Paths of the engine's API, as the operations contract names them."""

from __future__ import annotations

from django.urls import path

from engine.api import artifacts, auth, bulk, dead_letters, runs

urlpatterns = [
    path("runs", runs.RunsView.as_view(), name="runs"),
    # Before the runs themselves: none has this id.
    path("runs/cancel", bulk.CancelRunsView.as_view(), name="runs-cancel"),
    path("runs/<str:run_id>", runs.RunView.as_view(), name="run"),
    path("runs/<str:run_id>/steps", runs.StepsView.as_view(), name="run-steps"),
    path("runs/<str:run_id>/events", runs.EventsView.as_view(), name="run-events"),
    path("runs/<str:run_id>/artifacts", runs.ArtifactsView.as_view(), name="run-artifacts"),
    path("runs/<str:run_id>/why", runs.WhyView.as_view(), name="run-why"),
    path("runs/<str:run_id>/cancel", runs.CancelView.as_view(), name="run-cancel"),
    path("runs/<str:run_id>/pause", runs.PauseView.as_view(), name="run-pause"),
    path("runs/<str:run_id>/resume", runs.ResumeView.as_view(), name="run-resume"),
    path("runs/<str:run_id>/retry", runs.RetryView.as_view(), name="run-retry"),
    path("artifacts/<str:artifact_id>", artifacts.ArtifactView.as_view(), name="artifact"),
    path("dead-letters", dead_letters.DeadLettersView.as_view(), name="dead-letters"),
    path(
        "dead-letters/requeue",
        bulk.RequeueDeadLettersView.as_view(),
        name="dead-letters-requeue",
    ),
    path(
        "dead-letters/discard",
        bulk.DiscardDeadLettersView.as_view(),
        name="dead-letters-discard",
    ),
    path(
        "dead-letters/<str:dead_letter_id>",
        dead_letters.DeadLetterView.as_view(),
        name="dead-letter",
    ),
    path(
        "dead-letters/<str:dead_letter_id>/requeue",
        dead_letters.RequeueView.as_view(),
        name="dead-letter-requeue",
    ),
    path(
        "dead-letters/<str:dead_letter_id>/discard",
        dead_letters.DiscardView.as_view(),
        name="dead-letter-discard",
    ),
    path("auth/token", auth.TokenView.as_view(), name="auth-token"),
    path("auth/refresh", auth.RefreshView.as_view(), name="auth-refresh"),
    path("auth/me", auth.MeView.as_view(), name="auth-me"),
]
