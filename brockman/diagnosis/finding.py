"""The findings of a check, and its conclusion. Values only."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from brockman.options.fields import printable

ACTOR, ACTION, OBJECT = "brockman-check", "checked", "connection"  # of the triggers that a check sends
_STEP_WIDTH = 8  # of the longest name


class Status(enum.Enum):
    """How a step came out."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Finding:
    """A finding of one step.

    Attributes:
        step: settings, proxy, dns, tcp, tls, endpoint, key, single, array, clock or spool.
        status: How it came out.
        seen: What was seen.
        advice: What to do; "" where nothing is to be done.
        blocks: Whether a problem keeps triggers from arriving.
        details: The same for a program: values of JSON.
        seconds: How long the step took.
    """

    step: str
    status: Status
    seen: str
    advice: str = ""
    blocks: bool = True
    details: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        for name in ("seen", "advice"):  # with a server's words
            object.__setattr__(self, name, printable(getattr(self, name)))

    @property
    def text(self) -> str:
        """The observation, and the advice."""
        return f"{self.seen}: {self.advice}" if self.advice else self.seen

    @property
    def line(self) -> str:
        """The line for a person, without the status."""
        return f"{self.step:<{_STEP_WIDTH}}  {self.text}"

    def as_json(self) -> dict[str, Any]:
        """Return values of JSON."""
        return {
            "step": self.step,
            "status": self.status.value,
            "seen": self.seen,
            "advice": self.advice or None,
            "seconds": round(self.seconds, 4),
            **self.details,
        }


def problem(step: str, seen: str, advice: str, *, blocks: bool = True, **details: Any) -> Finding:
    return Finding(step, Status.PROBLEM, seen, advice, blocks, details)


def warning(step: str, seen: str, advice: str, **details: Any) -> Finding:
    return Finding(step, Status.WARNING, seen, advice, False, details)


def good(step: str, seen: str, **details: Any) -> Finding:
    return Finding(step, Status.OK, seen, "", False, details)


def skipped(step: str, seen: str) -> Finding:
    return Finding(step, Status.SKIPPED, seen, "", False)


@dataclass(frozen=True)
class Conclusion:
    """The result of a check.

    Attributes:
        text: One sentence: the cause and what to do, or that triggers arrive.
        cause: The finding that is the cause; None without a problem.
        exit_status: 0 without a problem, 1 with one, 2 where a setting is wrong.
    """

    text: str
    cause: Finding | None
    exit_status: int


def conclude(findings: Sequence[Finding]) -> Conclusion:
    """Return the conclusion. The steps come in the order of the way, so the first that blocks is the cause."""
    problems = [found for found in findings if found.status is Status.PROBLEM]
    if problems:
        cause = next((found for found in problems if found.blocks), problems[0])
        exit_status = 2 if cause.step == "settings" else 1
        odd = sum(found.status is Status.WARNING and found.step == "settings" for found in findings)
        shown = "warning" if odd == 1 else f"{odd} warnings"
        also = f"; see also the {shown} about settings above" if odd and exit_status == 1 else ""
        if cause.blocks:
            return Conclusion(f"nothing arrives because {cause.text}{also}", cause, exit_status)
    sent = [found for found in findings if found.step in ("single", "array") and found.status is Status.OK]
    if problems:
        start = "triggers arrive" if sent else "it is unknown whether triggers arrive, since none was sent"
        return Conclusion(f"{start}, but {cause.text}{also}", cause, exit_status)
    text = (
        "triggers arrive" if sent else "nothing wrong was found; whether triggers arrive is unknown: none was sent"
    )
    count = sum(found.status is Status.WARNING for found in findings)
    rest = f"; see the {'warning' if count == 1 else f'{count} warnings'} above" if count else ""
    return Conclusion(text + rest, None, 0)


def show_milliseconds(seconds: float) -> str:
    milliseconds = 1000 * seconds
    return f"{milliseconds:.0f} ms" if milliseconds >= 10 else f"{milliseconds:.1f} ms"
