"""The extension for Flask.

from brockman.flask import FocusLab

app = Flask(__name__)
FocusLab(app)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import flask

from brockman.client import FocusLabClient
from brockman.exceptions import ConfigurationError
from brockman.web.client import in_pytest
from brockman.web.site import Site
from brockman.wsgi import Environ, TrackedApplication, WsgiRequest

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from brockman.options.web import WebOptions

_EXTENSION = "focuslab"


class FocusLab:
    """Gives the requests of Flask applications a tracker: `brockman.current()`.

    Triggers recorded in a request have its visitor as their actor, whom the cookie of FocusLab's browser tracker
    identifies. Settings are keywords, then `app.config["FL_API_KEY"]` and so on, then the environment.
    In production no page fails for a mistake in a trigger or a setting: it is counted and logged. It raises where
    `app.debug` or `app.testing` is on, and under pytest.
    """

    def __init__(
        self,
        app: flask.Flask | None = None,
        *,
        client: FocusLabClient | None = None,
        **settings: Unpack[WebOptions],
    ) -> None:
        """Set up an application; without one, `init_app` does it later, for any number of them.

        Args:
            app: The application.
            client: Records the triggers of the trackers; None makes one for each application.
            **settings: Of `brockman.options.web.WebSettings`; `may_track` is called with `flask.request`.

        Raises:
            ConfigurationError: For a wrong setting, where mistakes raise.
        """
        self._client = client
        self._settings = settings
        if app is not None:
            self.init_app(app)

    def init_app(self, app: flask.Flask) -> None:
        """Read the settings and wrap `app.wsgi_app`.

        Raises:
            ConfigurationError: For a wrong setting, where mistakes raise, and for an application set up before.
        """
        if _EXTENSION in app.extensions:
            raise ConfigurationError(f"FocusLab is set up twice for the application {app.name!r}; do it once")

        def is_strict() -> bool:
            return app.debug or app.testing or in_pytest()

        site = Site(self._settings, app.config, is_strict=is_strict, client=self._client)
        app.extensions[_EXTENSION] = site
        app.wsgi_app = TrackedApplication(app.wsgi_app, site, _requests_of(app))  # type: ignore[method-assign]

    @property
    def client(self) -> FocusLabClient:
        """The client of the current application, with the options of its `config`: for code outside of requests.

        Raises:
            RuntimeError: Outside of an application context.
            ConfigurationError: For an application that is not set up.
        """
        site: Site | None = flask.current_app.extensions.get(_EXTENSION)
        if site is None:
            raise ConfigurationError(
                f"FocusLab is not set up for the application {flask.current_app.name!r}; call init_app"
            )
        return site.client


def _requests_of(app: flask.Flask) -> Callable[[Environ], WsgiRequest]:
    class FlaskRequest(WsgiRequest):
        __slots__ = ()

        @property
        def native(self) -> Any:
            """The current `flask.Request`; in a thread without one, another one of the same `environ`."""
            if flask.has_request_context():
                return flask.request._get_current_object()  # type: ignore[attr-defined]
            return app.request_class(self.environ)

    return FlaskRequest
