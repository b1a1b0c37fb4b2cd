"""brockman: the Python client for the FocusLab API.

record -> buffer -> flusher -> batch -> transport; nothing in your request waits for the network.

The client lives in `brockman.client`, the errors in `brockman.exceptions`. Importing this package starts
nothing and reads no environment.
"""

__version__ = "0.1.0"
