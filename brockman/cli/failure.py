"""The error of a command that cannot do its work."""

from __future__ import annotations


class CommandFailed(Exception):
    """Raised to end a command with the exit status 1. The text follows the name of the command."""
