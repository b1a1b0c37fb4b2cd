"""`brockman check`: find out why nothing arrives."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stdout
from typing import Any

from brockman.cli.arguments import add_command
from brockman.cli.numbers import number
from brockman.cli.terminal import has_colours
from brockman.client import FocusLabClient
from brockman.diagnosis.command import add_options, run_check
from brockman.diagnosis.finding import ACTION, ACTOR, OBJECT, Finding, Status, warning
from brockman.diagnosis.settings import STEP, Setup, Source
from brockman.options.secret import hide

DESCRIPTION = f"""\
Find out why nothing arrives: the settings and where each is from, the proxy, DNS, TCP, TLS, the endpoint, the
key, a trigger alone and two in an array, the clock, the spool. Each step is a line; the last line names the cause.

Three triggers are sent, which the endpoint stores: actor {ACTOR}, action {ACTION}, object {OBJECT}."""
EPILOG = """\
examples:

  brockman check
  brockman check --endpoint http://127.0.0.1:8765/api/v1/
  brockman check --no-send --timeout 3
  brockman check --json | jq -r .cause.step

The key is read from FL_API_KEY, or the Django settings if DJANGO_SETTINGS_MODULE is set, and is never shown.
Run it as the application runs: the same user, environment and folder.

exit status: 0 triggers arrive (there may be warnings); 1 there is a problem; 2 wrong usage, or a setting is wrong;
130 Ctrl-C."""
_COLOURS = {Status.OK: 32, Status.WARNING: 33, Status.PROBLEM: 31, Status.SKIPPED: 2}


def add_parser(commands: Any) -> None:
    parser = add_command(
        commands, "check", run, help="find out why nothing arrives", description=DESCRIPTION, epilog=EPILOG
    )
    parser.add_argument(
        "--endpoint", type=hide, metavar="URL", help="the endpoint (default: FL_ENDPOINT, or the API's own)"
    )
    add_options(parser, number(0.1, 3600))


def run(options: argparse.Namespace) -> int:
    with redirect_stdout(sys.stderr) if options.json else nullcontext():  # a project may print
        setup, notes = _find_setup(options.endpoint)
    conclusion = run_check(setup, notes, options, _print_line, _paint)
    if not options.json:
        print(f"\n{conclusion.text}")
    return conclusion.exit_status


def _print_line(line: str) -> None:
    print(line, flush=True)


def _find_setup(endpoint: Any) -> tuple[Setup, Sequence[Finding]]:
    """Return what is examined: the Django project that the environment names, or else the environment."""
    keywords = {} if endpoint is None else {"endpoint": endpoint}
    given = [Source("--endpoint", {"FL_ENDPOINT": endpoint})] if keywords else []
    notes = []
    module = os.environ.get("DJANGO_SETTINGS_MODULE")
    if module:
        if os.getcwd() not in sys.path:  # as manage.py and servers do; a script's path has no current folder
            sys.path.insert(0, os.getcwd())
        try:
            from brockman.django.diagnosis import make_setup

            return make_setup(keywords, given), []
        except Exception as error:  # of the project's code
            seen = f"the settings of DJANGO_SETTINGS_MODULE={module} cannot be read ({_describe(error)})"
            notes = [warning(STEP, seen, "what follows is about the environment; run this where manage.py is")]
    sources = [*given, Source("the environment", os.environ)]
    return Setup(sources, lambda: FocusLabClient(**keywords)), notes


def _describe(error: Exception) -> str:
    """Return the kind and text of an error; instead of a text that may quote a key, the place."""
    kind = type(error).__name__
    if isinstance(error, ImportError | NameError | AttributeError) or kind == "ImproperlyConfigured":
        return f"{kind}: {error}"
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{kind} in {place.filename}, line {place.lineno}"


def _paint(status: Status, text: str) -> str:
    return f"\033[{_COLOURS[status]}m{text}\033[0m" if has_colours() else text
