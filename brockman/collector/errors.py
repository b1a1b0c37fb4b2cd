"""The ways of saying no: to a request, and to a setting."""

from __future__ import annotations


class Refusal(Exception):
    """Raised to answer a request with an error status and `{"error": text}`."""

    def __init__(self, status: int, text: str, *, retry_after: int | None = None) -> None:
        """Make a refusal.

        Args:
            status: The HTTP status.
            text: What is wrong and what would be right, for the developer who reads the answer.
            retry_after: Seconds for the `Retry-After` header. None sends none.
        """
        super().__init__(text)
        self.status = status
        self.text = text
        self.retry_after = retry_after


class InvalidSetting(ValueError):
    """Raised when the collector cannot start as it was told to: names the setting, and what would be right."""


class StoreUnavailable(Exception):
    """Raised when triggers can be neither stored nor read just now. What was to be stored is not acknowledged.

    Attributes:
        retry_after: Seconds after which another try makes sense.
    """

    def __init__(self, text: str, *, retry_after: int) -> None:
        super().__init__(text)
        self.retry_after = retry_after
