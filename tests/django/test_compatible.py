"""The Django client's promises of brockman 0.1."""

from __future__ import annotations

import pytest
from django.test.utils import override_settings

from brockman.django.client import DjangoFocusLabClient
from brockman.exceptions import BadAPIKey, ConfigurationError
from tests.support.client import KEY
from tests.support.server import RecordingServer, Reply

OTHER_KEY, OTHER = "another key", "https://api.focuslab-dev.io/api/v1/"


def test_key_and_endpoint_may_be_given_by_position() -> None:
    """Or one of them only, or None for the project's setting."""
    client = DjangoFocusLabClient(OTHER_KEY, OTHER)
    assert (client.api_key, client.endpoint) == (OTHER_KEY, OTHER)
    assert DjangoFocusLabClient(OTHER_KEY).api_key == OTHER_KEY
    client = DjangoFocusLabClient(None, OTHER)
    assert (client.api_key, client.endpoint) == (KEY, OTHER)


def test_key_and_endpoint_are_the_projects(server: RecordingServer) -> None:
    """Read when they are asked for, and again when a test overrides them."""
    client = DjangoFocusLabClient()
    assert repr(client) == "<DjangoFocusLabClient not in use yet>"
    with override_settings(FL_API_KEY=OTHER_KEY, FL_ENDPOINT=OTHER.removesuffix("/")):
        assert (client.api_key, client.endpoint) == (OTHER_KEY, OTHER)
        assert client.get_url("trigger/32") == f"{OTHER}trigger/32/"
        assert client.get_headers()["X-FL-API-KEY"] == OTHER_KEY
        assert OTHER_KEY not in f"{client!r} {vars(client)} {vars(client._client())}"
    assert (client.api_key, client.endpoint) == (KEY, "https://api.focuslab.io/api/v1/")
    assert client.get_trigger_data(7, "viewed", "page") == {"actor_id": "7", "action": "viewed", "object": "page"}


def test_a_project_without_a_key() -> None:
    """It is None, as in 0.1; where `DEBUG` is on it raises, and says what to set."""
    client = DjangoFocusLabClient()
    with override_settings(FL_API_KEY=None):
        with override_settings(DEBUG=True), pytest.raises(ConfigurationError, match="FL_API_KEY"):
            client.api_key  # noqa: B018
        assert client.api_key is None


def test_send_trigger_blocks_and_raises(project: RecordingServer) -> None:
    """As `record_trigger` did in 0.1."""
    client = DjangoFocusLabClient()
    client.send_trigger(7, "viewed", "page")
    assert [request.headers["x-fl-api-key"] for request in project.requests] == [client.api_key]
    project.respond = lambda request: Reply(401)
    with pytest.raises(BadAPIKey):
        client.send_trigger(7, "viewed", "page")
