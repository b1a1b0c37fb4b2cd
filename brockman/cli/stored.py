"""The triggers that a collector has, page by page: through its API, or from its store."""

from __future__ import annotations

import argparse
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from brockman.cli.requesting import Api, RequestFailed, check_progress
from brockman.exceptions import ConfigurationError

if TYPE_CHECKING:
    from brockman.collector.store.base import Store

_LIMIT = 5000  # triggers on a page
_TOO_SLOW = "took longer than"  # what a collector says when few of many triggers match


class Page(NamedTuple):
    """Triggers as JSON texts, and the cursor of the next page; None on the last."""

    lines: list[str]
    next: str | None


class Stored(ABC):
    """Triggers in the order of their arrival."""

    @abstractmethod
    def count(self) -> int:
        """Return how many there are."""

    @abstractmethod
    def newest(self) -> int:
        """Return the cursor of the newest."""

    @abstractmethod
    def page(self, parameters: Mapping[str, str]) -> Page:
        """Return a page; the parameters are those of the API."""

    def pages(self, filters: Mapping[str, str], newest: int) -> Iterator[list[str]]:
        """Yield the pages up to a cursor. Triggers that do not match may be among them."""
        after: str | None = "0"
        while after is not None and int(after) < newest:
            try:
                page = self.page({**filters, "after": after, "limit": str(_LIMIT), "total": "no"})
            except RequestFailed as error:
                if not filters or _TOO_SLOW not in str(error):
                    raise
                filters = {}
                continue
            yield page.lines
            if page.next is not None:
                check_progress(int(after), int(page.next))
            after = page.next


class _ApiTriggers(Stored):
    def __init__(self, api: Api) -> None:
        self._api = api
        encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
        self._dump: Callable[[Any], str] = encoder.encode

    def count(self) -> int:
        return int(self._api.get("stats/", {})["triggers"])

    def newest(self) -> int:
        return int(self._api.get("trigger/", {"limit": "1", "order": "newest", "total": "no"})["newest"])

    def page(self, parameters: Mapping[str, str]) -> Page:
        content = self._api.get("trigger/", parameters)
        return Page([self._dump(trigger) for trigger in content["triggers"]], content["next"])


class _StoreTriggers(Stored):
    def __init__(self, store: Store) -> None:
        self._store = store

    def count(self) -> int:
        return self._store.counts().triggers

    def newest(self) -> int:
        return int(self._page({"limit": "1", "order": "newest", "total": "no"}).newest)

    def page(self, parameters: Mapping[str, str]) -> Page:
        page = self._page(parameters)
        return Page(page.bodies, None if page.next is None else str(page.next))

    def _page(self, parameters: Mapping[str, str]) -> Any:
        from brockman.collector.errors import StoreUnavailable
        from brockman.collector.query import parse_query

        try:
            return self._store.page(parse_query(parameters.items()))
        except StoreUnavailable as error:
            raise RequestFailed(str(error)) from None


@contextmanager
def stored_triggers(options: argparse.Namespace) -> Iterator[Stored]:
    """Open what the options of `add_source_options` name."""
    location = store_location(options)
    if location is None:
        yield _ApiTriggers(Api(options))
    else:
        with open_existing(location) as store:
            yield _StoreTriggers(store)


def store_location(options: argparse.Namespace) -> str | None:
    """Return the store to open, or None for the API: FL_STORE counts if no endpoint is given."""
    if options.store is not None or options.endpoint is not None or os.environ.get("FL_ENDPOINT"):
        return options.store  # type: ignore[no-any-return]
    return os.environ.get("FL_STORE") or None


@contextmanager
def open_existing(location: str) -> Iterator[Store]:
    """Open a store that exists; raise ConfigurationError if it does not, or cannot be opened."""
    try:
        from brockman.collector.errors import InvalidSetting
        from brockman.collector.store import open_store
        from brockman.collector.store.location import is_url
    except ImportError:
        raise ConfigurationError("--store needs the collector: pip install 'brockman[collector]'") from None
    if not is_url(location) and not os.path.isfile(location):
        raise ConfigurationError(f"--store: there is no file {location!r}")
    try:
        store = open_store(location)
    except InvalidSetting as error:
        raise ConfigurationError(str(error).replace("database:", "--store:", 1)) from None
    with closing(store):
        yield store
