"""Every error that brockman raises. All derive from `FocusLabError`:

    FocusLabError
        ConfigurationError (ValueError)   a setting is wrong: names it, its value, and what would be right
        InvalidTrigger (ValueError)       a trigger is wrong: names the path and the value
        BufferFull                        the buffer is full and overflow="raise"
        ClientClosed                      send_trigger after close
        NoRequest (LookupError)           brockman.current() outside of a request
        ConnectionFailed                  no answer came back
        AnswerError                       the answer was not a success
            BadRequest                    400
            BadAPIKey                     401, 403
            ResourceNotFound              404
            ServerError                   500 and other 5xx
            UnknownError                  anything else

None of them has the API key in its message, attributes or pickle. Each can be raised without arguments; its text
is then a sentence of its class.
"""

from __future__ import annotations

import copyreg


class FocusLabError(Exception):
    """The base class of every error that brockman raises."""

    _sentence = "brockman failed"

    def __str__(self) -> str:
        return super().__str__() or self._sentence

    def __reduce__(self) -> tuple[object, ...]:  # copies and pickles subclasses whatever their `__init__` takes
        return copyreg.__newobj__, (type(self), *self.args), vars(self)  # type: ignore[attr-defined]


class ConfigurationError(FocusLabError, ValueError):
    """Raised when a setting is wrong."""

    _sentence = "a setting is wrong"


class InvalidTrigger(FocusLabError, ValueError):
    """Raised when a trigger cannot be sent; the message starts with the path to the mistake."""

    _sentence = "the trigger cannot be sent as it is"


class BufferFull(FocusLabError):
    """Raised by `record_trigger` when the buffer is full and `overflow="raise"`."""

    _sentence = "the buffer is full"


class ClientClosed(FocusLabError):
    """Raised by `send_trigger` on a closed client."""

    _sentence = "the client is closed"


class NoRequest(FocusLabError, LookupError):
    """Raised by `brockman.current()` where no request is handled, or no middleware of brockman is installed."""

    _sentence = "no request is handled here, or no middleware of brockman is installed"


class ConnectionFailed(FocusLabError):
    """Raised when no answer came back: refused, reset, timed out, DNS, TLS.

    Attributes:
        stale: True for the reset of a kept-alive connection before the first byte of an answer: the server had
            closed it while it was idle, and may be well.
        unanswered: True when it broke off after the connection was there, and before the first byte of an answer.
    """

    _sentence = "no answer came back"
    stale = False
    unanswered = False

    def __init__(self, message: str = "", *, stale: bool = False, unanswered: bool = False) -> None:
        super().__init__(*([message] if message else ()))
        self.stale = stale
        self.unanswered = unanswered


class AnswerError(FocusLabError):
    """Raised when the answer of the server is not a success.

    Attributes:
        status: The HTTP status; the usual one of the class when it was raised without one. None if there is none.
        words: The text of the answer, shortened.
    """

    _sentence = "the answer of the server is not a success"
    status: int | None = None
    words = ""

    def __init__(self, status: int | str | None = None, words: str = "") -> None:
        """Keep the answer of a server, or a message of the caller's own."""
        if isinstance(status, int):
            super().__init__(status, words)
            self.status = status
        else:
            super().__init__(*(text for text in (status, words) if text))
        self.words = words

    def __str__(self) -> str:
        if "status" in vars(self):
            return f"the server answered {self.status}: {self.words or '(no text)'}"
        return super().__str__()


class BadRequest(AnswerError):
    """Raised on 400: the server refused the trigger."""

    _sentence = "the server refused the trigger as malformed"
    status = 400


class BadAPIKey(AnswerError):
    """Raised on 401 and 403: the API key is missing, wrong, or not allowed to do this."""

    _sentence = "the server refused the API key"
    status = 401


class ResourceNotFound(AnswerError):
    """Raised on 404: the endpoint is wrong."""

    _sentence = "the server does not know this resource; check the endpoint"
    status = 404


class ServerError(AnswerError):
    """Raised on 500 and every other 5xx."""

    _sentence = "the server failed; try again later"
    status = 500


class UnknownError(AnswerError):
    """Raised on any other answer that is not a success."""

    _sentence = "the server gave an unexpected answer"


_BY_STATUS: dict[int, type[AnswerError]] = {
    400: BadRequest,
    401: BadAPIKey,
    403: BadAPIKey,
    404: ResourceNotFound,
}


def from_status(status: int, words: str) -> AnswerError:
    """Return the exception for an answer that is not a success."""
    other = ServerError if 500 <= status <= 599 else UnknownError
    return _BY_STATUS.get(status, other)(status, words)
