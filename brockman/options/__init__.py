"""Every setting, declared once: its type, default, unit and check."""

from brockman.options.table import ClientOptions, Options

__all__ = ["ClientOptions", "Options"]
