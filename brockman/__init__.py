"""brockman: the Python client for the FocusLab API.

    from brockman import FocusLabClient

`brockman.context` gives triggers an actor and values; `brockman.current` returns the tracker of a request. The
errors are in `brockman.exceptions`. Importing this package starts nothing, reads no environment, and loads nothing
else: the client is imported when it is first asked for.
"""

__all__ = ["FocusLabClient", "__version__", "context", "current"]
__version__ = "0.1.0"

TYPE_CHECKING = False  # as type checkers know it, without the import of `typing`
if TYPE_CHECKING:
    from brockman.client import FocusLabClient
    from brockman.contexts import context, current
else:
    _MODULES = {"FocusLabClient": "client", "context": "contexts", "current": "contexts"}

    def __getattr__(name: str) -> object:
        if name in _MODULES:
            from importlib import import_module  # not a statement: the client imports this package

            return getattr(import_module(f"brockman.{_MODULES[name]}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
