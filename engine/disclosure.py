"""Payload as against metadata: show that work goes on without showing what it is about.

Metadata (names, states, times, error codes, keys, tags, names and sizes of files) is for whoever
may read a thing. Payload (inputs, outputs, messages of errors, data of events, receipts, contents)
is only for those whose policy `sees_payloads` of the department it is of. Every form that holds
payload is a `Disclosed` and names its fields; this module alone leaves them out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, TypeVar

from pydantic import BaseModel, Field

if TYPE_CHECKING:
    from engine.access.policy import Policy

#: What people are shown in place of payload.
HIDDEN = "not shown to your roles"


class Disclosed(BaseModel):
    """A form that holds payload: null where it was left out, which `payloads_hidden` says."""

    #: The fields that hold payload; `error.message` is a field of a field.
    payloads: ClassVar[tuple[str, ...]] = ()

    payloads_hidden: bool = Field(
        default=False,
        description=(
            "Whether inputs, outputs, messages of errors and data were left out (null), because "
            "the token lacks `runs.payloads`"
        ),
    )


Form = TypeVar("Form", bound=Disclosed)


def shown(form: Form, policy: Policy, department: str | None) -> Form:
    """Return the form as the holder of the policy may see it; the thing is of that department."""
    return form if policy.sees_payloads(department) else hidden(form)


def hidden(form: Form) -> Form:
    """Return the form without its payload."""
    changes: dict[str, object] = {"payloads_hidden": True}
    for place in form.payloads:
        name, _, inner = place.partition(".")
        value = getattr(form, name)
        within = isinstance(value, BaseModel) and inner
        changes[name] = value.model_copy(update={inner: None}) if within else None
    return form.model_copy(update=changes)
