"""The rest of a batch, in pieces that are sent one by one. No I/O, no clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from brockman.delivery.policy import Outcome, SendResult
from brockman.trigger.batch import halve


@dataclass(eq=False)
class Piece:
    """Triggers that are sent in one request.

    Attributes:
        result: What became of them, when they were sent ahead of their turn.
        is_suspect: Whether a web page has refused the trigger, or the server failed on it, since the last wait.
        refusal: How the page refused it.
    """

    bodies: Sequence[bytes]
    result: SendResult | None = None
    is_suspect: bool = False
    refusal: SendResult | None = None


class Plan:
    """Triggers in the order in which they are settled.

    A web page that refuses a trigger is no verdict on it: a proxy, a maintenance page or the wrong server may have
    sent it. Then the triggers behind it are sent ahead of their turn, one by one, until the server accepts one.

    Attributes:
        is_vouched: Whether a trigger was accepted behind suspects: who refuses them now is the server.
        is_part_accepted: Whether any trigger of the batch was accepted: then a 500 is the fault of what was sent.
    """

    def __init__(self, bodies: Sequence[bytes], suspect: bytes | None) -> None:
        """Plan one request, or two, when the first trigger is the suspect of before."""
        parts = [bodies[:1], bodies[1:]] if bodies and bodies[0] == suspect else [bodies]
        self.pieces = deque(Piece(part) for part in parts if part)
        self.is_vouched = self.is_part_accepted = False
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
    def suspects(self) -> int:
        """The number of triggers that are suspects."""
        return sum(piece.is_suspect for piece in self.pieces)

    @property
    def has_candidate(self) -> bool:
        """True while a trigger is left that may vouch for the suspects."""
        return any(not piece.is_suspect and piece.result is None for piece in self.pieces)

    def halve(self) -> None:
        """Split the first piece in halves."""
        older, newer = halve(self.pieces.popleft().bodies)
        self.pieces.extendleft((Piece(newer), Piece(older)))

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
        self.is_vouched = self.is_vouched or result.is_decided

    @property
    def known_result(self) -> SendResult | None:
        """The result of the first piece if a trigger behind it has vouched for it; None if it is to be sent."""
        return (self.front.result or self.front.refusal) if self.is_vouched else None

    def note_wait(self) -> None:
        """Begin again from the first trigger: the server may answer otherwise after a wait."""
        self._refused_arrays.clear()
        if not self.is_vouched:
            for piece in self.pieces:
                piece.is_suspect = False

    def note_refused_array(self) -> None:
        """Note that the server refuses the first piece, because of a trigger in it or because it is an array."""
        start = len(self._accepted_alone)
        self._refused_arrays.append((start, start + len(self.front.bodies)))

    def settle(self, result: SendResult) -> bool:
        """Remove the first piece; return whether all triggers of an array that was refused were accepted alone."""
        piece = self.pieces.popleft()
        if piece.result is not None and result.is_decided:
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
