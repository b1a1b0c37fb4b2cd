"""The store: one interface (`base`), two engines (`sqlite`, `postgresql`). All SQL of the collector is in here."""

from __future__ import annotations

import os

from brockman.collector.errors import InvalidSetting
from brockman.collector.store.base import Store
from brockman.collector.store.location import is_postgresql, is_url


def open_store(location: str | os.PathLike[str]) -> Store:
    """Open the SQLite file of a path, or the PostgreSQL database of a URL.

    Raises:
        InvalidSetting: If it cannot be used.
    """
    if not is_url(location):
        from brockman.collector.store.sqlite import SqliteStore

        return SqliteStore(location)
    if not is_postgresql(location):
        raise InvalidSetting("database: give the path of a file, or postgresql://user@host:port/database")
    try:
        from brockman.collector.store.postgresql import PostgresqlStore
    except ImportError as error:
        raise InvalidSetting(
            f"database: PostgreSQL needs more packages: pip install 'brockman[postgresql]' ({error})"
        ) from None
    return PostgresqlStore(os.fspath(location))
