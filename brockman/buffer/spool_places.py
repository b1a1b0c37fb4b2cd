"""The places where the triggers of a spool wait or are in flight, and how many they are."""

from __future__ import annotations

from brockman.buffer.memory import NEVER, READ_TRIES
from brockman.buffer.moves import Moves
from brockman.buffer.refuge import Refuge
from brockman.buffer.spool.adoption import Adopted
from brockman.buffer.spool.notice import Notice
from brockman.buffer.spool.reader import Chain
from brockman.buffer.spool.writer import Journal


class SpoolPlaces:
    """Counts what is in them; see `brockman.buffer.base` for what each count is. `_source` is where the
    triggers in flight come from.
    """

    def __init__(self, journal: Journal, adopted: Adopted, refuge: Refuge, moves: Moves, notice: Notice) -> None:
        self._journal = journal
        self._adopted = adopted
        self._refuge = refuge
        self._source: Chain | Refuge = refuge
        self._moves = moves
        self._notice = notice
        self._due_count, self._due_bytes = 1, NEVER
        self._pressed = False  # there was no room for a trigger since the last take
        self._abandoned = False

    def __len__(self) -> int:
        """Return how many wait, those in flight not counted."""
        return self._journal.waiting + self._adopted.waiting + len(self._refuge)

    @property
    def version(self) -> int:
        """What was read is one moment's when this was even before, and is the same after."""
        mine, other = self._moves.version, self._refuge.version
        return 2 * (mine + other) + (mine | other) % 2

    @property
    def removed(self) -> int:
        """How many that once waited are settled or dropped; the flush watermark."""
        total = self._adopted.past  # first: a chain that is done meanwhile is not to be counted twice
        for chain in (self._journal, *self._adopted.chains):
            total += chain.taken - chain.in_flight
        return total + self._refuge.removed

    @property
    def admitted(self) -> int:
        """How many were ever put in or adopted."""
        for _ in range(READ_TRIES):
            version, removed = self.version, self.removed
            total = removed + self.in_flight + len(self)
            if version == self.version and version % 2 == 0 and removed == self.removed and not self.evicted:
                break
        return total

    @property
    def in_flight(self) -> int:
        """How many are taken and not settled."""
        return self._source.in_flight

    @property
    def evicted(self) -> int:
        """How many have left and are not counted as dropped yet."""
        return self._refuge.evicted

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits and nothing is in flight."""
        return not len(self) and not self.in_flight

    @property
    def is_abandoned(self) -> bool:
        """Whether `abandon` was called."""
        return self._abandoned

    @property
    def waiting_bytes(self) -> int:
        """Size of what waits, in bytes; on disk with its frames."""
        chains = [self._journal, *self._adopted.chains]
        return sum(chain.waiting_bytes for chain in chains) + self._refuge.waiting_bytes

    @property
    def oldest(self) -> bytes | None:
        """The oldest trigger that is not settled, those of processes that are gone first."""
        for chain in (*self._adopted.chains, self._journal):
            body = chain.oldest
            if body is not None:
                return body
        return self._refuge.oldest

    @property
    def trouble(self) -> str | None:
        """Why the disk takes no triggers at present; None while it does."""
        return self._notice.trouble

    @property
    def is_due(self) -> bool:
        """Whether as much waits as `due_at` was told, or there was no room for a trigger."""
        return self._pressed or self._refuge.is_due or self.holds(self._due_count, self._due_bytes)

    def due_at(self, count: int, size: int) -> None:
        """Set how many triggers, or bytes, make `put` wake the flusher."""
        self._due_count, self._due_bytes = count, size
        self._refuge.due_at(count, size)

    def holds(self, count: int, size: int) -> bool:
        """Return whether at least so many triggers, or bytes, wait."""
        return len(self) >= count or self.waiting_bytes >= size
