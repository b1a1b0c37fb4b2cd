"""The middleware for WSGI applications: Bottle, Falcon, Pyramid and others. Flask has one in `brockman.flask`.

from brockman.wsgi import FocusLabMiddleware

application = FocusLabMiddleware(application)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from brockman import contexts
from brockman.client import FocusLabClient
from brockman.web.client import in_pytest
from brockman.web.headers import finish_headers
from brockman.web.request import WebRequest
from brockman.web.site import Site, has_debug
from brockman.web.tracker import RequestTracker

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from brockman.options.web import WebOptions

Environ = dict[str, Any]
Application = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]
_TRACKER = "focuslab.tracker"
_WITHOUT_PREFIX = ("CONTENT_TYPE", "CONTENT_LENGTH")


class WsgiRequest(WebRequest):
    """A request by its `environ`."""

    __slots__ = ("environ",)

    def __init__(self, environ: Environ) -> None:
        """Read nothing yet."""
        self.environ = environ

    def header(self, name: str) -> str:
        """Return the value of a header, whose name is in lower case; "" when there is none."""
        key = name.upper().replace("-", "_")
        return str(self.environ.get(key if key in _WITHOUT_PREFIX else f"HTTP_{key}", ""))

    @property
    def path(self) -> str:
        """The path of the URL, decoded."""
        path = self.environ.get("SCRIPT_NAME", "") + self.environ.get("PATH_INFO", "")
        return str(path).encode("latin-1", "replace").decode("utf-8", "replace")  # bytes, as latin-1

    @property
    def is_secure(self) -> bool:
        """True for https."""
        return bool(self.environ.get("wsgi.url_scheme") == "https")

    def ended(self) -> WebRequest:
        """Return one by a copy of the environ without the tracker."""
        return type(self)({key: value for key, value in self.environ.items() if key != _TRACKER})


class TrackedApplication:
    """A WSGI application, each request of which has a tracker and a context."""

    def __init__(self, app: Application, site: Site, make_request: Callable[[Environ], WebRequest]) -> None:
        """Wrap an application."""
        self._app = app
        self._site = site
        self._make_request = make_request

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Return the body, made in the context of the request."""
        site = self._site
        request = self._make_request(environ)
        tracker = environ[_TRACKER] = site.tracker(request, environ.get(_TRACKER))
        context = site.context(tracker)

        def start(status: str, response_headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            headers = list(response_headers)
            finish_headers(tracker, site.settings, headers, is_secure=request.is_secure)
            return start_response(status, headers, *([exc_info] if exc_info else []))

        try:
            with contexts.entered(context):
                body = self._app(environ, start)
                if not _is_made(body, environ):
                    return _Body(body, context, tracker)
        except BaseException:
            tracker.release()
            raise
        tracker.release()
        return body


class FocusLabMiddleware(TrackedApplication):
    """Wraps a WSGI application: triggers recorded in a request have its visitor as their actor.

    `brockman.current()`, also `environ["focuslab.tracker"]`, is the tracker of the request. A new visitor gets the
    cookie of FocusLab's browser tracker with the response, if something was recorded before `start_response`.
    """

    def __init__(
        self,
        app: Application,
        *,
        debug: bool | None = None,
        client: FocusLabClient | None = None,
        **settings: Unpack[WebOptions],
    ) -> None:
        """Wrap an application.

        Args:
            app: The application.
            debug: True: mistakes in triggers and settings raise. False: they are counted and logged, and no page
                fails. None: True under pytest, and where the application has an attribute `debug` that is True.
            client: Records the triggers of the tracker; None makes one from the environment.
            **settings: Of `brockman.options.web.WebSettings`. One that is not given is read from the environment.

        Raises:
            ConfigurationError: For a wrong setting, where mistakes raise.
        """

        def is_strict() -> bool:
            return (in_pytest() or has_debug(app)) if debug is None else debug

        super().__init__(app, Site(settings, is_strict=is_strict, client=client), WsgiRequest)


class _Body(Iterator[bytes]):
    """The body of a response. Each part is made in the context of its request."""

    def __init__(self, body: Iterable[bytes], context: contexts.Context, tracker: RequestTracker) -> None:
        self._body = body
        self._parts = iter(body)
        self._context = context
        self._tracker = tracker

    def __next__(self) -> bytes:
        with contexts.entered(self._context):
            return next(self._parts)

    def close(self) -> None:
        """Close the application's body. The server calls it when the response has ended, however it did."""
        try:
            with contexts.entered(self._context):
                close = getattr(self._body, "close", None)
                if close is not None:
                    close()
        finally:
            self._tracker.release()


def _is_made(body: Iterable[bytes], environ: Environ) -> bool:
    """Return whether no code of the application makes the parts of a body: it is a list, or a file to be sent."""
    file_wrapper = environ.get("wsgi.file_wrapper")
    is_file = isinstance(file_wrapper, type) and isinstance(body, file_wrapper)
    return isinstance(body, (list, tuple)) or is_file or hasattr(body, "read")
