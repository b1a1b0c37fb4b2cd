"""Aligned rows of a label, a value and a remark. Pure."""

from __future__ import annotations

from collections.abc import Sequence

Row = tuple[str, str, str]


def format_table(rows: Sequence[Row]) -> str:
    """Return one line for each row: labels to the left, values to the right, remarks behind them."""
    label_width = max(len(label) for label, _, _ in rows)
    value_width = max(len(value) for _, value, _ in rows)
    lines = (f"{label:<{label_width}}  {value:>{value_width}}  {remark}" for label, value, remark in rows)
    return "\n".join(line.rstrip() for line in lines)
