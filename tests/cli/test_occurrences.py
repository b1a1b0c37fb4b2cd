"""Occurrences are counted exactly, also when they do not fit into memory."""

from __future__ import annotations

import hashlib
import random
import tempfile
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from brockman.cli.occurrences import Occurrences


def test_counts_are_exact_beyond_what_is_kept_in_memory() -> None:
    """With 60 000 keys where 1000 fit, and keys that look like an empty place."""
    rand, expected = random.Random(3), Counter[bytes]()
    special = [bytes(8), bytes(7) + b"\1", b"\xff" * 8]
    with closing(Occurrences(max_in_memory=1000)) as occurrences:
        for number in range(120_000):
            key = hashlib.sha1(b"%d" % rand.randrange(60_000)).digest()[:8]
            if number % 500 == 0:
                key = rand.choice(special)
            assert occurrences.add(key) == expected[key]
            expected[key] += 1


def test_without_room_on_disk_it_raises_instead_of_counting_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/proc/none")
    with closing(Occurrences(max_in_memory=1)) as occurrences:
        occurrences.add(b"12345678")
        with pytest.raises(FileNotFoundError):
            occurrences.add(b"another1")


def test_the_file_is_gone_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with closing(Occurrences(max_in_memory=10)) as occurrences:
        for number in range(20):
            occurrences.add(b"%08d" % number)
    assert list(tmp_path.iterdir()) == []
