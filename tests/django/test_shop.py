"""The shop of the examples under load, as it would run: gunicorn, a Celery worker, a Redis, the collector."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.celery.workers import QUIET
from tests.collector.running import Running as Collector
from tests.support.client import KEY
from tests.support.programs import CLIENTS, PYTHONPATH, ROOT, find_program, free_port, running
from tests.support.redis_server import redis_server
from tests.support.waiting import eventually

redis = pytest.importorskip("redis")
pytest.importorskip("celery")

SHOP = ROOT / "examples" / "django_shop"
VISITORS = 100  # who make 800 requests
FOR_SALE, SOLD_OUT = 1, 3
VIEWS = ("/", f"/books/{FOR_SALE}/", "/books/2/", f"/books/{SOLD_OUT}/", "/", "/books/2/")  # and two orders
GONE = 20  # of the visitors object to being tracked


@pytest.fixture
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    """The collector, as `brockman serve` runs it."""
    folder, port = tmp_path_factory.mktemp("collector"), free_port()
    endpoint = f"http://127.0.0.1:{port}/api/v1/"
    with requests.Session() as session:
        running_collector = Collector(endpoint, folder / "triggers.sqlite3", session)
        command = [find_program("brockman"), "serve", "--port", str(port), "--database", "triggers.sqlite3"]
        with running(command, folder, running_collector, port):
            yield running_collector


SITE = {
    "FL_API_KEY": KEY,
    "DEBUG": "0",
    "PYTHONPATH": f"{SHOP}:{PYTHONPATH}",
    "DJANGO_SETTINGS_MODULE": "shop.settings",
}


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data of a shop that nobody has visited."""
    folder = tmp_path_factory.mktemp("data")
    manage({**SITE, "SHOP_DATA": str(folder)}, "migrate", "--verbosity=0")
    return folder


@pytest.fixture
def site(collector: Collector, tmp_path: Path, migrated: Path) -> dict[str, str]:
    """The environment of the shop."""
    folder = shutil.copytree(migrated, tmp_path / "data")
    return {**SITE, "FL_ENDPOINT": collector.endpoint, "SHOP_DATA": str(folder)}


def manage(environment: dict[str, str], *command: str) -> str:
    """Run a command of the shop, which must end well, and return what it printed."""
    result = subprocess.run(
        [sys.executable, "-W", "error", str(SHOP / "manage.py"), *command],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def visit(base: str, number: int) -> str:
    """Look at the pages, order two books, one of which is sold out; return the actor of the cookie, or nothing."""
    with requests.Session() as session:
        session.headers["Sec-GPC"] = "1" if number < GONE else "0"
        for path in VIEWS:
            assert session.get(base + path, timeout=30).status_code == 200
        for book, status in ((FOR_SALE, 200), (SOLD_OUT, 409)):
            headers = {"X-CSRFToken": session.cookies["csrftoken"]}
            assert session.post(f"{base}/books/{book}/order/", headers=headers, timeout=30).status_code == status
        return session.cookies.get("fl_actor_id") or ""


def visit_all(base: str) -> list[str]:
    """Have all visitors come, some at a time; return their actors."""
    with ThreadPoolExecutor(CLIENTS) as pool:
        return list(pool.map(lambda number: visit(base, number), range(VISITORS)))


def test_the_shop_loses_nothing_and_makes_nothing_up(
    collector: Collector, site: dict[str, str], tmp_path: Path
) -> None:
    """Each page, order and task is one trigger of one actor; failed orders and visitors who object make none."""
    redis_at, port = free_port(), free_port()
    site["BROKER_URL"] = f"redis://127.0.0.1:{redis_at}/0"
    web, work = tmp_path / "web", tmp_path / "worker"
    web.mkdir()
    work.mkdir()
    gunicorn = [find_program("gunicorn"), "--workers=2", "--threads=4", "--preload", f"--bind=127.0.0.1:{port}"]
    celery = find_program("celery")
    worker = [celery, "-A", "shop", "worker", *QUIET, "--concurrency=2", "--max-tasks-per-child=50"]
    with (
        redis_server(tmp_path / "redis", collector, redis_at),
        running([*gunicorn, "shop.wsgi"], web, collector, port, XDG_RUNTIME_DIR=str(web), **site) as shop,
        running(worker, work, collector, **site) as tasks,
        redis.Redis("127.0.0.1", redis_at) as broker,
    ):
        assert "triggers arrive" in manage(site, "focuslab_check")
        actors = visit_all(f"http://127.0.0.1:{port}")
        assert shop.stop() == 0, shop.text()
        assert eventually(lambda: broker.llen("celery") == 0 and broker.hlen("unacked") == 0, 60), tasks.text()
        assert tasks.stop() == 0, tasks.text()
        assert "Traceback" not in shop.text() + tasks.text()
    bought = VISITORS - GONE
    found = [trigger for trigger in collector.stored() if trigger["actor_id"] != "brockman-check"]
    assert Counter((trigger["action"], trigger["object"]) for trigger in found) == {
        ("viewed", "catalogue"): 2 * bought,
        ("viewed", "book"): 4 * bought,
        ("ordered", "book"): bought,
        ("paid", "book"): bought,
        ("was sent", "book"): bought,
    }
    assert collector.stats()["duplicates"] == 0
    assert actors[:GONE] == [""] * GONE
    assert_joined(found, set(actors[GONE:]))
    counts = [json.loads(line)["stats"] for line in manage(site, "focuslab_stats", "--json").splitlines()]
    assert sum(count["delivered"] for count in counts) == len(found)
    assert sum(count["dropped"].get("untracked", 0) for count in counts) == GONE * (len(VIEWS) + 2)
    assert sum(count["queued"] + count["in_flight"] + count["rejected"] for count in counts) == 0


def assert_joined(found: list[dict[str, Any]], actors: set[str]) -> None:
    """Each visitor did all of it under one actor, which the cookie carries."""
    did: dict[str, list[str]] = defaultdict(list)
    for trigger in found:
        did[trigger["actor_id"]].append(trigger["action"])
    assert set(did) == actors
    each = sorted(["viewed"] * len(VIEWS) + ["ordered", "paid", "was sent"])
    assert [actor for actor, actions in did.items() if sorted(actions) != each] == []


def test_the_shop_runs_without_any_server(collector: Collector, site: dict[str, str], tmp_path: Path) -> None:
    """As its README says: the broker is a folder, the worker's pool is of threads."""
    port = free_port()
    web, work = tmp_path / "web", tmp_path / "worker"
    web.mkdir()
    work.mkdir()
    worker = [find_program("celery"), "-A", "shop", "worker", *QUIET, "--pool=threads"]
    gunicorn = [find_program("gunicorn"), f"--bind=127.0.0.1:{port}", "shop.wsgi"]
    assert "no issues" in manage(site, "check")
    with (
        running(gunicorn, web, collector, port, XDG_RUNTIME_DIR=str(web), **site) as shop,
        running(worker, work, collector, **site) as tasks,
    ):
        actor = visit(f"http://127.0.0.1:{port}", VISITORS)
        assert eventually(lambda: len(collector.stored()) == len(VIEWS) + 3, 30), tasks.text()
        assert (shop.stop(), tasks.stop()) == (0, 0), tasks.text()
    assert_joined(collector.stored(), {actor})


def test_the_shop_under_uvicorn_delivers_when_it_is_stopped(
    collector: Collector, site: dict[str, str], tmp_path: Path
) -> None:
    """Its `asgi.py` wraps the application: a stop right after the last answer loses nothing."""
    port, web = free_port(), tmp_path / "web"
    web.mkdir()
    uvicorn = [find_program("uvicorn"), "shop.asgi:application", f"--port={port}", "--workers=1"]
    with running(uvicorn, web, collector, port, **site, FL_FLUSH_INTERVAL="600") as shop:
        base = f"http://127.0.0.1:{port}"
        with ThreadPoolExecutor(CLIENTS) as pool:
            actors = set(pool.map(lambda number: browse(base), range(40)))
        assert shop.stop() in (0, -signal.SIGTERM), shop.text()
        assert "Traceback" not in shop.text()
    found = collector.stored()
    assert len(found) == 40 * len(VIEWS)
    counts = [json.loads(line)["stats"] for line in manage(site, "focuslab_stats", "--json").splitlines()]
    assert sum(count["delivered"] for count in counts) == len(found)
    assert {trigger["actor_id"] for trigger in found} == actors


def browse(base: str) -> str:
    """Look at the pages, and return the actor of the cookie."""
    with requests.Session() as session:
        for path in VIEWS:
            assert session.get(base + path, timeout=30).status_code == 200
        return session.cookies["fl_actor_id"]
