"""Takes a log line out of that of another program: syslog, journald, Docker, Kubernetes. No I/O.

The parts of a pattern match different texts, and what repeats without a limit does so once: hostile lines cost
linear time.
"""

from __future__ import annotations

import json
import re

_ISO = r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z|[+-]\d\d:?\d\d)?"
_TAG = r"(?:\S{1,255} )?[^\s:\[]{1,64}(?:\[[^\]\s]{0,32}\])?: "  # web1 nginx[99]:
_PREFIX = re.compile(
    r"(?:"
    # syslog: RFC 5424, then RFC 3164 and rsyslog, as journalctl prints too
    r"<\d{1,3}>1 (?:\S{1,255} ){5}(?:-|(?:\[(?:[^\]\"\\]|\"(?:[^\"\\]|\\.)*\"|\\.)*\])+) \ufeff?"
    r"|(?:<\d{1,3}>)?[A-Z][a-z]{2} [ \d]?\d \d\d:\d\d:\d\d(?:\.\d{1,9})? " + _TAG
    + r"|(?:<\d{1,3}>)?(?:[A-Z][a-z]{2} )?" + _ISO + r" (?:[A-Z]{3,5} )?(?:(?:stdout|stderr) [FP] |" + _TAG + r")?"
    r"|\d{10}\.\d{6} " + _TAG
    # docker compose logs, kubectl logs --prefix
    + r"|[\w.-]{1,128} +\| |\[pod/\S{1,512}\] "
    r")\s*",
    re.ASCII,
)  # fmt: skip
# Where JSON has the line: Docker, journald, and what ships logs.
_KEYS = ("log", "MESSAGE", "message")
_MAX_LAYERS = 3


def unwrap(line: str) -> str:
    """Return the line inside; the line itself if there is none."""
    line = line.lstrip("\0\ufeff")
    for _ in range(_MAX_LAYERS):
        inner = _unwrap_once(line)
        if inner is None:
            break
        line = inner
    return line


def _unwrap_once(line: str) -> str | None:
    if line.startswith("{"):
        try:
            return unwrap_object(json.loads(line))
        except (ValueError, RecursionError):
            return None
    match = _PREFIX.match(line)
    return line[match.end() :] if match is not None else None


def unwrap_object(value: object) -> str | None:
    """Return the line that a JSON object wraps, or None."""
    if not isinstance(value, dict):
        return None
    for key in _KEYS:
        inner = value.get(key)
        if isinstance(inner, list):  # journald's spelling of what is not UTF-8
            try:
                inner = bytes(inner).decode("utf-8", "replace")
            except (TypeError, ValueError):
                continue
        if isinstance(inner, str):
            return inner.strip("\r\n\0")
    return None
