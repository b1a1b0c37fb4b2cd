"""The code blocks of README.rst and docs/*.rst, and the tests that run them.

A block runs in one of two ways. By its language: `test_blocks.py` runs every `python` block by itself, and the
`console` blocks of a page one after the other. Or by a name, in a comment before the block::

    .. test: first steps
    .. code-block:: console

Then a test in this folder takes it with `named("first steps")` or `only("first steps")`. `test_blocks.py` fails
for a block that neither way runs.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from types import MappingProxyType

from tests.support.programs import free_port

ROOT = Path(__file__).parents[2]
README = ROOT / "README.rst"
PAGES = [README, *sorted((ROOT / "docs").glob("*.rst"))]

_DIRECTIVE = re.compile(r"( *)\.\. (?:code-block|code|sourcecode|literalinclude|parsed-literal)::(.*)")
_NAME = re.compile(r" *\.\. test: (.+)")


@dataclass(frozen=True)
class Block:
    """One code block.

    Attributes:
        page: The file's name.
        line: The number of the directive's line.
        language: Empty for a literal block after `::`.
        name: Of the test that runs it; None if its language says how it is run.
        code: The text, without indentation.
    """

    page: str
    line: int
    language: str
    name: str | None
    code: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def find_blocks(path: Path) -> Iterator[Block]:
    """Yield the blocks of a page."""
    lines = path.read_text(encoding="utf-8").splitlines()
    for index, line in enumerate(lines):
        directive = _DIRECTIVE.fullmatch(line)
        if directive is None and not (line.endswith("::") and not line.lstrip().startswith("..")):
            continue
        indent = len(line) - len(line.lstrip())
        named = _NAME.fullmatch(lines[index - 1]) if index else None
        language = directive[2].strip() if directive else ""
        yield Block(path.name, index + 1, language, named[1] if named else None, _body(lines[index + 1 :], indent))


def _body(lines: list[str], indent: int) -> str:
    body = []
    for line in lines:
        if line.strip() and len(line) - len(line.lstrip()) <= indent:
            break
        body.append(line)
    while body and body[0].strip():  # options of the directive
        del body[0]
    return dedent("\n".join(body)).strip("\n") + "\n"


BLOCKS = [block for page in PAGES for block in find_blocks(page)]


def named(name: str) -> list[Block]:
    """Return the blocks with this name, in the order of the page."""
    return [block for block in BLOCKS if block.name == name]


def only(name: str) -> Block:
    """Return the one block with this name."""
    (block,) = named(name)
    return block


def run_python(block: Block, replacements: Mapping[str, str] = MappingProxyType({})) -> dict[str, object]:
    """Run a block of Python, with some texts replaced; return its global names."""
    code = block.code
    for old, new in replacements.items():
        code = code.replace(old, new)
    names: dict[str, object] = {}
    exec(compile("\n" * block.line + code, block.page, "exec"), names)
    return names


def to_shell(blocks: list[Block]) -> str:
    """Return console blocks, and Python blocks between them, as one script for a shell."""
    script = []
    for block in blocks:
        if block.language == "python":
            script += ["python - <<'END'", block.code.rstrip(), "END"]
        else:
            script += [line.removeprefix("$ ") for line in block.code.splitlines() if line.startswith("$ ")]
    return "\n".join(script)


def run_shell(script: str, folder: Path, **environ: str) -> str:
    """Run a script as a reader types it, in a folder; return its output.

    `brockman` and `python` are those of this checkout. `pip` installs nothing, and fails if it would not install
    this checkout. The collector listens on a free port. What the script leaves running is stopped.

    Raises:
        AssertionError: When a command fails.
    """
    port = str(free_port())
    script = script.replace("8765", port).replace("brockman serve", f"brockman serve --port {port}")
    environ = {**os.environ, "PATH": f"{_programs(folder)}:{os.environ['PATH']}", **environ}
    environ["PYTHONPATH"] = str(ROOT)
    out = folder / "output"
    with out.open("wb") as stream:
        process = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=folder,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )
        try:
            status = process.wait(120)
        finally:
            _stop(process.pid)
            process.wait()
    text = out.read_text(encoding="utf-8")
    assert status == 0, f"{script}\nends with status {status}:\n{text}"
    return text


def _stop(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:  # nothing was left running
        pass


def _programs(folder: Path) -> Path:
    """Make a folder of programs that stand before those of the system."""
    programs = folder / "bin"
    programs.mkdir()
    for name, command in {
        "brockman": "-m brockman",
        "python": "",
        "pip": "-m tests.docs.pip",
    }.items():
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {command} "$@"\n')
        program.chmod(0o755)
    return programs
