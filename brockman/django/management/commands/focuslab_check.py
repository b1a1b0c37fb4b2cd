"""`manage.py focuslab_check`: find out why nothing arrives, with the project's settings."""

from __future__ import annotations

import argparse
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from brockman.diagnosis.command import add_options, run_check
from brockman.diagnosis.finding import Status
from brockman.django.diagnosis import make_setup


class Command(BaseCommand):
    help = (
        "Finds out why nothing arrives: the settings, DNS, TCP, TLS, the endpoint, the key, the clock, the spool."
        " Sends three triggers of the actor 'brockman-check'."
    )
    requires_system_checks = ()  # some of them are among the findings

    def add_arguments(self, parser: CommandParser) -> None:
        add_options(parser, _seconds)

    def handle(self, *args: Any, **options: Any) -> None:
        conclusion = run_check(make_setup({}), (), argparse.Namespace(**options), self.stdout.write, self._paint)
        if conclusion.exit_status:
            raise CommandError(conclusion.text, returncode=conclusion.exit_status)
        if not options["json"]:
            self.stdout.write(self.style.SUCCESS(conclusion.text))

    def _paint(self, status: Status, text: str) -> str:
        styles = {
            Status.OK: self.style.SUCCESS,
            Status.WARNING: self.style.WARNING,
            Status.PROBLEM: self.style.ERROR,
        }
        return str(styles[status](text)) if status in styles else text


def _seconds(text: str) -> float:
    """Return a number of seconds; a type for argparse."""
    seconds = float(text)
    if not 0.1 <= seconds <= 3600:  # "nan" neither
        raise argparse.ArgumentTypeError(f"{text} should be a number from 0.1 to 3600")
    return seconds
