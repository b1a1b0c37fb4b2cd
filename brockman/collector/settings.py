"""The settings of the collector, checked."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass

from brockman.collector.errors import InvalidSetting

DEFAULT_PORT = 8765


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the collector is started with.

    Attributes:
        database: Path of the SQLite file; created if it does not exist.
        host: Address to listen on. Any but loopback needs `api_key`.
        port: 0 chooses a free one.
        api_key: The required value of `X-FL-API-KEY`. None accepts any.
        allowed_hosts: Names that the `Host` header may have besides those of the loopback interface. If empty, a
            collector that does not listen on loopback accepts every name.
        outage_after: Simulate an outage once this many triggers have been stored. None: never.
        outage_for: Seconds that the outage lasts.
        max_body_bytes: Limit for one request body, before and after decompression.
        body_timeout: Seconds within which a request body must arrive.

    Raises:
        InvalidSetting: If one of them is wrong.
    """

    database: str | os.PathLike[str]
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    api_key: str | None = None
    allowed_hosts: Collection[str] = ()
    outage_after: int | None = None
    outage_for: float = 1.0
    max_body_bytes: int = 8 * 1024 * 1024
    body_timeout: float = 30.0

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise InvalidSetting(f"port: {self.port} is not from 0 to 65535")
        if self.api_key is not None and not _is_header_value(self.api_key):
            raise InvalidSetting("api_key: give printable ASCII without space around it, or None to check no key")
        if self.outage_after is not None and not (self.outage_after >= 0 and 0 < self.outage_for < float("inf")):
            raise InvalidSetting("outage_after: give a count from 0, and with it outage_for, seconds above 0")


def _is_header_value(text: str) -> bool:
    return text != "" and text.isascii() and text.isprintable() and text == text.strip()
