"""The functions a user gave us to call. One that raises is counted and logged, and harms nothing."""

from __future__ import annotations

from collections.abc import Callable

OnDrop = Callable[[str, "bytes | None"], object]
OnError = Callable[[Exception, "tuple[bytes, ...]"], object]


class Callbacks:
    """Call `on_drop` and `on_error`. Holds no lock while it does.

    Attributes:
        failures: How often a callback raised; the report says so.
        last_failure: The callback's name and the class of what it raised.
    """

    def __init__(self, on_drop: OnDrop | None, on_error: OnError | None) -> None:
        self._on_drop = on_drop
        self._on_error = on_error
        self.failures = 0
        self.last_failure = ""

    @property
    def takes_refusals(self) -> bool:
        """Whether the user has a function that is told what the server refused."""
        return self._on_error is not None

    def dropped(self, reason: str, body: bytes | None) -> None:
        """Tell `on_drop` of one lost trigger. Runs in whichever thread lost it, often the caller's."""
        if self._on_drop is not None:
            try:
                self._on_drop(reason, body)
            except Exception as error:
                self.failed("on_drop", error)

    def refused(self, error: Exception, bodies: tuple[bytes, ...]) -> None:
        """Tell `on_error` what the server refused. Runs in the thread that sent, most often the flusher's."""
        if self._on_error is not None:
            try:
                self._on_error(error, bodies)
            except BaseException as failure:  # SystemExit here would end the flusher in silence
                self.failed("on_error", failure)

    def failed(self, name: str, error: BaseException) -> None:
        """Count a callback's failure; the text of a foreign exception may hold anything, so only its class."""
        self.last_failure = f"{name} raised {type(error).__name__}"
        self.failures += 1
