"""The collector: accepts triggers over HTTP, as the FocusLab API does, and stores them in SQLite or PostgreSQL.

    server -> connections -> app -> request_body -> ingest -> validation -> store

`brockman serve` runs it. It needs the extra `collector`, and imports nothing of the client.
"""
