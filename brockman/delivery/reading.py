"""The methods of a client that read, and save, groups."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from brockman.exceptions import ClientClosed, ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from brockman.delivery.groups import GroupReader
    from brockman.delivery.pipeline import Pipeline
    from brockman.groups import Group, Member


class WithGroups:
    """A client that reads the groups of people behind its endpoint, with its key, session, proxies and timeouts.

    One attempt takes `connect_timeout + read_timeout` seconds at most. While the service is away, attempts are
    repeated with the backoff of the client, and as `Retry-After` asks, for as long as `timeout` allows; a 500 is
    tried `max_attempts` times. Redirects are not followed. In asyncio: `await asyncio.to_thread(client.groups)`.
    """

    if TYPE_CHECKING:
        _problem: ConfigurationError | None
        _refusal: str | None

        def _current(self) -> Pipeline: ...

    def groups(self, *, timeout: float | None = 60.0) -> list[Group]:
        """Return all groups, by name. Blocks.

        Args:
            timeout: Seconds for all attempts; None means no limit.

        Raises:
            BadAPIKey, ResourceNotFound, ServerError, UnknownError: As the server answered.
            ConnectionFailed: When no answer came back.
            ClientClosed: After `close`.
            ConfigurationError: When `enabled` is off, or the client has a transport that cannot read; in Django,
                when a setting is wrong.
        """
        return self._group_reader(timeout).groups()

    def download_group(self, name: str, *, timeout: float | None = 60.0) -> Iterator[Member]:
        """Return an iterator over the members of a group, in the order in which they were first seen.

            for member in client.download_group("hot leads"):
                send_mail(member.identities["email"])

        The first page is requested by the first `next`, further ones as they are needed, 2000 members each: `next`
        blocks, and raises what `groups` does. A person who is joined with another meanwhile may come twice.

        Args:
            name: The name of the group.
            timeout: Seconds for all attempts at one page; None means no limit.

        Raises:
            ResourceNotFound: By the first `next`, when there is no such group.
        """
        return self._group_reader(timeout).members(name)

    def save_group(
        self,
        name: str,
        *,
        where: Mapping[str, Any] | None = None,
        did: Sequence[Mapping[str, Any]] = (),
        did_not: Sequence[Mapping[str, Any]] = (),
        timeout: float | None = 60.0,
    ) -> Group:
        """Save a group, or replace the definition of the one with this name; return it. Blocks.

            client.save_group("hot leads", where={"attributes.plan": "pro"},
                              did=[{"action": "viewed", "object": "pricing", "times": 3, "within_days": 30}],
                              did_not=[{"action": "paid"}])

        Args:
            name: 1 to 100 printable characters, without / and \\.
            where: Conditions on a person; see "Groups" in the documentation of the collector.
            did: What a person did; `since` and `until` may be datetimes with a time zone.
            did_not: What a person did not do.
            timeout: Seconds for all attempts; None means no limit.

        Raises:
            BadRequest: When the name or the definition is wrong; its text names the mistake. Else as `groups`.
            TypeError: For a value that JSON does not have.
        """
        definition = {"where": dict(where or {}), "did": [*did], "did_not": [*did_not]}
        return self._group_reader(timeout).save(name, definition)

    def _group_reader(self, timeout: float | None) -> GroupReader:
        from brockman.delivery.groups import GroupReader  # not at the top: importing the client stays cheap

        if self._refusal == "disabled":
            raise ConfigurationError("enabled is off, so nothing is read either; switch it on to read groups")
        if self._refusal is not None:
            raise self._problem or ClientClosed("the client is closed; make a new one, or open it again by `with`")
        return GroupReader(self._current(), timeout)
