"""Errors of the collector. A request is rejected with Starlette's `HTTPException`."""

from __future__ import annotations


class InvalidSetting(ValueError):
    """Raised when a setting is wrong. The text names the setting and a valid value."""


class StoreUnavailable(Exception):
    """Raised when triggers cannot be stored or read at present. Nothing of the request is stored."""

    def __init__(self, text: str, *, retry_after: int) -> None:
        super().__init__(text)
        self.retry_after = retry_after  # seconds


class StoreClosed(StoreUnavailable):
    """Raised when the collector shuts down."""

    def __init__(self) -> None:
        super().__init__("the collector is shutting down", retry_after=1)
