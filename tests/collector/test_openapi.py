"""The description of the API is true: every route is in it, and random requests find no fault."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from starlette.routing import Route

from brockman.collector.app import create_app
from brockman.collector.joiner import Joiner
from brockman.collector.live import Streams
from brockman.collector.load import Load
from brockman.collector.metrics import Metrics
from brockman.collector.openapi import plain_path
from brockman.collector.settings import Settings
from brockman.collector.store import open_store
from brockman.collector.store.people import People
from brockman.collector.store.refused import Refused
from tests.collector.running import Running, trigger
from tests.support.client import KEY
from tests.support.programs import ran

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


@pytest.fixture
def document(shared: Running) -> dict[str, Any]:
    response = shared.session.get(shared.endpoint.removesuffix("api/v1/") + "openapi.json", timeout=20)
    assert response.status_code == 200
    return dict(response.json())


def routes(tmp_path: Path) -> Iterator[Route]:
    """Yield the routes of a collector, without the files of the page."""
    settings = Settings(database=tmp_path / "t.sqlite3")
    with closing(open_store(settings.database)) as store:
        load = Load(settings.max_pending_bytes, lambda: 0)
        with closing(Joiner(store, People(store))) as joiner:
            app = create_app(
                store,
                settings,
                None,
                kept=Refused(store),
                streams=Streams(store),
                joiner=joiner,
                load=load,
                metrics=Metrics(),
            )
    for route in app.routes:
        assert isinstance(route, Route)
        if not route.path.startswith("/page/"):
            yield route


def test_every_route_is_described_with_its_methods(document: dict[str, Any], tmp_path: Path) -> None:
    """And nothing else."""
    found: dict[str, set[str]] = {}
    for route in routes(tmp_path):
        methods = {method.lower() for method in route.methods or ()} - {"head", "options"}
        found.setdefault(plain_path(route.path), set()).update(methods)
    described = {
        path: {name for name in item if name not in ("parameters", "summary", "description")}
        for path, item in document["paths"].items()
    }
    assert described == found
    assert len(found) >= 8


def test_every_path_has_the_parameters_that_are_described(document: dict[str, Any], shared: Running) -> None:
    """The error for an unknown one lists those that there are."""
    listed = 0
    for path, item in document["paths"].items():
        if "get" not in item or "{" in path or not path.startswith("/api/v1/"):
            continue
        response = shared.get(path.removeprefix("/api/v1/"), nonsense="x")
        names = re.search(r"unknown parameter; there are (.*)", response.json().get("error", ""))
        if names is not None:
            described = {parameter["name"] for parameter in item["get"]["parameters"]} or {"none"}
            assert described <= set(names[1].split(", ")), path
            if "stream" not in path:
                assert described == set(names[1].split(", ")), path
            listed += 1
    assert listed >= 2


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    names = set(re.findall(r"#/components/schemas/(\w+)", str(document)))
    assert names
    assert names <= set(document["components"]["schemas"])
    operations = [
        part["operationId"]
        for item in document["paths"].values()
        for part in item.values()
        if "operationId" in part
    ]
    assert len(operations) == len(set(operations))


def test_random_requests_find_no_fault(spawn: Callable[..., Running], tmp_path: Path) -> None:
    """Valid and invalid ones: no 500, and every answer has a status, a type and a body that are described."""
    collector = spawn()
    # The examples in the description, so that some requests succeed: else there is a warning.
    person = trigger(actor_id="7", captured_identities={"email": "ada@example.com"})
    assert collector.post(person).status_code == 201
    options = [
        *("--header", f"X-FL-API-KEY: {KEY}"),
        *("--seed", "1", "--max-examples", "10", "--phases", "coverage,fuzzing", "--suppress-health-check", "all"),
        *("--checks", CHECKS, "--exclude-path", "/api/v1/stream/", "--request-timeout", "20", "--no-color"),
    ]
    url = collector.endpoint.removesuffix("api/v1/") + "openapi.json"
    ended = ran([sys.executable, "-m", "schemathesis.cli", "run", url, *options], cwd=tmp_path, limit=120)
    assert ended.status == 0, ended.out
    assert re.search(r"([0-9]{3,}) generated, \1 passed", ended.out), ended.out
    assert collector.process is not None
    collector.process.terminate()
    assert "Traceback" not in collector.process.communicate(timeout=20)[1]
