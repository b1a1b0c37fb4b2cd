"""The definition of a group: accepted as documented, or refused with path, value and remedy."""

from __future__ import annotations

from typing import Any

import pytest

from brockman.collector.groups import Clause, Condition, Definition, InvalidGroup, check_name, parse_definition


def test_a_definition_is_parsed() -> None:
    """The example of the documentation."""
    definition = parse_definition(
        {
            "where": {"attributes.plan": ["pro", "team"], "identities.email": {"exists": True}},
            "did": [{"action": "viewed", "object": "pricing", "times": 3, "within_days": 30}],
            "did_not": [{"action": "paid", "since": "2026-01-01T00:00:00Z"}],
        }
    )
    viewed = Clause(("viewed",), ("pricing",), (), 3, 30 * 86_400_000_000, None, None)
    paid = Clause(("paid",), (), (), 1, None, 1_767_225_600_000_000, None)
    where = Condition("attributes", "plan", equals=("pro", "team")), Condition("identities", "email")
    assert definition == Definition(where, (viewed,), (paid,))
    assert viewed.begin(now=31 * 86_400_000_000) == 86_400_000_000


def test_an_empty_definition_is_everybody() -> None:
    """Nothing is required."""
    assert parse_definition({}) == Definition()


@pytest.mark.parametrize(
    ("definition", "text"),
    [
        ([], "definition: a list of 0 should be an object"),
        ({"when": 1}, "definition: 'when' should be one of where, did, did_not"),
        ({"where": []}, "where: a list of 0 should be an object"),
        ({"where": {"plan": 1}}, "where: 'plan' should be attributes.NAME, identities.NAME or actor_id"),
        ({"where": {"attributes.": 1}}, "where.attributes.: '' should be a name of 1 to 200 characters"),
        (
            {"where": {"attributes.a": None}},
            "where.attributes.a: null should be a string, a number, true or false",
        ),
        ({"where": {"attributes.a": []}}, "where.attributes.a: a list of 0 should be a list of 1 to 100 values"),
        (
            {"where": {"attributes.a": [[1]]}},
            "where.attributes.a[0]: a list of 1 should be a string, a number, tr",
        ),
        (
            {"where": {"attributes.a": {"at_least": "3"}}},
            "where.attributes.a.at_least: '3' should be a number",
        ),
        ({"where": {"attributes.a": {"at_least": True}}}, "where.attributes.a.at_least: true should be a number"),
        ({"where": {"attributes.a": {"like": "3"}}}, "where.attributes.a: 'like' should be one of not, at_least,"),
        (
            {"where": {"attributes.a": {"not": 1, "exists": True}}},
            "where.attributes.a: an object with not, exists should be an object with one of not, at_least,"
            " at_most, contains, exists, or at_least with at_most",
        ),
        ({"where": {"attributes.a": {}}}, "where.attributes.a: an object with nothing should be an object with"),
        (
            {"where": {"identities.id": {"at_most": 1}}},
            "where.identities.id: 'at_most' should be one of not, cont",
        ),
        ({"where": {"actor_id": 7}}, "where.actor_id: 7 should be a string, as every actor_id is"),
        (
            {"where": {"actor_id": {"contains": "\0"}}},
            "where.actor_id.contains: '?' should be a string without NUL",
        ),
        ({"did": {}}, "did: an object with nothing should be a list of objects"),
        ({"did": ["x"]}, "did[0]: 'x' should be an object"),
        ({"did": [{}]}, "did[0]: an object with nothing should be an object with at least one of action, object"),
        ({"did": [{"times": 2}]}, "did[0]: an object with times should be an object with at least one of action"),
        ({"did": [{"action": "a", "what": 1}]}, "did[0]: 'what' should be one of action, object, times, within_d"),
        ({"did": [{"action": ""}]}, "did[0].action: '' should be a string of 1 to 1000 characters"),
        ({"did": [{"action": "x" * 1001}]}, "did[0].action: 'xxxxx"),
        ({"did": [{"action": "a", "times": "three"}]}, "did[0].times: 'three' should be a whole number from 1"),
        ({"did": [{"action": "a", "times": 0}]}, "did[0].times: 0 should be a whole number from 1 to 1000000"),
        ({"did": [{"action": "a", "times": 1.5}]}, "did[0].times: 1.5 should be a whole number from 1"),
        ({"did": [{"action": "a", "times": True}]}, "did[0].times: true should be a whole number from 1"),
        (
            {"did": [{"action": "a", "within_days": 0}]},
            "did[0].within_days: 0 should be days above 0, up to 36500",
        ),
        (
            {"did": [{"action": "a", "within_days": 10**18}]},
            "did[0].within_days: 1000000000000000000 should be day",
        ),
        (
            {"did": [{"action": "a", "within_days": 1, "until": "2026-01-01T00:00:00Z"}]},
            "did[0]: an object with action, within_days, until should be an object with within_days",
        ),
        ({"did": [{"action": "a", "since": "May"}]}, "did[0].since: 'May' should be a time as in RFC 3339"),
        (
            {"did_not": [{"object": "a", "since": "2026-01-01T00:00:00Z", "until": "2026-01-01T00:00:00Z"}]},
            "did_not[0].until: '2026-01-01T00:00:00Z' should be later than since",
        ),
        ({"did": [{"variables.x": {"at_least": None}}]}, "did[0].variables.x.at_least: null should be a number"),
        ({"where": {"attributes.\n\u202e": None}}, "where.attributes.??: null should be a string"),
        (
            {"where": {f"attributes.{n}": 1 for n in range(21)}},
            "where: an object with attributes.0, attributes.1,",
        ),
        ({"did": [{"action": "a"}] * 11}, "did: a list of 11 should be at most 10 objects"),
        ({"did": [{"action": ["a"] * 101}]}, "did[0].action: a list of 101 should be a list of 1 to 100 values"),
        ({"did": [{f"variables.{n}": 1 for n in range(21)}]}, "did[0]: an object with variables.0"),
    ],
)
def test_a_mistake_is_named_with_its_path(definition: Any, text: str) -> None:
    """The text has the path, the value and what would be right."""
    with pytest.raises(InvalidGroup) as caught:
        parse_definition(definition)
    assert str(caught.value).startswith(text)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "name", ["pro", "..a", "a b", "Größe 3", "%2F", "顧客", "a" * 100, "null", "?x=1#y", "'\"<b>"]
)
def test_a_name_may_have_any_printable_characters(name: str) -> None:
    """It is shown, and part of a URL."""
    assert check_name(name) == name


def test_names_that_look_the_same_are_the_same() -> None:
    """Composed and decomposed characters are one."""
    assert check_name("Gro\u0308ße") == check_name("Größe") == "Größe"


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "/", "a\\b", " a", "a ", "a\n", "\0", "\u202e", "a" * 1000]
)
def test_a_name_is_no_path_and_has_no_hidden_characters(name: str) -> None:
    """A name that a URL or a file could not have."""
    with pytest.raises(InvalidGroup, match=r"^name: "):
        check_name(name)
