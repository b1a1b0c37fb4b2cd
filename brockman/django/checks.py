"""System checks: `manage.py check` finds wrong settings before the first trigger."""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

from asgiref.sync import iscoroutinefunction
from django.conf import settings
from django.core.checks import CheckMessage, Error
from django.core.checks import Warning as Caution

from brockman.delivery.environment import find_misspelt
from brockman.django.settings import ENVIRONMENT, PROJECT, DjangoSettings, read_settings
from brockman.django.shared_stats import is_private
from brockman.django.test_runs import in_test_run
from brockman.exceptions import ConfigurationError
from brockman.options import Options
from brockman.options.celery import CelerySettings
from brockman.options.fields import PREFIX, Settings
from brockman.options.table import is_loopback
from brockman.process.uwsgi import no_threads_reason

Check = Callable[..., list[CheckMessage]]
MIDDLEWARE = "brockman.django.middleware.FocusLabMiddleware"
TABLES: tuple[type[Settings], ...] = (Options, DjangoSettings, CelerySettings)


def _spelled(table: type[Settings]) -> list[str]:
    return [PREFIX + name.upper() for name in table.names()]


def _given(name: str) -> Any:
    """Return the value of a setting; None when it is not set, or empty."""
    value = PROJECT.get(name)
    if value is None or value == "":
        value = ENVIRONMENT.get(name)
    return None if value == "" else value


def _options() -> Options | None:
    """Return the options, with some key; None when they are wrong, which other checks report."""
    try:
        return read_settings(Options, {"api_key": "given"})
    except ConfigurationError:
        return None


def _django_settings() -> DjangoSettings:
    try:
        return read_settings(DjangoSettings)
    except ConfigurationError:
        return DjangoSettings()


def check_key(app_configs: Any, **_: Any) -> list[CheckMessage]:
    """E001: there is no key, although triggers are sent."""
    options = _options()
    if options is None or not options.enabled or _given("FL_API_KEY"):
        return []
    if in_test_run() and not _django_settings().send_in_tests:
        return []
    hint = (
        "Set FL_API_KEY to the key of your FocusLab project, or FL_ENABLED = False. If each client has its own"
        " transport, silence this check."
    )
    return [Error("FL_API_KEY is missing.", hint=hint, id="brockman.E001")]


def check_values(app_configs: Any, **_: Any) -> list[CheckMessage]:
    """E002: a setting has a wrong value; E003: the key would travel in clear."""
    found: list[CheckMessage] = []
    for table in TABLES:
        for setting, name in zip(table.names(), _spelled(table), strict=True):
            try:
                value = _given(name)
                if value is not None:
                    table.check_value(setting, value)
            except ConfigurationError as error:
                found.append(Error(f"{error}.", hint=f"Correct {name}.", id="brockman.E002"))
    try:
        read_settings(Options, {"api_key": "given"})
    except ConfigurationError as error:
        if not found:
            hint = "Use https:// in FL_ENDPOINT, or FL_ALLOW_INSECURE = True on a private network."
            found.append(Error(f"{error}.", hint=hint, id="brockman.E003"))
    return found


def check_transport(app_configs: Any, **_: Any) -> list[CheckMessage]:
    """W001: plain http to another host, which `allow_insecure` permits."""
    options = _options()
    if options is None or urlsplit(options.endpoint).scheme != "http" or _is_this_machine(options):
        return []
    problem = f"The API key travels in clear to {options.endpoint}"
    return [Caution(problem, hint="Use https:// in FL_ENDPOINT.", id="brockman.W001")]


def _is_this_machine(options: Options) -> bool:
    return is_loopback(urlsplit(options.endpoint).hostname or "")


def check_names(app_configs: Any, **_: Any) -> list[CheckMessage]:
    """W002: an unknown setting that begins with `FL_`, or a variable that is nearly one of ours."""
    known = [name for table in TABLES for name in _spelled(table)]
    found = find_unknown_settings()
    for name, right in find_misspelt(set(ENVIRONMENT) - set(known), known).items():
        problem = f"There is no setting {name}, which is in the environment."
        found.append(Caution(problem, hint=f"Did you mean {right}?", id="brockman.W002"))
    return found


def find_unknown_settings() -> list[CheckMessage]:
    """Return a warning for each setting of the project that begins with `FL_` and is none of brockman's."""
    known = [name for table in TABLES for name in _spelled(table)]
    found: list[CheckMessage] = []
    for name in sorted(set(PROJECT) - set(known)):
        near = difflib.get_close_matches(name, known, 1)
        hint = f"Did you mean {near[0]}?" if near else "If it is not for brockman, silence this check."
        found.append(Caution(f"There is no setting {name}.", hint=hint, id="brockman.W002"))
    return found


def check_threads(app_configs: Any, **_: Any) -> list[CheckMessage]:
    """W003: uWSGI without threads."""
    problem = no_threads_reason()
    if problem is None:
        return []
    return [Caution(f"{problem}.", hint="Start uWSGI with --enable-threads.", id="brockman.W003")]


def check_spool(app_configs: Any, **_: Any) -> list[CheckMessage]:
    """W004: the spool's folder cannot be written."""
    options = _options()
    if options is None or options.spool_dir is None or not options.enabled:
        return []
    try:
        from brockman.buffer.spool.directory import why_unusable

        problem = why_unusable(options.spool_dir)
    except ImportError:  # no file locks on this system: the client raises that
        return []
    if problem is None:
        return []
    problem = f"Triggers cannot be written to {options.spool_dir}: {problem}. They would be buffered in memory."
    hint = "Let the user that runs the workers create and write the folder of FL_SPOOL_DIR (mode 700)."
    return [Caution(problem, hint=hint, id="brockman.W004")]


def check_cookie(app_configs: Any, **_: Any) -> list[CheckMessage]:
    """W005: browsers refuse the actor's cookie."""
    chosen = _django_settings()
    if chosen.cookie_samesite != "None" or chosen.cookie_secure:
        return []
    problem = "Browsers refuse a cookie with SameSite=None that is not Secure."
    return [Caution(problem, hint="Set FL_COOKIE_SECURE = True.", id="brockman.W005")]


def check_middleware(app_configs: Any, **_: Any) -> list[CheckMessage]:
    """W011: the middleware is listed twice; E005: FL_MAY_TRACK is a coroutine function, which is not awaited."""
    found: list[CheckMessage] = []
    if settings.MIDDLEWARE.count(MIDDLEWARE) > 1:
        problem = f"{MIDDLEWARE} is in MIDDLEWARE twice: a request has two actors."
        found.append(Caution(problem, hint="Remove the second.", id="brockman.W011"))
    may_track = _django_settings().may_track
    if iscoroutinefunction(may_track) or iscoroutinefunction(getattr(may_track, "__call__", None)):  # noqa: B004
        hint = "Make it a plain function."
        found.append(Error("FL_MAY_TRACK is asynchronous.", hint=hint, id="brockman.E005"))
    return found


def check_stats_cache(app_configs: Any, **_: Any) -> list[CheckMessage]:
    """E004: FL_STATS_CACHE names no cache; W006: it names one that processes do not share."""
    alias = _django_settings().stats_cache
    if alias is None:
        return []
    if alias not in settings.CACHES:
        hint = "The aliases are: " + ", ".join(settings.CACHES)
        return [Error(f"There is no cache {alias!r} for FL_STATS_CACHE.", hint=hint, id="brockman.E004")]
    if not is_private(alias):  # a backend that cannot be imported fails Django's own checks
        return []
    hint = "Name a cache that processes share: Redis, Memcached, database or files."
    return [Caution(f"The cache {alias!r} is not shared by processes.", hint=hint, id="brockman.W006")]


def check_celery(app_configs: Any, **_: Any) -> list[CheckMessage]:
    """W007: settings for Celery, which is not installed."""
    given = sorted(set(PROJECT) & set(_spelled(CelerySettings)))
    if not given or importlib.util.find_spec("celery") is not None:
        return []
    problem = f"{', '.join(given)} is set, but Celery is not installed."
    return [Caution(problem, hint="pip install 'brockman[celery]'", id="brockman.W007")]


def check_deployment(app_configs: Any, **_: Any) -> list[CheckMessage]:
    """W008: the endpoint is this machine; W009: nothing is sent; W010: tracking can make a page fail or wait."""
    options = _options()
    if options is None:
        return []
    found: list[CheckMessage] = []
    if _is_this_machine(options):
        problem = f"Triggers go to this machine: FL_ENDPOINT is {options.endpoint}"
        hint = "Leave it out for FocusLab's own API."
        found.append(Caution(problem, hint=hint, id="brockman.W008"))
    if not options.enabled:
        found.append(Caution("FL_ENABLED is off: nothing is sent.", hint="Remove it to send.", id="brockman.W009"))
    for name, risky in (("FL_ON_INVALID", ("raise",)), ("FL_OVERFLOW", ("raise", "block"))):
        if _given(name) in risky:
            problem = f"{name} = {_given(name)!r} lets tracking make a page fail or wait."
            hint = "Leave it out: dropped triggers are counted, and logged."
            found.append(Caution(problem, hint=hint, id="brockman.W010"))
    return found


ALWAYS: Sequence[Check] = (
    *(check_key, check_values, check_transport, check_names, check_threads, check_spool, check_cookie),
    *(check_middleware, check_stats_cache, check_celery),
)
AT_DEPLOYMENT: Sequence[Check] = (check_deployment,)
