"""Whether a stack holds exactly what its log asks for: the product's own audit, which must find nothing.

The stack is quiet, its log whole and its records' times months old, so the tests ask for more than an operator can:
nothing may have been left out as under way, moved or expired.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, Final

from model.encoder.base import Encoder
from model.encoder.dummy import DummyEncoder
from model.update import DAY_MS
from model.users import user_key
from ops.audit.report import Report
from ops.audit.rules import Rules
from ops.audit.run import audit
from ops.cli.target import Target
from schemas.access import KafkaAccess
from schemas.settings import ReleasePlace
from tests.fault.harness import Stack
from tests.fault.load import START_MS
from worker.settings import WorkerSettings

KEY: Final = partial(user_key, secret=b"")
_DEFAULTS: Final = {name: field.default for name, field in WorkerSettings.model_fields.items()}
RULES: Final = Rules(
    now_ms=START_MS,  # so nothing is old enough to have expired
    newcomer_events=_DEFAULTS["newcomer_events"],
    user_ttl_ms=int(_DEFAULTS["user_ttl_days"] * DAY_MS),
)


def assert_equals_reference(
    stack: Stack, encoder: Encoder | None = None, *, not_checked: bool = False, **rules: Any
) -> Report:
    """Fails with every finding (at most ten of a kind). rules: see Rules, those that differ from RULES; exactly_once
    where nothing may be there twice, undisturbed where no fault happened. not_checked: something may be left out."""
    report = audited(stack, encoder, **rules)
    lines = [
        f"{kind} ({report.findings.counts[kind]}): {example.where}: {example.said}"
        for kind, examples in report.findings.examples.items()
        for example in examples
    ]
    if not not_checked:
        lines += [f"not checked: {what}" for what in report.not_checked]
    assert not lines, "\n".join(lines)
    return report


def audited(stack: Stack, encoder: Encoder | None = None, **rules: Any) -> Report:
    """What the audit says of a stack. rules: those that differ from RULES."""
    return audit(target(stack), encoder or DummyEncoder(), replace(RULES, **rules))


def target(stack: Stack) -> Target:
    return Target(
        kafka=KafkaAccess(stack.broker.address),
        redis_url=stack.redis.url,
        group=stack.group,
        namespace=stack.namespace,
        releases=ReleasePlace(stack.directory / "releases"),
    )


def known(stack: Stack, user: str) -> bool:
    """Whether Redis has a state of this user."""
    store = stack.store(DummyEncoder().space)
    try:
        return store.load([KEY(user)])[0].state is not None
    finally:
        store.close()
