"""The context of a trigger: what `record_trigger` fills in where its caller leaves it out.

    with brockman.context(actor_id=user.id, variables={"tenant": "acme"}):
        client.record_trigger(action="viewed", obj="book")

It is one immutable value in a `contextvars.ContextVar`: what copies that context (asyncio tasks,
`asyncio.to_thread`, `contextvars.copy_context`) sees what was there when it was copied.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from brockman.exceptions import InvalidTrigger, NoRequest
from brockman.process.bodies import Body, wrap
from brockman.process.steps import AsyncSteps, Steps, delegating

if TYPE_CHECKING:
    from brockman.process.log import Log
    from brockman.trigger.arguments import Actor, Arguments, Values
    from brockman.web.tracker import RequestTracker

AnyFunction = TypeVar("AnyFunction", bound=Callable[..., Any])
_Filled = tuple[Any, Any, Any, Any]
_MAPPINGS = ("identities", "attributes", "variables")


class Context(NamedTuple):
    """The actor and the values that the triggers recorded in it have in common.

    Attributes:
        actor_id: Who acts; None for nobody in particular, or for the visitor of the request.
        identities, attributes: What describes this actor. Merged into those of each trigger of the same actor.
        variables: Merged into those of each trigger, which win.
        tracker: The tracker of the request that is handled; None outside of requests.
        is_untracked: True in a task that a visitor who is not tracked has called.
        is_safe: True where a mistake in a trigger is dropped, counted and logged, and raises nothing.
        block: What has opened it, and closes it.
        outer: The context around it.
    """

    actor_id: Any = None
    identities: Any = None
    attributes: Any = None
    variables: Any = None
    tracker: RequestTracker | None = None
    is_untracked: bool = False
    is_safe: bool = False
    block: object = None
    outer: Context | None = None

    def fill(self, actor_id: Any, identities: Any, attributes: Any, variables: Any) -> _Filled | None:
        """Return these four, with what they leave out.

        Returns None when the actor would be a visitor who is not tracked.
        """
        tracker, is_described = self.tracker, self.identities is not None or self.attributes is not None
        if (type(actor_id) is str or type(actor_id) is int) or not _is_nobody(actor_id):
            is_described = is_described and self.describes(actor_id)
        else:
            actor_id = self.actor_id
            if actor_id is None:
                if self.is_untracked:
                    return None
                if tracker is not None:
                    actor_id = tracker._actor()
                    if actor_id is None:
                        return None
        if is_described:
            identities = merge(self.identities, identities)
            attributes = merge(self.attributes, attributes)
        if self.variables is not None:
            variables = merge(self.variables, variables)
        if tracker is not None and tracker._settings.user_agent:
            variables = merge(tracker._variables(), variables)
        return actor_id, identities, attributes, variables

    def describes(self, actor_id: Any) -> bool:
        """Return whether identities and attributes are this actor's: it is the same, or they are nobody's.

        Those of another actor would make the collector take the two for one person.
        """
        own = self.actor_id
        if own is None and self.tracker is not None:
            own = self.tracker._found.get("actor")  # of the visitor, if something has asked for it
            return own is not None and own == _text_of(actor_id)
        if own is None:
            return not self.is_untracked
        return own is actor_id or _text_of(own) == _text_of(actor_id)

    def within(self, outer: Context | None) -> Context:
        """Return this context inside another one: it has what this one leaves out."""
        if outer is None:
            return self
        is_own = self.actor_id is not None or self.tracker is not None or self.is_untracked
        if self.tracker is not None:
            is_same = outer.actor_id is None and outer.tracker is None
        else:
            is_same = self.actor_id is None or outer.describes(self.actor_id)
        person = outer if is_same else Context()
        return self._replace(
            actor_id=self.actor_id if is_own else outer.actor_id,
            identities=merge(person.identities, self.identities),
            attributes=merge(person.attributes, self.attributes),
            variables=merge(outer.variables, self.variables),
            tracker=self.tracker or outer.tracker,
            is_untracked=self.is_untracked or (outer.is_untracked and not is_own),
            is_safe=self.is_safe or outer.is_safe,
            outer=outer,
        )


def fill(arguments: Arguments, defaults: Callable[[], Mapping[str, Any]] | None) -> Arguments | None:
    """Return the arguments of a trigger with what they leave out: from the context, then from the defaults.

    Returns None when the actor would be a visitor who is not tracked.
    """
    actor_id, action, obj, identities, attributes, variables = arguments
    value = _current.get()
    if value is not None:
        filled = value.fill(actor_id, identities, attributes, variables)
        if filled is None:
            return None
        actor_id, identities, attributes, variables = filled
    if defaults is not None:
        variables = merge(defaults(), variables)
    return actor_id, action, obj, identities, attributes, variables


_current: ContextVar[Context | None] = ContextVar("brockman", default=None)
get: Callable[[], Context | None] = _current.get  # the one look of `record_trigger`


def _is_nobody(actor_id: Any) -> bool:
    if actor_id is None:
        return True
    from brockman.trigger.coerce import is_nobody  # not at the top: importing the client stays cheap

    return is_nobody(actor_id)


def _text_of(actor_id: Any) -> object:
    """Return an actor's id as it is sent; something equal to nothing for what is no id."""
    if type(actor_id) is str:
        return actor_id
    from brockman.trigger.coerce import coerce_actor_id

    try:
        return coerce_actor_id(actor_id)
    except InvalidTrigger:
        return object()


def merge(outer: Any, inner: Any) -> Any:
    """Return two mappings as one, where the inner wins. What is no mapping is returned, to be refused later."""
    if not outer or not isinstance(outer, Mapping):
        return inner if inner is not None else outer
    if inner is None:
        return outer
    if type(inner) is not dict:
        inner = _copied(inner)
        if type(inner) is not dict:
            return inner
    return {**outer, **inner}


def _copied(values: Any) -> Any:
    """Return a copy of a mapping and of the lists in it; what is no mapping as it is."""
    if values is None or not isinstance(values, Mapping):
        return values
    try:
        return {key: copy.copy(value) if type(value) in (list, set) else value for key, value in values.items()}
    except Exception as error:  # foreign code, which will raise again where the trigger is refused
        from brockman.process.interruption import is_interruption

        if is_interruption(error):
            raise
        return values


class entered(AbstractContextManager[None]):
    """A `with` block in which a given value is the context. For one use."""

    __slots__ = ("_token", "_value")
    _token: Token[Context | None]

    def __init__(self, value: Context | None) -> None:
        """Change nothing yet."""
        self._value = value

    def __enter__(self) -> None:
        self._token = _current.set(self._value)

    def __exit__(self, *exception: object) -> None:
        try:
            _current.reset(self._token)
        except ValueError:  # left elsewhere than entered: in a copy it is to end, but not what others have entered
            if _current.get() is self._value:
                _current.set(self._token.old_value if self._token.old_value is not Token.MISSING else None)


def context(
    actor_id: Actor | None = None,
    identities: Values | None = None,
    attributes: Values | None = None,
    variables: Values | None = None,
) -> ContextBlock:
    """Return a block, also a decorator, in which triggers have this actor and these values.

    `record_trigger`, `encode_trigger` and `send_trigger` of every client take from it what their caller leaves
    out. The mappings are merged key by key; the innermost wins, and a key whose value is None is left out.
    Identities and attributes describe the actor: a trigger or block of another actor does not get them. Blocks may
    be nested, shared by threads, and used by `async with`. Decorates functions, coroutines and generators.

    Args:
        actor_id: Who acts; None, or a user who is not logged in, keeps that of the block around this one.
        identities, attributes, variables: As in `record_trigger`. Copied now; a mistake in them is reported by the
            `record_trigger` that uses them.
    """
    values = (_copied(identities), _copied(attributes), _copied(variables))
    return ContextBlock(Context(None if _is_nobody(actor_id) else actor_id, *values))


class ContextBlock:
    """A block for `with` and `async with`, and a decorator; see `context`. Has no state: reusable."""

    def __init__(self, values: Context) -> None:
        """Change nothing yet."""
        self._values = values._replace(block=self)

    def __enter__(self) -> None:
        _current.set(self._values.within(_current.get()))

    def __exit__(self, *exception: object) -> None:
        found = _current.get()
        while found is not None and found.block is not self:  # blocks in it that suspended generators keep open
            found = found.outer
        if found is not None:
            _current.set(found.outer)

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(self, *exception: object) -> None:
        self.__exit__()

    def __call__(self, function: AnyFunction) -> AnyFunction:
        """Return the function with its body in this context; it stays a coroutine function or generator."""
        wrapped: AnyFunction = wrap(function, self, _WRAPPERS)
        return wrapped


def _wrap_function(block: ContextBlock, function: Callable[..., Any]) -> Callable[..., Any]:
    def inside(*arguments: Any, **keywords: Any) -> Any:
        with block:
            return function(*arguments, **keywords)

    return inside


def _wrap_coroutine(block: ContextBlock, function: Callable[..., Any]) -> Callable[..., Any]:
    async def inside(*arguments: Any, **keywords: Any) -> Any:
        with block:
            return await function(*arguments, **keywords)

    return inside


def _wrap_generator(block: ContextBlock, function: Callable[..., Any]) -> Callable[..., Any]:
    def inside(*arguments: Any, **keywords: Any) -> Any:
        return (yield from Steps(function(*arguments, **keywords), lambda: block))

    return inside


def _wrap_async_generator(block: ContextBlock, function: Callable[..., Any]) -> Callable[..., Any]:
    return delegating(
        lambda *arguments, **keywords: AsyncSteps(function(*arguments, **keywords), lambda: block), nullcontext
    )


_WRAPPERS = {
    Body.FUNCTION: _wrap_function,
    Body.COROUTINE: _wrap_coroutine,
    Body.GENERATOR: _wrap_generator,
    Body.ASYNC_GENERATOR: _wrap_async_generator,
}


def current() -> RequestTracker:
    """Return the tracker of the request that is handled: `is_tracked`, `actor_id`, `record_trigger`.

    Raises:
        NoRequest: Outside of a request, or where no middleware of brockman is installed.
    """
    value = _current.get()
    if value is None or value.tracker is None:
        raise NoRequest
    return value.tracker


def is_safe() -> bool:
    """Return whether a mistake in a trigger raises nothing here: in a request, in production."""
    value = _current.get()
    return value is not None and value.is_safe


def pack() -> dict[str, Any] | None:
    """Return the context for a message to another process, such as a task's: a dict for JSON.

    None outside of a context. A visitor without a cookie gets an actor now. What JSON cannot hold is left out, and
    said on the log.
    """
    value = _current.get()
    if value is None:
        return None
    filled = value.fill(None, None, None, None)
    if filled is None:
        return {"untracked": True}
    return _plain(dict(zip(("actor_id", *_MAPPINGS), filled, strict=True)))


def unpack(message: object) -> Context:
    """Return the context of a message, as `pack` has made it. Left out is what is no part of a context."""
    given = message if isinstance(message, dict) else {}
    return Context(**_plain(given), is_untracked=given.get("untracked") is True)


def _plain(message: dict[str, Any]) -> dict[str, Any]:
    from brockman.trigger.coerce import coerce_actor_id, coerce_mapping

    plain: dict[str, Any] = {}
    if message.get("actor_id") is not None:
        plain.update(_keep("actor_id", lambda: coerce_actor_id(message["actor_id"])))
    for name in _MAPPINGS:
        values = _copied(message.get(name))
        found: dict[str, Any] = {}
        for key, value in values.items() if type(values) is dict else ():
            found.update(_keep(name, functools.partial(coerce_mapping, {key: value}, name)).get(name, {}))
        plain[name] = found
    return {name: value for name, value in plain.items() if value}


def _keep(name: str, read: Callable[[], Any]) -> dict[str, Any]:
    """Return what a function reads, by its name; nothing, and log it, when it is no part of a trigger."""
    try:
        return {name: read()}
    except InvalidTrigger as error:
        import logging

        log = _log()
        log.once(logging.WARNING, f"left out of the context of a message: {error}")
        log.write()
        return {}


@functools.cache
def _log() -> Log:
    from brockman.process.log import Log

    return Log()
