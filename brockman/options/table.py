"""Every setting of a client; see `brockman.options.fields`. No I/O, no threads."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType, MethodType
from typing import Any, Literal, Protocol, TypedDict, get_args
from urllib.parse import urlsplit

from brockman.exceptions import ConfigurationError
from brockman.options.endpoint import DEFAULT_ENDPOINT, check_endpoint, show_endpoint
from brockman.options.fields import Settings, choice, flag, function, number, setting, show, text_or_none
from brockman.options.labels import labels
from brockman.options.secret import Secret

_LONGEST = 1e6  # seconds; beyond 24 days, the milliseconds of some system calls exceed 31 bits

Overflow = Literal["drop_newest", "drop_oldest", "block", "raise"]
OnInvalid = Literal["auto", "raise", "drop"]
SpoolFsync = Literal["never", "interval", "always"]
OnDrop = Callable[[str, bytes | None], object]
OnError = Callable[[Exception, tuple[bytes, ...]], object]
BeforeRecord = Callable[[dict[str, Any]], dict[str, Any] | None]


def is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return False


def _api_key(value: Any) -> Secret | None:
    if value is None or type(value) is Secret:
        return value
    return Secret(value)


def _show_key(value: Any) -> str:
    return "not usable"


def _folder(value: Any) -> str | None:
    expected = "an absolute path of a folder, such as /var/lib/shop/focuslab"
    if value is None or value == "":
        return None
    path = value.__fspath__() if hasattr(value, "__fspath__") else value
    if not isinstance(path, str) or not path.startswith("/") or "\0" in path:
        raise ValueError(expected)
    return path


_SECONDS = number(0, _LONGEST, whole=False, above=True)
_WAIT = number(0, _LONGEST, whole=False)
_COUNT = number(1, 10**12, whole=True)


@dataclass(frozen=True, kw_only=True)
class Options(Settings):
    """The settings of a client. Seconds are floats, sizes end in `_bytes`, counts begin with `max_`."""

    api_key: Secret | None = setting(
        None,
        _api_key,
        "text",
        "The key of your FocusLab project; white space around it is left out. Required unless `enabled` is off or"
        " the client has its own transport.",
        shown=_show_key,
    )
    endpoint: str = setting(
        DEFAULT_ENDPOINT, check_endpoint, "URL", "The URL of the API; `trigger/` is added.", shown=show_endpoint
    )
    enabled: bool = setting(True, flag, "flag", "Off: every trigger is dropped as `disabled`; nothing is sent.")
    flush_interval: float = setting(1.0, _SECONDS, "seconds", "The longest a trigger waits before an attempt.")
    max_batch_size: int = setting(500, _COUNT, "triggers", "A batch of this length is sent at once.")
    max_batch_bytes: int = setting(512 * 1024, _COUNT, "bytes", "A batch of this size is sent at once.")
    max_queue_size: int = setting(100_000, _COUNT, "triggers", "How many may be buffered.")
    max_queue_bytes: int = setting(32 * 1024 * 1024, _COUNT, "bytes", "Encoded size of what may be buffered.")
    max_trigger_bytes: int = setting(32 * 1024, _COUNT, "bytes", "Encoded size of one trigger.")
    overflow: Overflow = setting(
        "drop_newest",
        choice(*get_args(Overflow)),
        "policy",
        "What `record_trigger` does when the buffer is full: `drop_newest`, `drop_oldest`, `block`, `raise`.",
    )
    block_timeout: float = setting(
        1.0, _WAIT, "seconds", "The longest that `overflow='block'` waits; then the trigger is dropped."
    )
    on_invalid: OnInvalid = setting(
        "auto",
        choice(*get_args(OnInvalid)),
        "policy",
        "What an invalid trigger does: `raise` an `InvalidTrigger`, or `drop`, count and log it. `auto`: drop it"
        " in the requests of a middleware in production, otherwise raise.",
    )
    variables: Mapping[str, str | int | float | bool] | None = setting(
        None,
        labels,
        "variables",
        "Variables of every trigger, which it may override. In the environment `region=eu,tenant=acme`, or JSON.",
    )
    release: str | None = setting(
        None, text_or_none, "text", "The release of your program, as `variables.release` of every trigger."
    )
    environment: str | None = setting(
        None, text_or_none, "text", "Such as `production`, as `variables.environment` of every trigger."
    )
    trace_context: bool = setting(
        False,
        flag,
        "flag",
        "Add the ids of OpenTelemetry's current span to each trigger that has none, as `variables.trace_id` and"
        " `variables.span_id`. Needs the extra `opentelemetry`.",
    )
    connect_timeout: float = setting(3.05, _SECONDS, "seconds", "The longest that connecting may take.")
    read_timeout: float = setting(
        10.0, _SECONDS, "seconds", "With `connect_timeout`: the longest that one whole attempt may take."
    )
    backoff_base: float = setting(
        0.5, _SECONDS, "seconds", "The longest wait before the first retry; doubled for each further one."
    )
    backoff_cap: float = setting(60.0, _SECONDS, "seconds", "The longest wait between retries.")
    max_attempts: int = setting(
        10, _COUNT, "attempts", "How often a batch that gets a 500 is tried before it is halved."
    )
    shutdown_timeout: float = setting(
        5.0, _WAIT, "seconds", "The longest that the exit of the process waits, for all clients together."
    )
    handle_sigterm: bool = setting(
        False,
        flag,
        "flag",
        "Deliver on SIGTERM, then do what it did before. For plain scripts, in the main thread.",
    )
    spool_dir: str | None = setting(
        None,
        _folder,
        "path",
        "A folder on a local disk, where triggers are buffered and survive the process. None: in memory.",
    )
    max_spool_bytes: int = setting(
        1024**3, number(1024**2, 10**15, whole=True), "bytes", "Size of `spool_dir`, for all processes together."
    )
    spool_fsync: SpoolFsync = setting(
        "never",
        choice(*get_args(SpoolFsync)),
        "policy",
        "When to fsync: `never`, `interval` (every 0.5 s), or `always` (on every record).",
    )
    gzip: bool = setting(False, flag, "flag", "Compress request bodies.")
    allow_insecure: bool = setting(
        False, flag, "flag", "Allow plain `http://` to another machine; the key is sent unencrypted."
    )
    identify_sender: bool = setting(
        True,
        flag,
        "flag",
        "Send with each batch which process it is from and what that has counted, so that the collector can tell"
        " whether everything has arrived.",
    )
    on_drop: OnDrop | None = setting(
        None, function, "function", "Called with the reason and the JSON of a trigger that is dropped."
    )
    on_error: OnError | None = setting(
        None, function, "function", "Called with the error and the JSON of the triggers that the server rejected."
    )
    before_record: BeforeRecord | None = setting(
        None,
        function,
        "function",
        "Called with the arguments as a dict; returns them, changed or not, or None to drop the trigger.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_key()

    def _check_key(self) -> None:
        """Raise ConfigurationError when the key is missing, or would travel in clear."""
        if self.enabled and self.api_key is None:
            raise ConfigurationError(
                "api_key is missing; pass api_key=... or set FL_API_KEY in the environment"
                " (enabled=False and transport=... need none)"
            )
        parts = urlsplit(self.endpoint)
        host = parts.hostname or ""
        if parts.scheme == "http" and not is_loopback(host) and not self.allow_insecure:
            raise ConfigurationError(
                f"endpoint is {show(self.endpoint)}: the API key would travel in clear to {host};"
                " use https://, or set allow_insecure=True"
            )

    @property
    def identity(self) -> tuple[Any, ...]:
        """Equal for clients that share one pipeline: every value, and the identity of functions."""
        return tuple(_identity(getattr(self, spec.name)) for spec in fields(self))


@dataclass(frozen=True, kw_only=True)
class KeylessOptions(Options):
    """The settings of a client with its own transport: no key is needed, and none is sent to the endpoint."""

    def _check_key(self) -> None:
        pass


def _identity(value: Any) -> Any:
    """Return what is equal for equal settings. Calls no foreign `__hash__` or `__eq__`."""
    if isinstance(value, MappingProxyType):
        return tuple((key, type(item), item) for key, item in value.items())
    if not callable(value):
        return value
    if type(value) is MethodType:  # a new object at each access
        return id(value.__self__), id(value.__func__)
    return id(value)


class Path(Protocol):
    """A path object, such as a `pathlib.Path`."""

    def __fspath__(self) -> str: ...


class ClientOptions(TypedDict, total=False):
    """The keywords of a client, for type checkers: `Options` without `api_key` and `endpoint`."""

    enabled: bool
    flush_interval: float
    max_batch_size: int
    max_batch_bytes: int
    max_queue_size: int
    max_queue_bytes: int
    max_trigger_bytes: int
    overflow: Overflow
    block_timeout: float
    on_invalid: OnInvalid
    variables: Mapping[str, str | int | float | bool] | None
    release: str | None
    environment: str | None
    trace_context: bool
    connect_timeout: float
    read_timeout: float
    backoff_base: float
    backoff_cap: float
    max_attempts: int
    shutdown_timeout: float
    handle_sigterm: bool
    spool_dir: str | Path | None
    max_spool_bytes: int
    spool_fsync: SpoolFsync
    gzip: bool
    allow_insecure: bool
    identify_sender: bool
    on_drop: OnDrop | None
    on_error: OnError | None
    before_record: BeforeRecord | None
