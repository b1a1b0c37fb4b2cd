"""`manage.py focuslab_check`: send one test trigger with the project's settings, and print the result."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from brockman import exceptions
from brockman.django.client import DjangoFocusLabClient
from brockman.django.settings import DjangoSettings, read_settings
from brockman.django.test_runs import in_test_run
from brockman.process.clock import monotonic

# From the narrowest to the widest.
_WORDS: tuple[tuple[type[exceptions.FocusLabError], str], ...] = (
    (exceptions.ConfigurationError, "The settings are wrong: {error}."),
    (exceptions.BadAPIKey, "The server does not accept the key: {error}. Correct FL_API_KEY."),
    (exceptions.ResourceNotFound, "There is no API at {endpoint}: {error}. Correct FL_ENDPOINT."),
    (exceptions.BadRequest, "The server refused the trigger: {error}. Is {endpoint} the FocusLab API?"),
    (exceptions.ServerError, "The server failed: {error}. Triggers wait in the buffer meanwhile."),
    (exceptions.ConnectionFailed, "No answer from {endpoint}: {error}. Triggers wait in the buffer meanwhile."),
    (
        exceptions.FocusLabError,
        "The trigger was not accepted: {error}. Is {endpoint} right, and is there a proxy in between?",
    ),
)


class Command(BaseCommand):
    help = "Sends one test trigger with the project's settings, and prints the result."

    def handle(self, *args: Any, **options: Any) -> None:
        endpoint = ""
        try:
            read_settings(DjangoSettings)  # of the middleware: raise here when one is wrong
            client = DjangoFocusLabClient()
            endpoint, before = client.options.endpoint, client.stats().dropped
            started = monotonic()
            client.send_trigger("focuslab_check", "checked", "installation")
            took = 1000 * (monotonic() - started)
            obstacle = self._obstacle(client.options.enabled, client.stats().dropped != before)
        except exceptions.FocusLabError as error:
            words = next(words for kind, words in _WORDS if isinstance(error, kind))
            raise CommandError(words.format(error=error, endpoint=endpoint)) from None
        if obstacle is not None:
            raise CommandError(obstacle)
        self.stdout.write(self.style.SUCCESS(f"{endpoint} accepted a test trigger in {took:.0f} ms."))
        self.stdout.write("Its actor is 'focuslab_check', its action 'checked', its object 'installation'.")

    def _obstacle(self, is_on: bool, was_dropped: bool) -> str | None:
        """Return why nothing was sent although nothing failed; None when it was."""
        if not is_on:
            return "FL_ENABLED is off: nothing is sent."
        if was_dropped:
            return "FL_BEFORE_RECORD dropped the test trigger, or raised: nothing was sent."
        if in_test_run() and not read_settings(DjangoSettings).send_in_tests:
            return (
                "This is a test run: nothing was sent. Triggers are discarded then, unless FL_SEND_IN_TESTS is on."
            )
        return None
