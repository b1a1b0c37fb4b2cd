"""Plain words: no term of the package's early dialect is left, and docstrings say what something is or does."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Words that once had a meaning of their own here, each with the standard term. Case counts.
RETIRED = {
    r"used_parts": "active_pipelines",
    r"Holder|\bHold\(|\bholders\b": "Lease, leases",
    r"unheld|\b_?retire\b": "on_last_release, close_if_idle",
    r"is_foreign|disown": "is_inherited, after_fork_in_child",
    r"hand_over|give_away|\bheir\b": "transfer_to_child, first_worker",
    r"\b[Bb]ell\b|WaitingRoom|let_go": "Wakeup, Condition, notify",
    r"under_way": "SeqLock.write",
    r"StandIn|stand_in\b|_leave_at_once|\bis_late\b": "InlineDelivery, deliver_inline, exiting",
    r"farewell": "final_summary, claim_final_line",
    r"hear_of_the_end|when_left|when_delivered": "register_exit_hooks, after_fork_hooks, after_exit_hooks",
    r"lifecycle|\bhurry\b|\basked_for\b": "registry, request_flush, server_requested",
    r"GivenUp": "DeliveryStopped",
    r"\bLessons?\b|\blessons?\b|\blearn_\w+": "EndpointLimits.remember_*",
    r"\bRulings?\b|\bRULINGS\b|Outcome\.(AWAY|SETUP|FAULTY|MIXED)": "Outcome.UNAVAILABLE, MISCONFIGURED, ...",
    r"\bVerdict\b": "SendResult; in the collector validation",
    r"[Ll]edger": "Counters",
    r"[Rr]efuge|is_resting": "FallbackBuffer, cooling_down",
    r"leave_behind|\babandon": "release_files, discard",
    r"\bdue_at\b|_pressed\b": "set_wake_threshold, _overflowed",
    r"\bstrays?\b|\bstrangers?\b": "inherited_fds, unknown_files",
    r"\bAside\b": "Quarantine",
    r"give_back|\bRESTS\b": "requeue, COOLDOWN",
    r"[Ff]lusher": "worker",
    r"\bfitting\.py|\bstamp\.py|\bmark\.py": "trigger/coerce, trigger/ids, process/fork",
    # Phrases that a reader has to translate.
    r"\bso (many|late)\b(?! (as|that))": "a number, a time",
    r"\btold\b(?! (apart|from|otherwise))|\btell(s|ing)? of\b": "notified, logged, reported, set",
    r"\blets? (it |them )?go\b": "release, notify, stop",
    r"none of ours": "not ours, other",
    r"\bcomes later\b": "later triggers",
    r"in the place of|stands? in for": "instead of, replaces",
    r"at the price of": "costs",
    r"by and by": "later",
}
OPENINGS = re.compile(r"(What|Who|When|Whether)\b")
HERE = Path(__file__).name


def files_of(place: str) -> list[Path]:
    """Return the texts in a folder, or a file itself. Folders below it are places of their own."""
    path = ROOT / place
    if path.is_file():
        return [path]
    return sorted(file for file in path.iterdir() if file.suffix in (".py", ".rst") and file.name != HERE)


def places() -> Iterator[str]:
    for top in ("brockman", "tests", "docs"):
        for folder in [ROOT / top, *sorted((ROOT / top).rglob("*"))]:
            name = folder.relative_to(ROOT).as_posix()
            if folder.is_dir() and "_build" not in name and files_of(name):
                yield name
    yield from ("README.rst", "CHANGELOG.rst", "CONTRIBUTING.rst")


PLACES = list(places())
CODE = [place for place in PLACES if place.startswith(("brockman", "tests"))]


def test_every_folder_is_read() -> None:
    """The lists below are not empty by mistake."""
    assert {"brockman", "brockman/buffer/spool", "tests/support", "docs", "README.rst"} <= set(PLACES)


@pytest.mark.parametrize("place", PLACES)
def test_no_word_of_the_old_dialect_is_left(place: str) -> None:
    """Names, comments, docstrings, log lines and pages use the standard terms."""
    found = [
        f"{file.relative_to(ROOT)}:{number}: {match[0]!r}; say {instead}"
        for file in files_of(place)
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        for word, instead in RETIRED.items()
        for match in re.finditer(word, line)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("place", CODE)
def test_no_docstring_opens_with_a_question_word(place: str) -> None:
    """A docstring says what something is, returns or does."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = [
        f"{file.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}: {text.splitlines()[0]}"
        for file in files_of(place)
        if file.suffix == ".py"
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, kinds) and (text := ast.get_docstring(node)) and OPENINGS.match(text)
    ]
    assert not found, "\n".join(found)
