"""The settings and the client of a middleware, read once: what WSGI, ASGI and Flask share."""

from __future__ import annotations

import os
from collections import ChainMap
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from typing import Any

from brockman import contexts
from brockman.client import FocusLabClient
from brockman.delivery.environment import warn_of_misspelt
from brockman.exceptions import ConfigurationError
from brockman.options import Options
from brockman.options.fields import show
from brockman.options.secret import Hidden, hide
from brockman.options.web import WebSettings
from brockman.web.client import SafeClient, report
from brockman.web.request import WebRequest
from brockman.web.tracker import RequestTracker

_FUNCTION = "FL_MAY_TRACK"


def has_debug(app: object) -> bool:
    """Return whether the `debug` of an application is on, or that of the object whose method it is."""
    return getattr(getattr(app, "__self__", app), "debug", None) is True


class Site:
    """One application with a middleware: its settings, its client, and whether mistakes raise."""

    def __init__(
        self,
        keywords: Mapping[str, Any],
        *sources: Mapping[str, Any],
        is_strict: Callable[[], bool],
        client: FocusLabClient | None = None,
    ) -> None:
        """Read the settings from keywords, then the sources, then the environment.

        Args:
            keywords: Of `WebSettings`.
            sources: Settings by `FL_` and the name in capitals, such as a `flask.Config`. The client's, too.
            is_strict: Asked now if a setting is wrong, and for each request.
            client: Records the triggers of `RequestTracker`; None makes one from the sources.

        Raises:
            ConfigurationError: For a wrong setting, where mistakes raise. Elsewhere it is logged once.
        """
        self._is_strict = is_strict
        hidden = hide(sources)
        del sources  # they have the key
        try:
            self.settings = _read_settings(keywords, hidden)
        except ConfigurationError as error:
            report(error, "the middleware uses the defaults, and tracks nothing", is_strict=is_strict())
            self.settings = WebSettings(may_track=lambda request: False)
        self.client = SafeClient(partial(_read_options, hidden), is_strict=is_strict) if client is None else client

    def tracker(self, request: WebRequest, outer: object = None) -> RequestTracker:
        """Return the tracker of a request. `outer` is that of a middleware around this one, if any."""
        return RequestTracker(request, self.client, self.settings, is_safe=not self._is_strict(), outer=outer)

    def context(self, tracker: RequestTracker) -> contexts.Context:
        """Return the context in which a request is handled."""
        return contexts.Context(tracker=tracker, is_safe=tracker._is_safe).within(contexts.get())


def _read_settings(keywords: Mapping[str, Any], sources: Hidden) -> WebSettings:
    return WebSettings.read(keywords, *map(_with_function, (*sources.reveal(), os.environ)))


def _read_options(sources: Hidden) -> Options:
    warn_of_misspelt()
    return Options.read({}, *sources.reveal(), os.environ)


def _with_function(source: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a source in which a dotted path for `may_track` is the function that it names."""
    path = source.get(_FUNCTION)
    if not isinstance(path, str) or not path:
        return source
    module, _, name = path.rpartition(".")
    try:
        return ChainMap({_FUNCTION: getattr(import_module(module), name)}, source)  # type: ignore[arg-type]
    except Exception as error:  # of the module too
        cause = type(error).__name__
        problem = f"{_FUNCTION} is {show(path)}; it should be a function, or the dotted path of one ({cause})"
    del source  # it has the key
    raise ConfigurationError(problem)
