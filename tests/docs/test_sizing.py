"""The page on sizing calculates with the constants that it names."""

from __future__ import annotations

from tests.docs.sizing import PAGE, Constants, read_constants, size, write_table


def test_the_table_follows_from_the_constants() -> None:
    """Collectors, cores and disks for a number of triggers a day."""
    page = PAGE.read_text(encoding="utf-8")
    assert page == write_table(page), "run `python -m tests.docs.sizing`"


def test_the_words_name_the_assumptions_of_the_table() -> None:
    """The peak, and how busy a core is."""
    words = " ".join(PAGE.read_text(encoding="utf-8").split())
    assert "four times the average" in words
    assert "half busy at the peak" in words
    assert "a quarter of the time" in words


def test_what_a_constant_does() -> None:
    """Twice the bytes need twice the disk, and twice the CPU more collectors."""
    sqlite, usual = read_constants(PAGE.read_text(encoding="utf-8"))
    twice = Constants(*(2 * value for value in vars(usual).values()))
    assert size(1000, sqlite, usual)[2:5] == ("SQLite", "1", "-")
    small, large = size(10**9, sqlite, usual), size(10**9, sqlite, twice)
    assert int(large[3]) > int(small[3]) > 1
    assert int(large[4]) > int(small[4])
    assert int(large[7]) == int(small[7]) // 2
