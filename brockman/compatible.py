"""The members of the client of brockman 0.1 which sending does not use."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from brockman.options import Options
    from brockman.trigger.arguments import Actor, Text, Values

_INSTEAD = {
    "get_url": "give `endpoint`",
    "get_headers": "give a `session` with headers",
    "get_trigger_data": "give `before_record`, or override `record_trigger`",
}


class Compatible:
    """A client whose key and endpoint can be read, and which shows what a request of 0.1 was made of."""

    if TYPE_CHECKING:

        @property
        def options(self) -> Options: ...

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        clients = [base for base in cls.__mro__[1:] if issubclass(base, Compatible)]
        for name, instead in _INSTEAD.items():
            if all(getattr(cls, name) is not getattr(base, name) for base in clients):
                text = f"{cls.__qualname__}.{name} is not called when a trigger is sent; {instead} instead"
                warnings.warn(text, RuntimeWarning, stacklevel=2)

    @property
    def api_key(self) -> str | None:
        """The API key. None when the client needs none and has none."""
        key = self.options.api_key
        return None if key is None else key.reveal()

    @api_key.setter
    def api_key(self, value: NoReturn) -> None:
        del value  # a traceback may show the locals
        raise AttributeError("api_key cannot be assigned; give it to the constructor of a client")

    @property
    def endpoint(self) -> str:
        """The URL of the API, with a slash at its end."""
        return self.options.endpoint

    @endpoint.setter
    def endpoint(self, value: NoReturn) -> None:
        del value  # which may be the key
        raise AttributeError("endpoint cannot be assigned; give it to the constructor of a client")

    def get_url(self, resource: str) -> str:
        """Return the URL of a resource: that of "trigger/32" is the endpoint with `trigger/32/` behind it."""
        from urllib.parse import urljoin

        return urljoin(self.endpoint, resource if resource.endswith("/") else f"{resource}/")

    def get_headers(self) -> dict[str, str]:
        """Return the headers of a request. They have the API key, if the client has one."""
        if self.options.api_key is None:
            return {"Content-Type": "application/json"}
        return {"Content-Type": "application/json", "X-FL-API-KEY": self.options.api_key.reveal()}

    def get_trigger_data(
        self,
        actor_id: Actor,
        action: Text,
        obj: Text,
        identities: Values | None = None,
        attributes: Values | None = None,
        variables: Values | None = None,
    ) -> dict[str, Any]:
        """Return a trigger as a dict for JSON, without id and time. Takes what `record_trigger` takes.

        `before_record` is not called.

        Raises:
            InvalidTrigger: For a mistake in the arguments.
        """
        from brockman.trigger.encode import coerce_trigger

        return coerce_trigger(actor_id, action, obj, identities, attributes, variables)
