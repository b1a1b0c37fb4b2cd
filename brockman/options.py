"""Every setting, once. The keyword, the environment variable and the README's table are derived from here.

No I/O, no threads: the environment is passed in.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from types import MethodType
from typing import Any
from urllib.parse import urlsplit

from brockman.exceptions import ConfigurationError
from brockman.secret import Secret

ENVIRONMENT_PREFIX = "FL_"
DEFAULT_ENDPOINT = "https://api.focuslab.io/api/v1/"
_TRUE = ("1", "true", "yes", "on")
_FALSE = ("0", "false", "no", "off")
_LONGEST = 1e6  # seconds; beyond some 24 days the system's calls count milliseconds past 31 bits

Check = Callable[[Any], Any]  # returns the value to keep, or raises ValueError(what would be right)


def _number(low: float, high: float, *, whole: bool, above: bool = False) -> Check:
    bound = "above" if above else "of at least"
    expected = f"a {'whole ' if whole else ''}number {bound} {low:g} and at most {high:_.0f}"

    def check(value: Any) -> Any:
        if isinstance(value, str):
            try:
                value = int(value) if whole else float(value)
            except ValueError:
                raise ValueError(expected) from None
        kinds = (int,) if whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds):
            raise ValueError(expected)
        if not low <= value <= high or (above and value == low):  # nan is in no order
            raise ValueError(expected)
        return value if whole else float(value)

    return check


def _flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    text = value.strip().lower() if isinstance(value, str) else ""
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    raise ValueError("True or False (in the environment: 1, true, yes, on, 0, false, no, off)")


def _choice(*names: str) -> Check:
    def check(value: Any) -> str:
        if value not in names:
            raise ValueError("one of " + ", ".join(map(repr, names)))
        return str(value)

    return check


def _endpoint(value: Any) -> str:
    expected = "a URL such as https://api.focuslab.io/api/v1/, without user, query or fragment"
    if not isinstance(value, str) or not value.isprintable() or " " in value:
        raise ValueError(expected)
    try:
        parts = urlsplit(value)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or "@" in parts.netloc or "?" in value or "#" in value:
        raise ValueError(expected)
    return value if value.endswith("/") else value + "/"


def is_loopback(host: str) -> bool:
    """Return whether a host name or address is this machine."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return False


def _api_key(value: Any) -> Secret | None:
    if value is None or isinstance(value, Secret):
        return value
    return Secret(value)


def _callback(value: Any) -> Any:
    if value is not None and not callable(value):
        raise ValueError("a function, or None")
    return value


def _option(default: Any, check: Check, unit: str, doc: str, *, secret: bool = False) -> Any:
    return field(default=default, metadata={"check": check, "unit": unit, "doc": doc, "secret": secret})


_SECONDS = _number(0, _LONGEST, whole=False, above=True)
_WAIT = _number(0, _LONGEST, whole=False)
_COUNT = _number(1, 10**12, whole=True)


@dataclass(frozen=True, kw_only=True)
class Options:
    """The settings of a client. Seconds are floats, sizes end in `_bytes`, counts begin with `max_`."""

    api_key: Secret | None = _option(
        None,
        _api_key,
        "text",
        "The key of your FocusLab project. Required unless `enabled` is off.",
        secret=True,
    )
    endpoint: str = _option(DEFAULT_ENDPOINT, _endpoint, "URL", "Where the API is; `trigger/` is added.")
    enabled: bool = _option(True, _flag, "flag", "Off: every trigger counts as `disabled`; nothing is sent.")
    flush_interval: float = _option(1.0, _SECONDS, "seconds", "The longest a trigger waits before an attempt.")
    max_batch_size: int = _option(500, _COUNT, "triggers", "A batch this long goes at once.")
    max_batch_bytes: int = _option(512 * 1024, _COUNT, "bytes", "A batch this large goes at once.")
    max_queue_size: int = _option(10_000, _COUNT, "triggers", "How many may wait.")
    max_queue_bytes: int = _option(32 * 1024 * 1024, _COUNT, "bytes", "How large what waits may be, encoded.")
    max_trigger_bytes: int = _option(32 * 1024, _COUNT, "bytes", "How large one trigger may be, encoded.")
    overflow: str = _option(
        "drop_newest",
        _choice("drop_newest", "drop_oldest", "block", "raise"),
        "policy",
        "What `record_trigger` does when the buffer is full: `drop_newest`, `drop_oldest`, `block`, `raise`.",
    )
    block_timeout: float = _option(
        1.0,
        _WAIT,
        "seconds",
        "The longest `overflow='block'` waits; then the trigger is dropped.",
    )
    on_invalid: str = _option(
        "raise",
        _choice("raise", "drop"),
        "policy",
        "What a caller's mistake does: `raise` an `InvalidTrigger`, or `drop` and count it.",
    )
    connect_timeout: float = _option(3.05, _SECONDS, "seconds", "The longest one connection may take to open.")
    read_timeout: float = _option(
        10.0, _SECONDS, "seconds", "With `connect_timeout`: the longest one whole attempt may take."
    )
    backoff_base: float = _option(0.5, _SECONDS, "seconds", "The first retry waits up to this; then it doubles.")
    backoff_cap: float = _option(60.0, _SECONDS, "seconds", "The longest wait between retries.")
    max_attempts: int = _option(
        10, _COUNT, "attempts", "How often a batch that meets a 500 is tried before it is halved."
    )
    shutdown_timeout: float = _option(
        5.0,
        _WAIT,
        "seconds",
        "The longest the exit of the process waits, for all clients together.",
    )
    handle_sigterm: bool = _option(
        False,
        _flag,
        "flag",
        "Deliver when SIGTERM comes, then do what it did before. For plain scripts, in the main thread.",
    )
    gzip: bool = _option(False, _flag, "flag", "Compress request bodies.")
    allow_insecure: bool = _option(
        False,
        _flag,
        "flag",
        "Allow plain `http://` to a host that is not this machine; the key travels in clear.",
    )
    on_drop: Callable[[str, bytes | None], object] | None = _option(
        None,
        _callback,
        "function",
        "Called with the reason and the JSON of a trigger that is lost on this side.",
    )
    on_error: Callable[[Exception, tuple[bytes, ...]], object] | None = _option(
        None,
        _callback,
        "function",
        "Called with the error and the JSON of the triggers that the server refused.",
    )
    before_record: Callable[[dict[str, Any]], dict[str, Any] | None] | None = _option(
        None,
        _callback,
        "function",
        "Called with the arguments as a dict; returns them, changed or not, or None.",
    )

    def __post_init__(self) -> None:
        for spec in fields(self):
            self._keep(spec.name, getattr(self, spec.name), spec.metadata)
        if self.enabled and self.api_key is None:
            raise ConfigurationError(
                "api_key is missing; pass api_key=... or set FL_API_KEY in the environment"
                " (enabled=False needs none)"
            )
        parts = urlsplit(self.endpoint)
        host = parts.hostname or ""
        if parts.scheme == "http" and not is_loopback(host) and not self.allow_insecure:
            raise ConfigurationError(
                f"endpoint is {self.endpoint!r}: the API key would travel in clear to {host};"
                " use https://, or set allow_insecure=True"
            )

    @property
    def identity(self) -> tuple[Any, ...]:
        """What two clients have in common that share one buffer: every value; functions if they are the same."""
        return tuple(_identity(getattr(self, spec.name)) for spec in fields(self))

    def _keep(self, name: str, value: Any, metadata: Mapping[str, Any]) -> None:
        try:
            object.__setattr__(self, name, metadata["check"](value))
        except ValueError as error:
            # A password in a URL is no business of a log either.
            shown = "not usable" if metadata["secret"] else re.sub("//[^/]*@", "//...@", repr(value)[:200])
            problem = f"{name} is {shown}; it should be {error}"
        else:
            return
        raise ConfigurationError(problem)

    @classmethod
    def read(cls, keywords: Mapping[str, Any], environment: Mapping[str, str]) -> Options:
        """Return the options that keywords and environment variables spell; keywords win.

        Args:
            keywords: Values by option name. None for `api_key` means: look in the environment.
            environment: `os.environ`, or a stand-in. An empty variable counts as not set.

        Raises:
            ConfigurationError: For an unknown keyword or a wrong value.
        """
        known = option_names()
        for name in keywords:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                hint = f"did you mean {near[0]!r}?" if near else "the options are: " + ", ".join(known)
                raise ConfigurationError(f"unknown option {name!r}; {hint}")
        values = {
            spec.name: environment[variable]
            for spec in fields(cls)
            if environment.get(variable := ENVIRONMENT_PREFIX + spec.name.upper())
            and spec.metadata["check"] is not _callback
        }
        given = {name: value for name, value in keywords.items() if (name, value) != ("api_key", None)}
        return cls(**{**values, **given})


def _identity(value: Any) -> Any:
    """Return what is equal for the same setting. Asks no foreign function for its hash or equality."""
    if not callable(value):
        return value
    if type(value) is MethodType:  # a new object at each look-up
        return id(value.__self__), id(value.__func__)
    return id(value)


def option_names() -> tuple[str, ...]:
    """Return the name of every option, in the order of the table."""
    return tuple(spec.name for spec in fields(Options))
