"""The settings of the documentation are those of the program."""

from __future__ import annotations

from tests.docs.tables import PAGE, write_tables


def test_the_tables_are_those_of_the_program() -> None:
    """Every setting is there with its default, unit and meaning, and no other."""
    page = PAGE.read_text(encoding="utf-8")
    assert page == write_tables(page), "run `python -m tests.docs.tables`"
