"""The plan: each part that is measured, its options and its sides."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.benchmarks.peers.sides import BACKGROUND_PEERS

OURS = ("brockman", "floor")
DEPTHS = (1_000, 10_000, 100_000, 1_000_000)
SIZES = (200, 1_000, 10_000, 30_000)
BATCHES = (50, 500, 1_200)
# Nothing is sent until all is recorded: the time of a call while no worker thread runs.
UNSENT = {"max_batch_size": 10**6, "max_batch_bytes": 2**30, "flush_interval": 3600.0}


@dataclass(frozen=True)
class Part:
    """A line of the plan.

    Attributes:
        name: The key of the figures.
        function: The function of `measure`.
        options: Its arguments.
        sides: The sides it is measured for; None for all.
        once: True if it is measured in the first round only.
    """

    name: str
    function: str
    options: dict[str, Any] = field(default_factory=dict)
    sides: tuple[str, ...] | None = None
    once: bool = False

    @property
    def group(self) -> str:
        """Its name for `--parts`."""
        return self.name.split()[0]


def make_plan(*, quick: bool) -> list[Part]:
    """Return the parts in their order."""
    some, paced = (5_000, 1_000) if quick else (20_000, 2_000)
    return [
        Part("burst", "burst", {"count": some}),
        Part("paced", "paced", {"count": paced}),
        Part("default burst", "burst", {"count": some, "batch": 0}, BACKGROUND_PEERS),
        Part("default paced", "paced", {"count": paced, "batch": 0}, BACKGROUND_PEERS),
        Part("loop burst", "loop", {"count": some, "rate": 0}, ("floor",)),
        Part("loop paced", "loop", {"count": paced, "rate": 1000}, ("floor",)),
        Part("unsent burst", "burst", {"count": some, **UNSENT}, ("brockman",)),
        Part("unsent paced", "paced", {"count": paced, **UNSENT}, ("brockman",)),
        *(Part(f"threads {n}", "threads", {"count": some // 2, "threads": n}) for n in (1, 8, 64)),
        Part("memory", "memory", {"count": 20_000}),
        Part("starting", "starting"),
        Part("ending", "ending", {"count": 1_000}),
        *(
            Part(
                f"spooled {part}",
                "spooled",
                {"part": part, "count": some if part == "burst" else paced},
                ("brockman",),
            )
            for part in ("burst", "paced")
        ),
        *(
            Part(f"size {size}", "burst", {"count": 1_000 if quick else 4_000, "size": size}, OURS)
            for size in SIZES
        ),
        *(
            Part(f"batch {size}", "burst", {"count": some, "max_batch_size": size}, ("brockman",))
            for size in BATCHES
        ),
        *(
            Part(f"depth {depth}", "depth", {"count": 20_000, "depth": depth}, ("brockman",))
            for depth in (DEPTHS[:3] if quick else DEPTHS)
        ),
        *(Part(f"depth {depth}", "depth", {"count": 20_000, "depth": depth}, ("floor",)) for depth in DEPTHS[:3]),
        *(
            Part(f"delayed {ms}", "delayed", {"count": some // 4, "delay": ms / 1000}, once=True)
            for ms in (50, 200)
        ),
        Part("steady", "steady", {"seconds": 6 if quick else 30, "rate": 5_000, "delay": 0.2}, OURS, once=True),
    ]
