"""The tables of the engine, one file per subject; re-exported because Django looks here."""

from engine.models.artifacts import Artifact
from engine.models.audit import AuditRecord, AuditSeal
from engine.models.dead_letters import DeadLetter
from engine.models.definitions import AutomationVersion
from engine.models.effects import Effect
from engine.models.events import OutboxEvent, RunEvent
from engine.models.idempotency import IdempotentAnswer
from engine.models.lanes import Lane, WorkerPresence
from engine.models.lockouts import Lockout
from engine.models.roles import RoleGrant
from engine.models.runs import Lease, Run, RunTag, StepInput, StepOutput, StepRun
from engine.models.tokens import AccessVersion, MachineToken, Revocation, SignIn, SigningKey
from engine.models.webhooks import IncomingHook, WebhookDelivery, WebhookEndpoint

__all__ = [
    "AccessVersion",
    "Artifact",
    "AuditRecord",
    "AuditSeal",
    "AutomationVersion",
    "DeadLetter",
    "Effect",
    "IdempotentAnswer",
    "IncomingHook",
    "Lane",
    "Lease",
    "Lockout",
    "MachineToken",
    "OutboxEvent",
    "Revocation",
    "RoleGrant",
    "Run",
    "RunEvent",
    "RunTag",
    "SignIn",
    "SigningKey",
    "StepInput",
    "StepOutput",
    "StepRun",
    "WebhookDelivery",
    "WebhookEndpoint",
    "WorkerPresence",
]
