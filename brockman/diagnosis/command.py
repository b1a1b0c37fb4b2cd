"""The command's options and output, for `brockman check` and `manage.py focuslab_check`."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from typing import Any

from brockman.diagnosis.finding import Conclusion, Finding, Status, conclude
from brockman.diagnosis.settings import Setup
from brockman.process.clock import monotonic

DEFAULT_TIMEOUT = 10.0  # seconds
_WIDTH = max(len(status.value) for status in Status)


def add_options(parser: argparse.ArgumentParser, seconds: Callable[[str], float]) -> None:
    """Add the options that both commands have; `seconds` parses a number."""
    parser.add_argument(
        "--timeout",
        type=seconds,
        default=DEFAULT_TIMEOUT,
        metavar="SECONDS",
        help="the longest that it may take (default: %(default)g)",
    )
    parser.add_argument(
        "--no-send", action="store_true", help="send no trigger: what becomes of one stays unknown"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of lines")


def run_check(
    setup: Setup,
    notes: Sequence[Finding],
    options: argparse.Namespace,
    write: Callable[[str], object],
    paint: Callable[[Status, str], str] = lambda status, text: text,
) -> Conclusion:
    """Examine the settings and the way to the endpoint, and write what is found, each step when it is done.

    Args:
        setup: The settings to examine.
        notes: Findings to begin with.
        options: Those of `add_options`.
        write: Prints a line.
        paint: Returns the word of a status in its colour.
    """
    from brockman.diagnosis.examination import examine  # here: it imports requests

    begun, findings = monotonic(), list[Finding]()

    def add(found: Finding) -> None:
        findings.append(found)
        if not options.json:
            write(f"{paint(found.status, f'{found.status.value:<{_WIDTH}}')}  {found.line}")

    with _quiet_log(), redirect_stdout(sys.stderr) if options.json else nullcontext():
        for found in notes:
            add(found)
        for found in examine(setup, timeout=options.timeout, sends=not options.no_send):
            add(found)
    conclusion = conclude(findings)
    if options.json:
        write(json.dumps(_as_json(findings, conclusion, monotonic() - begun)))
    return conclusion


@contextmanager
def _quiet_log() -> Iterator[None]:
    """Keep the client's own log out of the output: the steps say the same."""
    log = logging.getLogger("brockman")
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before


def _as_json(findings: Sequence[Finding], conclusion: Conclusion, seconds: float) -> dict[str, Any]:
    cause = conclusion.cause
    return {
        "ok": cause is None,
        "conclusion": conclusion.text,
        "cause": None if cause is None else {"step": cause.step, "seen": cause.seen, "advice": cause.advice},
        "exit_status": conclusion.exit_status,
        "seconds": round(seconds, 4),
        "steps": [found.as_json() for found in findings],
    }
