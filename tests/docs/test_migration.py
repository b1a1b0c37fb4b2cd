"""The migration page: the events of another tracker are imported as it says."""

from __future__ import annotations

import json
from pathlib import Path

from tests.docs.blocks import only, run_shell
from tests.support.client import KEY
from tests.support.server import RecordingServer


def test_events_of_another_tracker_are_imported(tmp_path: Path, server: RecordingServer) -> None:
    """With their ids, times, actors and properties."""
    event = json.loads(only("an event of another tracker").code)
    (tmp_path / "events.ndjson").write_text(json.dumps(event))
    command = only("import of another tracker").code.removeprefix("$ ")
    run_shell(command, tmp_path, FL_ENDPOINT=server.endpoint, FL_API_KEY=KEY)

    assert server.triggers == [
        {
            "actor_id": "42",
            "action": "order paid",
            "object": "order paid",
            "variables": {"total": 19.9},
            "id": event["uuid"],
            "recorded_at": "2026-01-02T03:04:05.000000Z",
        }
    ]
