"""The figures of all rounds, and their medians."""

from __future__ import annotations

import json
import math
import statistics
from pathlib import Path

from tests.benchmarks.peers.sides import BACKGROUND_PEERS


class Results:
    """By part, side and figure a list with one value for each round."""

    def __init__(self, sides: list[str]) -> None:
        self.sides = sides
        self._rounds: dict[str, dict[str, list[dict[str, float]]]] = {}

    def add(self, part: str, side: str, figures: dict[str, float]) -> None:
        self._rounds.setdefault(part, {}).setdefault(side, []).append(figures)

    def values(self, part: str, side: str, figure: str) -> list[float]:
        """Return the figure of each round; nan where a round failed."""
        return [round.get(figure, math.nan) for round in self._rounds.get(part, {}).get(side, [])]

    def median(self, part: str, side: str, figure: str) -> float:
        values = [value for value in self.values(part, side, figure) if not math.isnan(value)]
        return statistics.median(values) if values else math.nan

    def spread(self, part: str, side: str, figure: str) -> tuple[float, float]:
        """Return the least and the greatest of all rounds."""
        values = self.values(part, side, figure) or [math.nan]
        return min(values), max(values)

    def ratio(
        self, part: str, figure: str, *, of: str = "brockman", to: str = "floor", to_part: str = ""
    ) -> float:
        """Return the median over rounds of the ratio within a round."""
        pairs = zip(self.values(part, of, figure), self.values(to_part or part, to, figure), strict=False)
        ratios = [ours / other for ours, other in pairs if other]
        ratios = [ratio for ratio in ratios if not math.isnan(ratio)]
        return statistics.median(ratios) if ratios else math.nan

    def best(self, part: str, figure: str, *, most: bool = False) -> float:
        """Return the median of the best peer that works in the background."""
        peers = [side for side in self.sides if side in BACKGROUND_PEERS]
        medians = [self.median(part, side, figure) for side in peers if not self.lost(part, side)]
        medians = [value for value in medians if not math.isnan(value)]
        return (max if most else min)(medians) if medians else math.nan

    def lost(self, part: str, side: str) -> float:
        """Return the most that were lost in a round."""
        return max((value for value in self.values(part, side, "lost") if value > 0), default=0)

    def parts(self, group: str) -> list[str]:
        return [part for part in self._rounds if part.split()[0] == group]

    def sides_of(self, part: str) -> list[str]:
        return [side for side in self.sides if any(self._rounds.get(part, {}).get(side, []))]

    @property
    def rounds(self) -> int:
        return max((len(r) for part in self._rounds.values() for r in part.values()), default=0)

    def write(self, path: Path) -> None:
        path.write_text(json.dumps({"sides": self.sides, "rounds": self._rounds}))

    @classmethod
    def read(cls, path: Path) -> Results:
        found = json.loads(path.read_text())
        results = cls(found["sides"])
        results._rounds = found["rounds"]
        return results
