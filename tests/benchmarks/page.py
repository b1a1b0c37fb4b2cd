"""The page and the API on a full store: `python -m tests.benchmarks.page`.

Fills a store with a million triggers of 100 000 people, on each engine, starts `brockman serve` on it, and takes
the time of what a person does: opens the page in Chromium, searches, looks at a person and at a group. Each is to
take less than a second, and the collector less than 200 MB of memory meanwhile.

A search that finds little reads all triggers, and answers with what it has after half a second: a line says how
many answers it took to the end. Exits with 1 when a bound is broken.
"""

from __future__ import annotations

import argparse
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests

from brockman.collector.store import open_store
from tests.benchmarks.population import RARE, Population, fill
from tests.benchmarks.processes import Collectors, MemoryWatch, Meter, memory_of, running_collectors
from tests.support.browser import chromium
from tests.support.postgresql import Postgresql, postgresql_server

if TYPE_CHECKING:
    from playwright.sync_api import Browser

MAX_SECONDS = 1.0
MAX_MEMORY = 200e6
GROUP = {  # as in the documentation
    "where": {"attributes.plan": "pro"},
    "did": [{"action": "viewed", "object": "pricing", "times": 3, "within_days": 30}],
    "did_not": [{"action": "paid"}],
}
# Resolves to the milliseconds until the list of the page has changed; a mark tells old rows from new ones.
SEARCH = """
    (text) => new Promise((resolve) => {
      const begin = performance.now(), box = document.getElementById("search");
      const rows = document.getElementById("rows"), notice = document.getElementById("notice");
      notice.textContent = "";
      const seen = new MutationObserver(() => {
        seen.disconnect();
        requestAnimationFrame(() => resolve(performance.now() - begin));
      });
      seen.observe(rows, { childList: true });
      box.value = text;
      box.dispatchEvent(new Event("input", { bubbles: true }));
    })
"""
FIRST_PAINT = "performance.getEntriesByName('first-contentful-paint').map((entry) => entry.startTime)"
ROWS = "document.getElementById('rows').rows.length"


@dataclass
class Session:
    """The lines of one engine."""

    collectors: Collectors
    runs: int
    session: requests.Session = field(default_factory=requests.Session)
    broken: list[str] = field(default_factory=list)

    def get(self, path: str, **parameters: str) -> Any:
        answer = self.session.get(self.collectors.url() + path, params=parameters, timeout=60)
        assert answer.status_code == 200, (path, answer.status_code, answer.text)
        return answer.json()

    def line(self, name: str, times: Sequence[float], note: str = "", *, is_bound: bool = True) -> None:
        """Print a line, and remember that its bound is broken, if there is one."""
        print(
            f"  {name:38}{statistics.median(times) * 1000:9.1f} ms{max(times) * 1000:9.1f} ms   {note}", flush=True
        )
        if is_bound and statistics.median(times) > MAX_SECONDS:
            self.broken.append(f"{name}: over {MAX_SECONDS:g} s")

    def measure(self, name: str, call: Callable[[], str], *, is_bound: bool = True) -> None:
        """Take the time of some calls; what the last one returns is shown beside it."""
        times = []
        for _ in range(self.runs):
            started = time.perf_counter()
            note = call()
            times.append(time.perf_counter() - started)
        self.line(name, times, note, is_bound=is_bound)


def measure_api(session: Session, population: Population) -> None:
    """Over HTTP."""
    get, email = session.get, population.email
    for name, text in {"rare": RARE, "without a match": "no such text", "frequent": "viewed"}.items():
        session.measure(f"search, {name}: first answer", lambda text=text: search(session, text)[0])  # type: ignore[misc]
    session.measure(
        "search, without a match: all answers", lambda: search_all(session, "no such text"), is_bound=False
    )

    def person(**query: str) -> str:
        found = get("person/", **query)
        return f"{found['total']} triggers of {len(found['actor_ids'])} ids"

    often, rarely = f"user-{population.frequent}", f"user-{population.rare}"
    session.measure("person with the most triggers", lambda: person(actor_id=often))
    session.measure("person with few", lambda: person(actor_id=rarely))
    session.measure("person by email", lambda: person(identity=f"email:{email(population.rare)}"))
    session.measure("people, last seen first", lambda: f"{get('people/')['total']} people")
    session.measure("people, searched: one", lambda: count_people(get("people/", search=email(population.rare))))
    session.measure("people, searched: many", lambda: count_people(get("people/", search="example.com")))
    session.measure("people, searched: none", lambda: count_people(get("people/", search="no such text")))
    made = session.session.put(session.collectors.url("/api/v1/group/likely/"), json=GROUP, timeout=60)
    assert made.status_code in (200, 201), made.text
    session.measure("group", lambda: f"{get('group/likely/')['total']} members")
    session.measure("overview", lambda: f"{get('overview/')['counts']['triggers']} triggers")


def count_people(page: Any) -> str:
    return f"{page['total']} people"


def search(session: Session, text: str, after: str | None = None) -> tuple[str, Any]:
    """Return words and the page."""
    parameters = {} if after is None else {"after": after}
    page = session.get("trigger/", search=text, order="newest", total="no", **parameters)
    back = f", back to {page['searched_to'][:10]}" if page.get("searched_to") else ""
    return f"{len(page['triggers'])} found{back}", page


def search_all(session: Session, text: str) -> str:
    after, answers, found = None, 0, 0
    while not answers or after is not None:
        _, page = search(session, text, after)
        after, answers, found = page["next"], answers + 1, found + len(page["triggers"])
    return f"{found} found in {answers} answers"


def measure_page(session: Session, browser: Browser) -> None:
    """In Chromium, each time without what a tab before has kept."""
    paints, rows, searches = [], [], {RARE: list[float](), "no such text": [], "viewed": []}
    for _ in range(session.runs):
        context = browser.new_context()
        page = context.new_page()
        started = time.perf_counter()
        page.goto(session.collectors.url("/"))
        while not page.evaluate(ROWS):
            pass
        rows.append(time.perf_counter() - started)
        while not (painted := page.evaluate(FIRST_PAINT)):
            pass
        paints.append(painted[0] / 1000)
        for text, times in searches.items():
            times.append(page.evaluate(SEARCH, text) / 1000)
        context.close()
    session.line("page: first paint", paints)
    session.line("page: rows are shown", rows)
    for text, times in searches.items():
        session.line(f"page: search {text!r}", times, "with the pause of 200 ms after a key")


def wait_until_joined(session: Session, actor_id: str) -> None:
    """Wait until all triggers are joined to people: a request for a person waits too, for a second."""
    path = session.collectors.url() + "person/"
    while True:
        found = session.session.get(path, params={"actor_id": actor_id, "limit": "1"}, timeout=60)
        if found.status_code == 200 and not found.json()["pending"]:
            return
        time.sleep(0.2)


def sizes_of(place: Path | Postgresql, location: str) -> dict[str, int]:
    """Return the bytes of tables and their indexes; of one with partitions, those of all."""
    if isinstance(place, Path):
        with closing(sqlite3.connect(location)) as connection:
            found = connection.execute(
                "SELECT tbl_name, sum(pgsize) FROM dbstat JOIN sqlite_schema USING (name) GROUP BY 1"
            ).fetchall()
            return {str(name): int(size) for name, size in found}
    rows = place.execute(
        "SELECT regexp_replace(relname, '_[0-9]{6}$', ''), sum(pg_total_relation_size(oid)) FROM pg_class"
        " WHERE relnamespace = 'brockman'::regnamespace AND relkind = 'r' GROUP BY 1",
        location,
    )
    return {name: int(size) for name, _, size in (row.partition("|") for row in rows.splitlines())}


@contextmanager
def places(engines: Sequence[str]) -> Iterator[Iterator[tuple[str, Path | Postgresql, str]]]:
    """Yield the name of each engine, its server or folder, and a new location."""

    def each() -> Iterator[tuple[str, Path | Postgresql, str]]:
        if "sqlite" in engines:
            with tempfile.TemporaryDirectory() as directory:
                yield "SQLite", Path(directory), f"{directory}/triggers.sqlite3"
        if "postgresql" in engines:
            with postgresql_server(options=()) as server:
                yield "PostgreSQL", server, server.empty_database()

    with closing(each()) as pairs:  # type: ignore[type-var]
        yield pairs


def run(name: str, place: Path | Postgresql, location: str, population: Population, runs: int) -> list[str]:
    """Measure one engine; return the bounds that it broke."""
    started = time.perf_counter()
    with closing(open_store(location)) as store:
        fill(store, population)
    print(f"{name}: {population.triggers} triggers of {population.people} people, stored in", end=" ")
    print(f"{time.perf_counter() - started:.0f} s", flush=True)
    with running_collectors(location) as collectors, chromium() as browser:
        (process,) = collectors.processes
        print(f"  memory at the start: {memory_of(process) / 1e6:.0f} MB")
        session = Session(collectors, runs)
        with MemoryWatch(process) as memory:
            meter = Meter(place if isinstance(place, Postgresql) else None, collectors.processes)
            wait_until_joined(session, population.actor_ids(population.frequent)[0])
            wall, python, engine = (seconds / population.triggers for seconds in meter.stop())
            print(f"  joined to people: {1 / wall:.0f} a second; each {python * 1e6:.1f} us of CPU,", end=" ")
            print(f"{engine * 1e6:.1f} us in PostgreSQL", flush=True)
            each = {table: size / population.triggers for table, size in sizes_of(place, location).items()}
            parts = ", ".join(f"{table} {size:.0f}" for table, size in each.items() if size >= 1)
            print(f"  bytes on disk of each trigger: {sum(each.values()):.0f} ({parts})")
            if isinstance(place, Postgresql):
                written = int(place.execute("SELECT pg_current_wal_lsn() - '0/0'", location))
                print(f"  bytes in the write-ahead log of each: {written / population.triggers:.0f}")
            print(f"  {'':38}{'median':>12}{'maximum':>12}   of {runs} runs")
            measure_api(session, population)
            measure_page(session, browser)
        print(f"  memory, the most: {memory.most / 1e6:.0f} MB   (bound {MAX_MEMORY / 1e6:.0f} MB)", flush=True)
    if memory.most > MAX_MEMORY:
        session.broken.append("memory")
    session.session.close()
    return [f"{name}: {text}" for text in session.broken]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--triggers", type=int, default=1_000_000, help="(default: %(default)s)")
    parser.add_argument("--people", type=int, default=100_000, help="(default: %(default)s)")
    parser.add_argument("--runs", type=int, default=7, help="(default: %(default)s)")
    parser.add_argument("--engines", nargs="+", default=["sqlite", "postgresql"], choices=["sqlite", "postgresql"])
    options = parser.parse_args()
    broken = []
    with places(options.engines) as found:
        for name, place, location in found:
            population = Population(options.triggers, options.people)
            broken += run(name, place, location, population, options.runs)
    print("bounds:", "; ".join(broken) or "all are kept")
    sys.exit(bool(broken))


if __name__ == "__main__":
    main()
