"""Runs the steps of a check in the order of the way, within one deadline."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from uuid import uuid4

from brockman.client import FocusLabClient
from brockman.delivery.factory import make_transport
from brockman.diagnosis.exchange import Correspondence
from brockman.diagnosis.finding import ACTION, ACTOR, OBJECT, Finding, Status, good, problem, skipped
from brockman.diagnosis.route import Route, examine_dns, examine_proxy, examine_tcp
from brockman.diagnosis.settings import STEP, Setup, examine_settings
from brockman.diagnosis.tls import examine_tls
from brockman.exceptions import FocusLabError
from brockman.options import Options
from brockman.process.clock import monotonic
from brockman.transport.http import HttpTransport

_TRIGGERS = 3  # one alone, and two together


def examine(setup: Setup, *, timeout: float, sends: bool) -> Iterator[Finding]:
    """Yield what each step finds, as soon as it is done. Takes no longer than `timeout` seconds.

    With `sends`, three triggers of the actor `brockman-check` are sent, which the endpoint stores.
    """
    begun = monotonic()
    for found in _Examination(setup, begun + timeout, sends=sends).run():
        yield replace(found, seconds=monotonic() - begun)
        begun = monotonic()


class _Examination:
    def __init__(self, setup: Setup, deadline: float, *, sends: bool) -> None:
        self._setup = setup
        self._deadline = deadline
        self._sends = sends

    def run(self) -> Iterator[Finding]:
        is_usable = True
        for found in examine_settings(self._setup):
            is_usable = is_usable and found.status is not Status.PROBLEM
            yield found
        if not is_usable:
            return
        try:
            client = self._setup.make_client()
            options = client.options  # Django's client reads them now
        except FocusLabError as error:  # such as handle_sigterm outside the main thread
            yield problem(STEP, "no client can be made of these settings", str(error))
            return
        try:
            yield from self._run_with(client, options)
        finally:
            client.close(0.0)

    def _run_with(self, client: FocusLabClient, options: Options) -> Iterator[Finding]:
        bodies, obstacle = _make_triggers(client) if self._sends else ([], None)
        if obstacle is not None:  # the way is examined nevertheless, without a trigger
            yield obstacle
        yield from self._follow(options, bodies)
        yield from _examine_spool(options)

    def _left(self) -> float:
        """Return the seconds that are left, and at least so much that each operation ends by itself."""
        return max(0.05, self._deadline - monotonic())

    def _follow(self, options: Options, bodies: list[bytes]) -> Iterator[Finding]:
        """Yield the steps on the way to the endpoint. One that fails is the last."""
        transport = make_transport(options, None)
        assert isinstance(transport, HttpTransport)
        try:
            route = Route(options.endpoint, *transport.find_route())
            connect = options.connect_timeout
            steps: Sequence[Callable[[], Iterator[Finding]]] = (
                lambda: examine_proxy(route),
                lambda: examine_dns(route, self._left()),
                lambda: examine_tcp(route, min(connect, self._left())),
                lambda: examine_tls(route, self._left, connect),
                lambda: self._correspond(Correspondence(route, transport, self._left), bodies),
            )
            for step in steps:
                found = list[Finding]()
                for one in step():
                    found.append(one)
                    yield one
                if any(one.status is Status.PROBLEM and one.blocks for one in found):
                    return
        finally:
            transport.close()

    def _correspond(self, correspondence: Correspondence, bodies: list[bytes]) -> Iterator[Finding]:
        return correspondence.send(bodies) if bodies else correspondence.look()


def _make_triggers(client: FocusLabClient) -> tuple[list[bytes], Finding | None]:
    """Return the triggers of the check, made as the application's are; or why there are none."""
    bodies = []
    for _ in range(_TRIGGERS):
        try:
            body = client.encode_trigger(ACTOR, ACTION, OBJECT, trigger_id=uuid4())
        except FocusLabError as error:
            seen = "the trigger of the check is refused by this client"
            return [], problem(STEP, seen, str(error), blocks=False)
        if body is None:
            reasons = ", ".join(client.stats().dropped) or "disabled"
            seen = f"the trigger of the check is dropped by this client ({reasons})"
            return [], problem(STEP, seen, "look at the function before_record", blocks=False)
        bodies.append(body)
    return bodies, None


def _examine_spool(options: Options) -> Iterator[Finding]:
    if options.spool_dir is None:
        yield good("spool", "none: triggers are buffered in memory")
        return
    try:
        from brockman.diagnosis.spool import examine_spool  # here: it needs POSIX
    except ImportError:
        yield skipped("spool", "not supported on this system")
        return
    yield from examine_spool(options)
