"""The settings of a Django project, as `brockman check` and `manage.py focuslab_check` examine them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from django.core.checks import ERROR, CheckMessage

from brockman.diagnosis.finding import Finding, problem, warning
from brockman.diagnosis.settings import STEP, Setup, Source
from brockman.django import checks
from brockman.django.client import DjangoFocusLabClient
from brockman.django.settings import ENVIRONMENT, PROJECT, DjangoSettings, read_settings
from brockman.django.test_runs import in_test_run


def make_setup(keywords: Mapping[str, Any], given: Sequence[Source] = ()) -> Setup:
    """Return what is examined: the project's settings, then the environment's.

    Args:
        keywords: Of the client.
        given: Sources that win over both.

    Raises:
        django.core.exceptions.ImproperlyConfigured: When the project has no settings.
        Exception: What importing them raises.
    """
    list(PROJECT)  # imports them
    sources = (
        *given,
        Source("the Django settings", PROJECT, has_paths=True),
        Source("the environment", ENVIRONMENT),
    )
    return Setup(sources, lambda: DjangoFocusLabClient(**keywords), checks.TABLES, _more, _obstacle)


def _more() -> Iterator[Finding]:
    """Yield what the system checks find and nothing else of the examination does."""
    yield from map(_convert, checks.find_unknown_settings())
    for check in (checks.check_threads, checks.check_cookie, checks.check_middleware, checks.check_stats_cache):
        yield from map(_convert, check(None))


def _convert(message: CheckMessage) -> Finding:
    make = problem if message.level >= ERROR else warning
    return make(STEP, f"{message.msg} ({message.id})", message.hint or "see the documentation")


def _obstacle() -> Finding | None:
    if in_test_run() and not read_settings(DjangoSettings).send_in_tests:
        seen = "this is a test run, in which triggers are discarded"
        return problem(STEP, seen, "set FL_SEND_IN_TESTS = True to send them")
    return None
