"""What `record_trigger` is called with. Checked there, not here."""

from __future__ import annotations

from typing import Any, NamedTuple


class Arguments(NamedTuple):
    """The arguments of one call, in its order."""

    actor_id: Any
    action: Any
    obj: Any
    identities: Any
    attributes: Any
    variables: Any
