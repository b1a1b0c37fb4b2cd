"""brockman: the Python client for the FocusLab API.

    from brockman import FocusLabClient

The errors are in `brockman.exceptions`. Importing this package starts nothing, reads no environment, and loads
nothing else: the client is imported when it is first asked for.
"""

__all__ = ["FocusLabClient", "__version__"]
__version__ = "0.1.0"

TYPE_CHECKING = False  # as type checkers know it, without the import of `typing`
if TYPE_CHECKING:
    from brockman.client import FocusLabClient
else:

    def __getattr__(name: str) -> object:
        if name == "FocusLabClient":
            from importlib import import_module  # not a statement: the client imports this package

            return import_module("brockman.client").FocusLabClient
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
