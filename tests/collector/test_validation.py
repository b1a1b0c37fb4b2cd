"""The validation of one trigger."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from brockman.collector.validation import MAX_ERROR_CHARS, InvalidTrigger, make_row
from tests.collector.running import trigger

few = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
texts = st.text(alphabet='a"\\\n\x00€😀\u2028', max_size=8) | st.just("x" * 300)
numbers = st.sampled_from([0, -1, 2**63, 2**64, 2**70, 10**400, 0.5, 1e308, 5e-324])
json_values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda children: st.lists(children, max_size=3) | st.dictionaries(texts, children, max_size=3),
    max_leaves=6,
)
NAMES = ["actor_id", "action", "object", "id", "recorded_at", "captured_identities", "variables"]
near_triggers = st.dictionaries(st.sampled_from(NAMES), json_values).map(
    lambda change: {**trigger(), **change}
) | st.dictionaries(st.sampled_from(NAMES), json_values)


def no_id() -> str:
    raise AssertionError("the trigger has an id")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"actor_id": None}, "actor_id: null; give a string that is not empty"),
        ({"actor_id": 7}, "actor_id: a number; give a string that is not empty"),
        ({"action": " \t"}, "action: empty; give a string that is not empty"),
        ({"object": ["x"]}, "object: a list; give a string that is not empty"),
        ({"object": True}, "object: a boolean; give a string that is not empty"),
        ({"variables": []}, "variables: a list; give an object"),
        ({"variables": 0}, "variables: a number; give an object"),
        ({"captured_identities": ""}, "captured_identities: a string; give an object"),
        ({"captured_attributes": False}, "captured_attributes: a boolean; give an object"),
        ({"variables": {"a": {}}}, "variables['a']: an object; give a string, number, boolean or list of these"),
        ({"variables": {"a": None}}, "variables['a']: null; give a string, number, boolean or list of these"),
        ({"variables": {"a": [[]]}}, "variables['a'][0]: a list; give a string, number or boolean"),
        (
            {"variables": {'"\\\n': None}},
            "variables['???']: null; give a string, number, boolean or list of these",
        ),
        ({"id": "x"}, "id: 'x'; give a UUID, the same on every attempt"),
        ({"id": 7}, "id: a number; give a UUID, the same on every attempt"),
        ({"id": "1_" + "0" * 31}, "id: '1_00000000000000000…'; give a UUID, the same on every attempt"),
        ({"recorded_at": 7}, "recorded_at: a number; give RFC 3339, as 2026-11-23T17:22:32Z"),
        ({"recorded_at": "now"}, "recorded_at: 'now'; give RFC 3339, as 2026-11-23T17:22:32Z"),
    ],
)
def test_an_error_names_path_value_and_remedy(change: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidTrigger) as caught:
        make_row(trigger(**change), 0, no_id)

    assert str(caught.value) == text


@few
@given(near_triggers)
def test_any_object_is_stored_or_rejected_with_a_short_text(candidate: dict[str, Any]) -> None:
    try:
        row = make_row(candidate, 1_790_000_000_000_000, lambda: "11111111-1111-8111-8111-111111111111")
    except InvalidTrigger as error:
        text = str(error)
        assert 0 < len(text) <= MAX_ERROR_CHARS
        assert len(json.dumps(text, ensure_ascii=False)) == len(text) + 2
    else:
        assert json.loads(row[-1]) == candidate
