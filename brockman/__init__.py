"""brockman: the Python client for the FocusLab API.

record -> buffer -> flusher -> batch -> transport; nothing in your request waits for the network.

The client lives in `brockman.client`, the errors in `brockman.exceptions`. Importing this package starts
nothing and reads no environment.
"""

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """Import the client on first use, so that `import brockman` stays cheap."""
    if name == "FocusLabClient":
        from importlib import import_module  # at run time only: the client imports this package

        return import_module("brockman.client").FocusLabClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
