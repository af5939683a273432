"""`manage.py webhooks`: who is told of events, and what became of each telling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from django.core.management.base import CommandError

from engine.management.interface import OperatorCommand, actor, row_id, run_id
from engine.models.webhooks import STATUSES
from engine.webhooks import deliveries, endpoints, selectors
from engine.webhooks.representations import DeliveryEntry, WebhookEntry, WebhookWithSecret

if TYPE_CHECKING:
    import argparse

    from engine.models import WebhookDelivery, WebhookEndpoint


class Command(OperatorCommand):
    help = "Add, list, rotate, enable, disable and remove webhooks; show and resend deliveries."
    subcommands: ClassVar[dict[str, str]] = {
        "list": "list webhooks, newest first",
        "add": "tell an address of events; prints its signing secret once",
        "rotate": "give a webhook a new secret, printed once; the old one signs too for 24 hours",
        "enable": "let webhooks be told again: what has waited goes out now",
        "disable": "let webhooks be told of nothing",
        "remove": "delete webhooks and their log; needs --apply",
        "deliveries": "show what a webhook was told, newest first",
        "resend": "send deliveries again, now, under the same webhook-id",
        "test": "send the event webhook.test",
    }

    def list_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--department")
        parser.add_argument("--limit", type=int, default=50)

    def adding_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("url", metavar="URL")
        parser.add_argument(
            "--event",
            action="append",
            default=[],
            choices=list(endpoints.EVENT_TYPES),
            dest="events",
        )
        parser.add_argument("--department", default="")
        parser.add_argument("--description", default="")

    def id_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("id", type=row_id, metavar="ID")

    rotate_arguments = test_arguments = id_arguments

    def ids_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("id", type=row_id, nargs="+", metavar="ID")

    enable_arguments = disable_arguments = ids_arguments

    def remove_arguments(self, parser: argparse.ArgumentParser) -> None:
        self.ids_arguments(parser)
        parser.add_argument("--apply", action="store_true", help="do it; else only say so")

    def deliveries_arguments(self, parser: argparse.ArgumentParser) -> None:
        self.id_arguments(parser)
        parser.add_argument("--status", choices=STATUSES)
        parser.add_argument("--run", type=run_id, metavar="RUN")
        parser.add_argument("--limit", type=int, default=50)

    def resend_arguments(self, parser: argparse.ArgumentParser) -> None:
        self.id_arguments(parser)
        parser.add_argument("delivery", type=row_id, nargs="+", metavar="DELIVERY")

    def do_list(self, **options: Any) -> None:
        self._write(selectors.endpoints(limit=limit(options), department=options["department"]))

    def do_add(self, **options: Any) -> None:
        row, secret = endpoints.create(
            url=options["url"],
            event_types=list(dict.fromkeys(options["events"])),
            department=options["department"],
            description=options["description"],
            actor=actor(),
        )
        self._write_secret(row, secret)

    def do_rotate(self, **options: Any) -> None:
        row, secret = endpoints.rotate_secret(endpoint_id=options["id"], actor=actor())
        self._write_secret(row, secret)

    def do_enable(self, **options: Any) -> None:
        by = actor()
        self._write([endpoints.enable(endpoint_id=pk, actor=by) for pk in options["id"]])

    def do_disable(self, **options: Any) -> None:
        by = actor()
        self._write([endpoints.disable(endpoint_id=pk, actor=by) for pk in options["id"]])

    def do_remove(self, **options: Any) -> None:
        rows = [selectors.endpoint(endpoint_id=pk) for pk in options["id"]]
        by = actor()
        if not options["apply"]:
            self._write(rows)
            if not self.json:
                self.stdout.write("Nothing is changed; add --apply.")
            return
        for row in rows:
            endpoints.remove(endpoint_id=row.pk, actor=by)
        if self.json:
            self.write_json([row.pk for row in rows])
        else:
            self.stdout.write(f"Removed {len(rows)}.")

    def do_deliveries(self, **options: Any) -> None:
        selectors.endpoint(endpoint_id=options["id"])
        self._write_deliveries(
            selectors.deliveries(
                endpoint_id=options["id"],
                limit=limit(options),
                status=options["status"],
                run_id=options["run"],
            )
        )

    def do_resend(self, **options: Any) -> None:
        by = actor()
        self._write_deliveries(
            [
                deliveries.resend(delivery_id=pk, endpoint_id=options["id"], actor=by)
                for pk in options["delivery"]
            ]
        )

    def do_test(self, **options: Any) -> None:
        self._write_deliveries([deliveries.send_test(endpoint_id=options["id"], actor=actor())])

    def _write_secret(self, row: WebhookEndpoint, secret: str) -> None:
        if self.json:
            self.write_json(WebhookWithSecret.of(row, secret=secret).model_dump(mode="json"))
            return
        self._write([row])
        self.stdout.write(f"Secret, shown this once: {secret}")

    def _write(self, rows: list[WebhookEndpoint]) -> None:
        if self.json:
            self.write_json([WebhookEntry.of(row).model_dump(mode="json") for row in rows])
            return
        self.write_table(
            ["ID", "STATE", "URL", "EVENTS", "DEPARTMENT", "FAILURES", "DESCRIPTION"],
            [
                [
                    str(row.pk),
                    "enabled" if row.enabled else f"disabled: {row.disabled_reason}",
                    row.url,
                    ", ".join(row.event_types) or "every one",
                    row.department or "every one",
                    f"{row.failures} since {row.failing_since:%Y-%m-%d %H:%M}"
                    if row.failing_since
                    else "",
                    row.description,
                ]
                for row in rows
            ],
        )

    def _write_deliveries(self, rows: list[WebhookDelivery]) -> None:
        if self.json:
            self.write_json([DeliveryEntry.of(row).model_dump(mode="json") for row in rows])
            return
        self.write_table(
            ["ID", "STATUS", "EVENT", "RUN", "ATTEMPT", "ANSWER", "NEXT", "ATTEMPTED", "EXCERPT"],
            [
                [
                    str(row.pk),
                    row.status,
                    row.event_type,
                    str(row.run_id or ""),
                    str(row.attempt),
                    " ".join(filter(None, [str(row.response_code or ""), row.error_code])),
                    f"{row.next_at:%Y-%m-%d %H:%M:%S}" if row.status == "pending" else "",
                    f"{row.attempted_at:%Y-%m-%d %H:%M:%S}" if row.attempted_at else "",
                    row.excerpt[:80],
                ]
                for row in rows
            ],
        )


def limit(options: dict[str, Any]) -> int:
    """Return how many rows are asked for."""
    found: int = options["limit"]
    if found < 1:
        raise CommandError("--limit must be 1 or more.")
    return found
