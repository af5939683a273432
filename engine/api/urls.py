"""Paths of the engine's API, as the operations contract names them."""

from __future__ import annotations

from django.urls import path

from engine.api import artifacts, auth, bulk, dead_letters, hooks, runs, streams, webhooks

urlpatterns = [
    path("runs", runs.RunsView.as_view(), name="runs"),
    # Before the runs themselves: none has this id.
    path("runs/cancel", bulk.CancelRunsView.as_view(), name="runs-cancel"),
    path("runs/<str:run_id>", runs.RunView.as_view(), name="run"),
    path("runs/<str:run_id>/steps", runs.StepsView.as_view(), name="run-steps"),
    path("runs/<str:run_id>/events", runs.EventsView.as_view(), name="run-events"),
    path("runs/<str:run_id>/artifacts", runs.ArtifactsView.as_view(), name="run-artifacts"),
    path("runs/<str:run_id>/stream", streams.RunStreamView.as_view(), name="run-stream"),
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
    path("hooks/<str:token>", hooks.HookView.as_view(), name="hook"),
    # Before the webhooks themselves: none has this id.
    path("webhooks/incoming", hooks.IncomingView.as_view(), name="incoming-hooks"),
    path("webhooks/incoming/<str:hook_id>", hooks.IncomingHookView.as_view(), name="incoming-hook"),
    path(
        "webhooks/incoming/<str:hook_id>/rotate-secret",
        hooks.RotateHookSecretView.as_view(),
        name="incoming-hook-rotate-secret",
    ),
    path("webhooks", webhooks.WebhooksView.as_view(), name="webhooks"),
    path("webhooks/<str:webhook_id>", webhooks.WebhookView.as_view(), name="webhook"),
    path(
        "webhooks/<str:webhook_id>/rotate-secret",
        webhooks.RotateSecretView.as_view(),
        name="webhook-rotate-secret",
    ),
    path("webhooks/<str:webhook_id>/enable", webhooks.EnableView.as_view(), name="webhook-enable"),
    path(
        "webhooks/<str:webhook_id>/disable", webhooks.DisableView.as_view(), name="webhook-disable"
    ),
    path("webhooks/<str:webhook_id>/test", webhooks.SendTestView.as_view(), name="webhook-test"),
    path(
        "webhooks/<str:webhook_id>/deliveries",
        webhooks.DeliveriesView.as_view(),
        name="webhook-deliveries",
    ),
    path(
        "webhooks/<str:webhook_id>/deliveries/<str:delivery_id>",
        webhooks.DeliveryView.as_view(),
        name="webhook-delivery",
    ),
    path(
        "webhooks/<str:webhook_id>/deliveries/<str:delivery_id>/resend",
        webhooks.ResendView.as_view(),
        name="webhook-resend",
    ),
    path("auth/token", auth.TokenView.as_view(), name="auth-token"),
    path("auth/refresh", auth.RefreshView.as_view(), name="auth-refresh"),
    path("auth/revoke", auth.RevokeView.as_view(), name="auth-revoke"),
    path("auth/me", auth.MeView.as_view(), name="auth-me"),
]
