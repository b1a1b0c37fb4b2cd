"""Aligned rows: of a label, a value and a remark, or of any columns. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence

Row = tuple[str, str, str]


def format_table(rows: Sequence[Row]) -> str:
    """Return one line for each row: labels to the left, values to the right, remarks behind them."""
    label_width = max(len(label) for label, _, _ in rows)
    value_width = max(len(value) for _, value, _ in rows)
    lines = (f"{label:<{label_width}}  {value:>{value_width}}  {remark}" for label, value, remark in rows)
    return "\n".join(line.rstrip() for line in lines)


def format_columns(rows: Sequence[Sequence[str]], to_the_right: Collection[int]) -> str:
    """Return one line for each row, with as many columns as the first one has; some of them to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = (
        "  ".join(
            f"{text:>{width}}" if column in to_the_right else f"{text:<{width}}"
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)
