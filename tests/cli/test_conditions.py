"""The conditions of `--where`."""

from __future__ import annotations

from typing import Any

import pytest

from brockman.cli import main
from brockman.cli.conditions import Conditions
from brockman.exceptions import ConfigurationError

TRIGGER: dict[str, Any] = {
    "actor_id": "7",
    "action": "paid",
    "object": "cart=1",
    "id": "0191b2c4-4c1e-4a3e-9a55-000000000001",
    "recorded_at": "2026-11-23T17:22:32.5Z",
    "captured_identities": {"email": "Ada@example.com"},
    "captured_attributes": {"plan": "pro", "nested": {"a": 1}},
    "variables": {"total": 12, "gift": True, "tags": ["a", 2], "none": None, "rate": 0.5, "k.ey": "x"},
}


@pytest.mark.parametrize(
    "given",
    [
        "action=paid",
        "actor_id=7",
        "object=cart=1",
        "id=0191b2c4-4c1e-4a3e-9a55-000000000001",
        "action~=AI",
        "identities.email~=@EXAMPLE",
        "captured_identities.email=Ada@example.com",
        "attributes.plan=pro",
        'attributes.nested={"a":1}',
        "variables.total=12",
        "variables.gift=true",
        "variables.tags=2",
        "variables.none=null",
        "variables.rate=0.5",
        "variables.k.ey=x",
        "since=2026-11-23",
        "since=2026-11-23T18:22:32+01:00",
        "until=2026-11-24",
        "reason~=missing",
    ],
)
def test_a_trigger_matches(given: str) -> None:
    """By the text of a value, whatever its type is in JSON."""
    assert Conditions([given], more=["reason"]).matches(TRIGGER, reason="action: Missing")


@pytest.mark.parametrize(
    "given",
    [
        "action=PAID",
        "action=pai",
        "attributes.total=12",
        "variables.total=12.0",
        "variables.gift=True",
        "variables.plan=pro",
        "variables.tags=3",
        "since=2026-11-24",
        "until=2026-11-23T17:22:32.5Z",
        "reason=missing",
    ],
)
def test_a_trigger_does_not_match(given: str) -> None:
    assert not Conditions([given], more=["reason"]).matches(TRIGGER, reason="action: Missing")


def test_every_condition_must_hold() -> None:
    assert Conditions(["action=paid", "variables.tags=a", "variables.tags=2"]).matches(TRIGGER)
    assert not Conditions(["action=paid", "variables.tags=b"]).matches(TRIGGER)
    assert Conditions([]).matches(TRIGGER)


@pytest.mark.parametrize("trigger", [{}, {"variables": "text", "recorded_at": 7, "action": ["x"]}])
@pytest.mark.parametrize("given", ["action=paid", "variables.total=12", "since=2026-11-23", "actor_id~="])
def test_what_a_trigger_does_not_have_matches_nothing(trigger: dict[str, Any], given: str) -> None:
    """Refused triggers may lack fields, or have values of another type in them."""
    assert not Conditions([given]).matches(trigger)


@pytest.mark.parametrize(
    "given",
    ["action", "", "=paid", "verb=paid", "reason=x", "variables=1", "variables.=1", "since~=2026", "since=today"],
)
def test_a_mistake_is_named(given: str) -> None:
    with pytest.raises(ConfigurationError, match="--where"):
        Conditions([given])


def test_the_collector_can_be_asked_for_some() -> None:
    """It leaves out early what does not match; each trigger is compared nevertheless."""
    conditions = Conditions(["action=paid", "object~=car", "since=2026-11-23", "variables.total=12"])

    assert conditions.parameters(["action", "object", "since"]) == {
        "action": "paid",
        "since": "2026-11-23T00:00:00+00:00",
    }


@pytest.mark.parametrize(
    "command",
    [["export", "--where"], ["replay", "--where"], ["erase", "--actor"], ["erase", "--identity"]],
    ids=" ".join,
)
def test_bytes_that_are_no_text_are_a_wrong_use(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is asked for with them."""
    assert main([*command, "action=\udcff"]) == 2
    assert f"{command[1]} is 'action=\\udcff'; it should be UTF-8" in capsys.readouterr().err
