"""The settings of the Celery task; see `brockman.options.fields`. No I/O, no threads."""

from __future__ import annotations

from dataclasses import dataclass

from brockman.options.fields import Settings, choice, flag, number, setting


@dataclass(frozen=True, kw_only=True)
class CelerySettings(Settings):
    """The settings of the task; each is read from the environment as `FL_` and its name in capitals."""

    celery_mode: str = setting(
        "buffered",
        choice("buffered", "confirmed"),
        "mode",
        "When a worker acknowledges a message: `buffered`, when the trigger is in its buffer; `confirmed`, when"
        " the endpoint has accepted it.",
    )
    celery_fallback: bool = setting(
        True,
        flag,
        "flag",
        "Record in the calling process when the broker cannot be reached. Off: the call raises.",
    )
    celery_publish_timeout: float = setting(
        1.0,
        number(0, 3600, whole=False, above=True),
        "seconds",
        "The longest that a call waits for each answer of the broker.",
    )
    celery_context: bool = setting(
        True,
        flag,
        "flag",
        "Run every Celery task in the context of its caller, which its message carries. Read once in a process.",
    )


@dataclass(frozen=True, kw_only=True)
class ContextSettings(Settings):
    """The setting that holds for every Celery task; a mistake in another one does not matter to it."""

    celery_context: bool = setting(True, flag, "flag", "As in `CelerySettings`, whatever the other settings are.")
