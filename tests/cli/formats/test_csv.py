"""CSV as spreadsheets, databases and `cat` write it."""

from __future__ import annotations

import pytest

from brockman.cli.formats import read_lines
from brockman.cli.source import Arguments, BadLine
from brockman.exceptions import ConfigurationError

GOOD = (2, "7 viewed page")


def read(text: str, mapping: dict[str, str] | None = None, name: str = "csv") -> list[tuple[int, str]]:
    """Return number and content of each reading: the required fields, then other values; or the reason."""
    lines = enumerate(text.removesuffix("\n").split("\n"), 1)
    return [(number, describe(reading)) for number, reading in read_lines(lines, name, mapping or {})]


def describe(reading: Arguments | BadLine) -> str:
    if isinstance(reading, BadLine):
        return reading.reason
    values = [
        f"{key}={value}" for mapping in reading[3:6] if mapping is not None for key, value in mapping.items()
    ]
    stamps = [f"at={reading.at.isoformat()}"] if reading.at else []
    return " ".join(
        [*reading[:3], *values, *stamps, *([f"id={reading.trigger_id}"] if reading.trigger_id else [])]
    )


@pytest.mark.parametrize("name", ["csv", "auto"])
@pytest.mark.parametrize(
    "text",
    [
        "actor_id,action,object\n7,viewed,page",
        "actor_id;action;object\n7;viewed;page",
        "actor_id\taction\tobject\n7\tviewed\tpage",
        "actor_id|action|obj\n7|viewed|page",
        "\ufeffactor_id,action,object\n7,viewed,page",
        "Actor_ID,ACTION,Object\n7,viewed,page",
        "Actor ID,Action,Object\n7,viewed,page",
        " actor_id , action , object \n7,viewed,page",
        '"actor_id", "action", "object"\n7,viewed,page',
        "actor_id,action,object,\n7,viewed,page,",
        "actor_id,action,object\n7,viewed,page,,,",
        ",actor_id,action,object\n0,7,viewed,page",
        'actor_id;action;object\n7;"viewed";page\n;;\n\n   \n',
        'object,action,actor_id\n"page",viewed,7',
    ],
)
def test_a_trigger_is_read_whatever_the_dialect(text: str, name: str) -> None:
    """Delimiter, byte order mark, case and spaces of names, trailing delimiters and blank rows."""
    assert read(text, name=name) == [GOOD]


@pytest.mark.parametrize("first", ["sep=;", "SEP=;", '"sep=;"', "\ufeffsep=;", "sep=;;;"])
@pytest.mark.parametrize("name", ["csv", "auto"])
def test_the_first_line_of_excel_gives_the_delimiter(first: str, name: str) -> None:
    assert read(f"{first}\nactor_id;action;object\n7;viewed;page", name=name) == [(3, "7 viewed page")]
    assert read("sep=:\nactor_id:action:object\n7:viewed:page", name=name) == [(3, "7 viewed page")]


def test_cells_are_text() -> None:
    """Decimal commas, leading zeros and spaces stay; empty cells are left out."""
    text = "actor_id;action;object;variables.price;variables.code;variables.x\n7;viewed;page;9,50;007;\n7;a;b;; c;"
    assert read(text) == [(2, "7 viewed page price=9,50 code=007"), (3, "7 a b code= c")]


def test_a_file_in_a_file_has_its_own_header() -> None:
    """After `cat a.csv b.csv c.csv`, also with other columns, delimiter and byte order mark."""
    text = (
        "actor_id,action,object\n7,viewed,page\n"
        "\ufeffobject,actor_id,variables.n,action\npage,8,1,viewed\n"
        "sep=;\nactor_id;action;object\n9;viewed;page\n"
        "Action\tObject\tActor_id\nviewed\tpage\t10\n"
    )
    assert read(text) == [
        (2, "7 viewed page"),
        (4, "8 viewed page n=1"),
        (7, "9 viewed page"),
        (9, "10 viewed page"),
    ]


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_header_right_behind_the_last_cell_is_found(mark: str) -> None:
    """After `cat a.csv b.csv`, where a.csv does not end with a line break."""
    text = f"actor_id,action,object\n7,viewed,page{mark}object,actor_id,action\npage,8,viewed\n9,action,object"
    assert read(text) == [(2, "7 viewed page"), (3, "8 viewed page"), (4, "action object 9")]


def test_a_wrong_second_header_stops_the_import() -> None:
    """The rows below it would be read with the columns of the first."""
    readings = read_lines(
        enumerate(["actor_id,action,object", "7,viewed,page", "actor_id,action,object,color", "8,a,b,c"], 1), "csv"
    )
    assert next(readings)[0] == 2
    with pytest.raises(ConfigurationError, match="line 3: the CSV header has a column 'color'"):
        next(readings)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (['1,viewed,"page', "2,viewed,page", "3,viewed,page"], ["not CSV", "2", "3"]),
        (['1,viewed,"page"s', "2,viewed,page"], ["not CSV", "2"]),
        (['1,viewed,"page', "2,viewed,page", '3,viewed,"x"', "4,a,b"], ["not CSV", "2", "3", "4"]),
        (['1,viewed,"page', "2,viewed,page", '3,viewed,x"', "4,a,b"], ["not CSV", "2", "3", "4"]),
        (['1,"viewed,page', "2,a,b", "3,a,b", '4,viewed",y', "5,a,b"], ["not CSV", "2", "3", "4", "5"]),
        (['1,viewed,5" disk', "2,a,b"], ["1", "2"]),
        (['1,viewed,"two', "", 'lines"', "2,a,b"], ["1", "2"]),
        (['1,viewed,"and', "so,on,more", "lines", 'of text"', "2,a,b"], ["1", "2"]),
        (['1,viewed,"two', 'lines",x', "2,a,b"], ["4 cells", "2"]),
        (['1,viewed,"', '2,viewed,"', "3,a,b"], ["1", "3"]),
    ],
)
def test_an_unclosed_quote_is_one_bad_line(rows: list[str], expected: list[str]) -> None:
    """Reading goes on with the next line; line breaks in quotes stay right."""
    readings = read("\n".join(["actor_id,action,object", *rows]))
    assert len(readings) == len(expected)
    assert [text[: len(start)] for (_, text), start in zip(readings, expected, strict=True)] == expected


def test_an_unclosed_quote_costs_one_line_of_a_thousand_and_not_their_square() -> None:
    rows = [f"{number},viewed,page" for number in range(5000)]
    for number in range(0, 5000, 10):
        rows[number] = f'{number},viewed,"page'
    readings = read("\n".join(["actor_id,action,object", *rows]))
    bad = [number for number, text in readings if text.startswith("not CSV")]
    assert len(readings) >= 4900
    assert len(bad) <= 500


@pytest.mark.parametrize("row", ["7,viewed", "7,viewed,page,more", "7"])
def test_a_row_with_too_few_or_many_cells_is_a_bad_line(row: str) -> None:
    cells = row.count(",") + 1
    assert read(f"actor_id,action,object\n{row}\n7,viewed,page") == [
        (2, f"{cells} cells, where the header has 3"),
        (3, "7 viewed page"),
    ]


@pytest.mark.parametrize(
    ("header", "cells", "expected"),
    [
        ("recorded_at", "2025-10-10T11:55:36Z", "at=2025-10-10T11:55:36+00:00"),
        ("Timestamp", "2025-10-10 13:55:36.5+02", "at=2025-10-10T13:55:36.500000+02:00"),
        ("time", "1760097336", "at=2025-10-10T11:55:36+00:00"),
        ("time", "1760097336123", "at=2025-10-10T11:55:36.123000+00:00"),
        ("time", "", ""),
        ("id", "DA9DCAA0-3645-4149-8D4A-E6B4865CF395", "id=DA9DCAA0-3645-4149-8D4A-E6B4865CF395"),
        ("messageId", "ajs-next-123", "id=ajs-next-123"),
        ("message_id,uuid", "17,17", "id=17"),
        ("id,uuid", "17,18", "id=17"),
        ("id", "00000000-0000-0000-0000-000000000000", ""),
    ],
)
def test_time_and_id_of_a_row_are_kept(header: str, cells: str, expected: str) -> None:
    readings = read(f"actor_id,action,object,{header}\n7,viewed,page,{cells}")
    assert readings == [(2, f"7 viewed page {expected}".strip())]


@pytest.mark.parametrize(
    ("header", "cells", "reason"),
    [
        ("time", "2025-10-10 13:55:36", "time: '2025-10-10 13:55:36' has no time zone"),
        ("timestamp", "soon", "timestamp: 'soon' is not a time"),
        (
            "timestamp,time",
            "1760097336,1760097337",
            "timestamp and time differ; choose one with --map time=timestamp",
        ),
        ("uuid,message_id", "a,b", "message_id and uuid differ; choose one with --map id=message_id"),
    ],
)
def test_a_wrong_time_or_id_is_a_bad_line(header: str, cells: str, reason: str) -> None:
    ((_, text),) = read(f"actor_id,action,object,{header}\n7,viewed,page,{cells}")
    assert text.startswith(reason)


def test_a_column_of_json_objects_can_be_mapped() -> None:
    text = 'who,what,properties\n7,paid,"{""total"": 1.5, ""cart"": {""n"": 2}}"\n8,paid,\n9,paid,x\n'
    mapping = {"actor_id": "who", "action": "what", "object": "what", "variables": "properties"}
    (_, paid), (_, empty), (_, wrong) = read_lines(enumerate(text.splitlines(), 1), "csv", mapping)
    assert isinstance(paid, Arguments)
    assert paid.variables == {"total": 1.5, "cart.n": 2}
    assert isinstance(empty, Arguments)
    assert not empty.variables
    assert isinstance(wrong, BadLine)
    assert wrong.reason.startswith("a cell that --map has for an object is not JSON")


def test_a_mapping_names_the_columns() -> None:
    """Columns that are neither mapped nor a trigger's are left out."""
    text = "User;event;url;created;key;mail;colour;action\n7;viewed;page;1760097336;k;a@example.com;red;x"
    mapping = {"actor_id": "user", "action": "event", "object": "url", "time": "created", "id": "key"}
    expected = "7 viewed page email=a@example.com at=2025-10-10T11:55:36+00:00 id=k"
    assert read(text, mapping | {"identities.email": "mail"}) == [(2, expected)]
    with pytest.raises(ConfigurationError, match="it has no column 'mial'"):
        read(text, mapping | {"identities.email": "mial"})
