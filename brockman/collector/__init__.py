"""A small FocusLab to run on one machine: it takes triggers over HTTP and keeps them in a SQLite file.

    python -m brockman.collector --port 8765 --database triggers.sqlite3

`brockman.collector.server.serve` runs it, `brockman.collector.app.create_app` makes the ASGI application alone.
It needs `pip install brockman[collector]`, and never imports the client.

    body -> strict_json -> verdict -> intake -> store
"""
