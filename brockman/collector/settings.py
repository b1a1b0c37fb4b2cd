"""The settings of the collector, checked."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from brockman.collector.errors import InvalidSetting

MIN_BYTES = 1_000_000  # an empty store has some, too
_ORIGIN = re.compile(r"https?://[a-z0-9.-]+(?::[0-9]{1,5})?|https?://\[[0-9a-f:.]+\](?::[0-9]{1,5})?")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of the collector. Raises InvalidSetting if one of them is wrong."""

    # Path of a SQLite file, created if it does not exist, or postgresql://user@host:port/database
    database: str | os.PathLike[str] = field(repr=False)
    host: str = "127.0.0.1"  # any but loopback needs `api_key`
    port: int = 8765  # 0 chooses a free one
    api_key: str | None = field(default=None, repr=False)  # the required value of `X-FL-API-KEY`; None accepts any
    api_keys: Collection[str] = field(default=(), repr=False)  # more keys, as good as `api_key`: to change it
    write_keys: Collection[str] = field(
        default=(), repr=False
    )  # more keys, which may record and read nothing: for web pages
    allowed_origins: Collection[str] = ()  # of web pages that may record, such as "https://shop.example"; "*": any
    # Names that `Host` may have besides those of loopback. If empty, a collector elsewhere accepts every name.
    allowed_hosts: Collection[str] = ()
    outage_after: int | None = None  # simulate an outage once this many triggers have been stored; None: never
    outage_for: float = 1.0  # seconds
    failures: Mapping[int, float] = field(default_factory=dict)  # share of requests to be answered with a status
    delay: float = 0.0  # seconds before each request is handled
    max_actors_per_identity: int = 200  # an identity that more actors carry joins nobody
    max_body_bytes: int = 8 * 1024 * 1024  # of one request, before and after decompression
    max_pending_bytes: int = 32 * 1024 * 1024  # of the bodies of all requests together, until they are stored
    body_timeout: float = 30.0  # seconds within which a request body must arrive
    client_timeout: float = 10.0  # seconds within which headers must arrive, and some of a response be read
    max_connections: int = 512  # open at a time; fewer where the limit of open files is lower
    keep: float | None = None  # seconds after which triggers are removed; None: never
    max_bytes: int | None = None  # of the store; beyond it the oldest triggers are removed; None: any size
    max_refused: int = 10_000  # refused triggers that are kept; the oldest leave first
    max_refused_bytes: int = 64 * 1024 * 1024
    access_log: str | None = None  # a file for one line of JSON for each request; "-": standard error

    def __post_init__(self) -> None:
        self._check_access()
        self._check_bounds()
        self._check_rehearsal()

    def _check_access(self) -> None:
        if not 0 <= self.port <= 65535:
            raise InvalidSetting(f"port: {self.port} is not from 0 to 65535")
        if self.api_key is not None and not _is_header_value(self.api_key):
            raise InvalidSetting("api_key: give printable ASCII without space around it, or None to check no key")
        for name, keys in (("api_keys", self.api_keys), ("write_keys", self.write_keys)):
            if isinstance(keys, str) or not all(map(_is_header_value, keys)):
                raise InvalidSetting(f"{name}: give a list of printable ASCII without space around it")
        if {*self.write_keys} & {*self.keys}:
            raise InvalidSetting(
                "write_keys: one of them is an API key too, so that it may read; give another one"
            )
        if self.write_keys and not self.keys:
            raise InvalidSetting("write_keys: give an api_key too; without one every key may read")
        for origin in self.allowed_origins:
            if origin != "*" and _ORIGIN.fullmatch(origin) is None:
                raise InvalidSetting(
                    f"allowed_origins: {origin!r} should be a scheme, a host and perhaps a port,"
                    " such as https://shop.example, or *"
                )

    def _check_bounds(self) -> None:
        if self.max_pending_bytes < self.max_body_bytes:
            raise InvalidSetting(f"max_pending_bytes: {self.max_pending_bytes} is less than max_body_bytes")
        if self.max_actors_per_identity < 1:
            raise InvalidSetting(f"max_actors_per_identity: {self.max_actors_per_identity} should be at least 1")
        if self.keep is not None and not 0 < self.keep < float("inf"):
            raise InvalidSetting(f"keep: {self.keep:g} should be seconds above 0")
        if self.max_bytes is not None and self.max_bytes < MIN_BYTES:
            raise InvalidSetting(f"max_bytes: {self.max_bytes} is too small; give at least {MIN_BYTES}")
        for name in ("max_refused", "max_refused_bytes"):
            if getattr(self, name) < 0:
                raise InvalidSetting(f"{name}: {getattr(self, name)} should be a whole number from 0")

    def _check_rehearsal(self) -> None:
        if self.outage_after is not None and not (self.outage_after >= 0 and 0 < self.outage_for < float("inf")):
            raise InvalidSetting("outage_after: give a count from 0, and with it outage_for, seconds above 0")
        for status, share in self.failures.items():
            if not (400 <= status <= 599 and 0 <= share <= 1):
                raise InvalidSetting(
                    f"failures: {status}:{share:g} should be a status from 400 to 599, and a share from 0 to 1"
                )
        total = sum(self.failures.values())
        if total > 1:
            raise InvalidSetting(f"failures: the shares make {total:g}; give at most 1 in all")
        if not 0 <= self.delay < float("inf"):
            raise InvalidSetting(f"delay: {self.delay:g} should be seconds from 0")

    @property
    def keys(self) -> tuple[str, ...]:
        """All keys that may read and record; none: every request may."""
        return (*(() if self.api_key is None else (self.api_key,)), *self.api_keys)

    @property
    def is_rehearsal(self) -> bool:
        """True when requests are to fail, or to take longer, on purpose."""
        return self.outage_after is not None or bool(self.failures) or self.delay > 0


def _is_header_value(text: str) -> bool:
    return text != "" and text.isascii() and text.isprintable() and text == text.strip()
