"""The rest of a batch, in pieces that are sent one by one. No I/O, no clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from brockman.delivery.policy import Outcome, SendResult
from brockman.trigger.batch import halve


@dataclass(eq=False)
class Piece:
    """Triggers that are sent in one request.

    Attributes:
        result: What became of them, when they were sent ahead of their turn.
        is_suspect: Whether a web page has refused the trigger, or the server failed on it, since the last wait.
        refusal: How the page refused it.
        confirmations: How often in a row a page refused it since another trigger was accepted.
    """

    bodies: Sequence[bytes]
    result: SendResult | None = None
    is_suspect: bool = False
    refusal: SendResult | None = None
    confirmations: int = 0


class Plan:
    """Triggers in the order in which they are settled.

    A web page that refuses a trigger is no verdict on it: a proxy, a maintenance page or the wrong server may have
    sent it. Then the triggers behind it are sent ahead of their turn, one by one, until the server accepts one.

    Attributes:
        is_vouched: Whether a trigger behind the first one was accepted since the last verdict by page, or wait.
        is_fresh: Whether one was accepted since the last wait, and no page came instead since then.
        is_part_accepted: Whether any trigger of the batch was accepted: then a 500 is the fault of what was sent.
    """

    def __init__(
        self,
        bodies: Sequence[bytes],
        suspect: bytes | None,
        known: Mapping[bytes, SendResult],
        take_more: Callable[[], Sequence[bytes]],
    ) -> None:
        """Plan one request, and one for the suspect of before.

        Args:
            bodies: The triggers, oldest first.
            suspect: A trigger that a page refused before; None when there is none.
            known: Results of triggers that were sent ahead of their turn before.
            take_more: Returns the triggers behind them.
        """
        self.pieces: deque[Piece] = deque()
        start = 0
        for index, body in enumerate(bodies if suspect or known else ()):
            if body == suspect or body in known:
                self.pieces += [Piece(bodies[start:index]), Piece([body], known.get(body))]
                start = index + 1
        self.pieces = deque(piece for piece in (*self.pieces, Piece(bodies[start:])) if piece.bodies)
        self.is_vouched = self.is_fresh = self.is_part_accepted = False
        self._take_more = take_more
        self._accepted_alone: list[bool] = []  # of each settled trigger
        self._refused_arrays: list[tuple[int, int]] = []

    @property
    def front(self) -> Piece:
        """The piece to settle next."""
        return self.pieces[0]

    @property
    def is_lone(self) -> bool:
        """True when one trigger is left."""
        return len(self.pieces) == 1 and len(self.front.bodies) == 1

    @property
    def count(self) -> int:
        """The number of triggers that are not settled."""
        return sum(len(piece.bodies) for piece in self.pieces)

    @property
    def suspects(self) -> int:
        """The number of triggers that are suspects."""
        return sum(piece.is_suspect for piece in self.pieces)

    @property
    def has_candidate(self) -> bool:
        """True while there is a trigger behind the first piece that may vouch for it."""
        return any(not piece.is_suspect and piece.result is None for piece in islice(self.pieces, 1, None))

    def halve(self) -> None:
        """Split the first piece in halves."""
        older, newer = halve(self.pieces.popleft().bodies)
        self.pieces.extendleft((Piece(newer), Piece(older)))

    def extend(self) -> bool:
        """Add what waits behind the batch; return whether there was anything."""
        more = self._take_more()
        if more:
            self.pieces.append(Piece(more))
        return bool(more)

    def cut(self, piece: Piece, count: int) -> Piece:
        """Cut the oldest triggers off a piece, and return them as one. The rest may meet other limits later."""
        first = Piece(piece.bodies[:count])
        self.pieces.insert(self.pieces.index(piece), first)
        piece.bodies = piece.bodies[count:]
        return first

    def next_piece(self) -> Piece:
        """Return the piece to send next, or to settle: the first one, or a trigger that may vouch for suspects."""
        if not self.front.is_suspect or self.is_vouched:
            return self.front
        for piece in self.pieces:
            if not piece.is_suspect and piece.result is None:
                return piece if len(piece.bodies) == 1 else self.cut(piece, 1)
        return self.front

    def note(self, piece: Piece, result: SendResult) -> None:
        """Keep the result of a trigger that was sent ahead of its turn."""
        piece.result = result
        if result.is_decided:
            self.is_vouched = self.is_fresh = True

    def suspect(self, piece: Piece, result: SendResult) -> None:
        """Note that a page has refused a trigger, or that the server failed on it."""
        piece.is_suspect = True
        piece.refusal = result if result.by_page else None
        if piece is not self.front:
            self.is_fresh = False

    @property
    def known_result(self) -> SendResult | None:
        """The result of the first piece if a trigger behind it was accepted; None if it is to be sent."""
        is_vouched = any(piece.result is not None and piece.result.is_decided for piece in self.pieces)
        return (self.front.result or self.front.refusal) if is_vouched else None

    def note_wait(self) -> None:
        """Begin again from the first trigger: the server may answer otherwise after a wait."""
        self._refused_arrays.clear()
        self.is_vouched = self.is_fresh = False
        for piece in self.pieces:
            piece.is_suspect, piece.confirmations = False, 0

    def note_refused_array(self) -> None:
        """Note that the server refuses the first piece, because of a trigger in it or because it is an array."""
        start = len(self._accepted_alone)
        self._refused_arrays.append((start, start + len(self.front.bodies)))

    def settle(self, result: SendResult) -> bool:
        """Remove the first piece; return whether all triggers of an array that was refused were accepted alone."""
        piece = self.pieces.popleft()
        if result.by_page or piece.result is not None:
            self.is_vouched = False
        self.is_part_accepted = self.is_part_accepted or result.is_decided
        alone = len(piece.bodies) == 1 and result.outcome is Outcome.ACCEPTED
        self._accepted_alone += [alone] * len(piece.bodies)
        ended = [array for array in self._refused_arrays if array[1] <= len(self._accepted_alone)]
        self._refused_arrays = [array for array in self._refused_arrays if array not in ended]
        takes_no_arrays = any(all(self._accepted_alone[start:stop]) for start, stop in ended)
        if takes_no_arrays:
            self._refused_arrays.clear()  # those around it say the same, later
        return takes_no_arrays
