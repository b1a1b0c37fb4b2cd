"""A `pip` for the commands of the documentation: checks what would be installed, and installs nothing."""

from __future__ import annotations

import re
import sys
from configparser import ConfigParser

from tests.docs.blocks import ROOT

# This checkout by its path, or by name with the path after an @; perhaps with extras.
_REQUIREMENT = re.compile(r"(\.|brockman)(?:\[([a-z,]+)\])?( @ file:///\S+)?")


def why_wrong(requirement: str) -> str | None:
    """Return why a requirement is no good for this version; None when it is.

    Args:
        requirement: As `pip install` takes it, if it may be brockman.
    """
    match = _REQUIREMENT.fullmatch(requirement)
    if match is None:
        return f"{requirement}: neither this checkout nor a URL of it"
    if match[1] == "brockman" and match[3] is None:
        return f"{requirement}: under this name the package index has the client of 2012"
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    unknown = set(filter(None, (match[2] or "").split(","))) - set(setup["options.extras_require"])
    return f"{requirement}: there is no extra {', '.join(sorted(unknown))}" if unknown else None


def may_be_brockman(argument: str) -> bool:
    """Return whether an argument of `pip install` is brockman, and not another package or an option."""
    return argument.startswith(("brockman", ".", "/"))


def main(arguments: list[str]) -> int:
    """Check the command line; return the exit status."""
    if arguments[:1] != ["install"]:
        return 2
    problems = [problem for one in filter(may_be_brockman, arguments[1:]) if (problem := why_wrong(one))]
    print("\n".join(problems))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
