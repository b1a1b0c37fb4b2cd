"""Every setting, declared once: its type, default, unit and check."""

from brockman.options.table import Options

__all__ = ["Options"]
