"""The blocks about health, metrics and the access log, on a collector."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from tests.cli.conftest import serving
from tests.docs.blocks import only
from tests.support.client import KEY
from tests.support.waiting import eventually


def test_the_probes_the_scraping_and_the_log_are_as_described(tmp_path: Path) -> None:
    """The paths of Kubernetes' probes answer, Prometheus gets metrics, a line of the log has these fields."""
    log = tmp_path / "access.log"
    probes = yaml.safe_load(only("probes").code)
    scraping = yaml.safe_load(only("scraping").code)["scrape_configs"][0]
    with serving(tmp_path, "--access-log", str(log)) as collector:
        root = collector.endpoint.removesuffix("/api/v1/")
        for probe in probes.values():
            response = collector.session.get(root + probe["httpGet"]["path"], timeout=20)
            assert response.json() == {"status": "ok"}
        assert set(scraping["authorization"]) == {"credentials_file"}  # whose default type is Bearer
        bearer = {"Authorization": f"Bearer {KEY}"}
        assert (
            "brockman_triggers_total" in collector.session.get(f"{root}/metrics", headers=bearer, timeout=20).text
        )
        assert eventually(lambda: log.exists() and len(log.read_text().splitlines()) == 3)
    described = json.loads(only("a line of the access log").code)
    assert set(json.loads(log.read_text().splitlines()[0])) == set(described)
