"""The app: registers system checks, handles SIGTERM, and registers what writes the counts for `focuslab_stats`."""

from __future__ import annotations

import sys
from contextlib import suppress

from django.apps import AppConfig
from django.core.checks import register
from django.core.signals import request_finished

from brockman.django import checks, shared_stats
from brockman.django.settings import DjangoSettings, install_sigterm_handler, read_settings
from brockman.django.test_runs import in_test_run, send_nowhere
from brockman.exceptions import ConfigurationError
from brockman.process import exit


class FocusLabConfig(AppConfig):
    """`brockman.django` in `INSTALLED_APPS`. Has no models; starts nothing."""

    name = "brockman.django"
    label = "focuslab"
    verbose_name = "FocusLab"

    def ready(self) -> None:
        for check in checks.ALWAYS:
            register(check)
        for check in checks.AT_DEPLOYMENT:
            register(check, deploy=True)
        install_sigterm_handler()
        request_finished.connect(shared_stats.publish_now_and_then, dispatch_uid="brockman.stats")
        if "celery.app" in sys.modules:  # the package of a project that uses it has made its app by now
            from brockman.django.celery import context  # noqa: F401 - Celery tasks run in the context of their caller
        if in_test_run():  # also for plain clients, which read no Django settings
            with suppress(ConfigurationError):
                send_nowhere(on=not read_settings(DjangoSettings).send_in_tests)
        if shared_stats.publish not in exit.after_exit_hooks:
            exit.after_exit_hooks.append(shared_stats.publish)
