"""Every code block of README.rst and docs/*.rst is run."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.docs.blocks import BLOCKS, Block, find_blocks, run_python, run_shell, to_shell
from tests.support.client import KEY
from tests.support.server import RecordingServer

FOLDER = Path(__file__).parent
PYTHON = [block for block in BLOCKS if block.name is None and block.language == "python"]
CONSOLE = [block for block in BLOCKS if block.name is None and block.language == "console"]


def names_taken() -> set[str]:
    """Return the names that the tests of this folder take."""
    sources = "".join(path.read_text(encoding="utf-8") for path in FOLDER.glob("test_*.py"))
    return set(re.findall(r'\b(?:named|only)\("([^"]+)"\)', sources))


def is_run(block: Block) -> bool:
    """Return whether a test runs a block: by its language, or by its name."""
    return block.language in ("python", "console") if block.name is None else block.name in names_taken()


def test_there_is_a_test_for_every_block() -> None:
    """No block is forgotten, and no test waits for a block that is gone."""
    assert [str(block) for block in BLOCKS if not is_run(block)] == []
    assert names_taken() - {block.name for block in BLOCKS} == set()


@pytest.mark.parametrize(
    "text",
    ["An example::", ".. code-block:: bash", "  .. code:: python3", ".. test: nobody\n.. code-block:: python"],
)
def test_a_block_that_nobody_runs_is_found(text: str, tmp_path: Path) -> None:
    """Without a language, in another language, or with a name that no test takes."""
    page = tmp_path / "page.rst"
    page.write_text(f"A page\n======\n\n{text}\n\n      1 / 0\n\nThe end.\n")
    (block,) = find_blocks(page)
    assert block.code == "1 / 0\n"
    assert not is_run(block)


async def answer_nothing(*_: Any) -> Any:
    raise AssertionError("the application asked for more")


async def ignore(message: dict[str, Any]) -> None:
    pass


# What a block defines for others to call, and how they do.
CALLS: dict[str, Callable[[Any], Any]] = {
    "view_post": lambda view: view(7, "a title"),
    "handler": lambda handler: handler({"user": 7}, None),
    "job": lambda job: job(7),
    "application": lambda application: application({"type": "http", "path": "/a"}, answer_nothing, ignore),
    "main": lambda main: main(),
}


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_the_python_runs(
    block: Block, server: RecordingServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each block by itself delivers triggers to a real server."""
    monkeypatch.setenv("FL_ENDPOINT", server.endpoint)
    monkeypatch.setenv("FL_API_KEY", KEY)
    names = run_python(block, {"/var/lib": str(tmp_path)})
    for name, call in CALLS.items():
        if name in names:
            result = call(names[name])
            if isinstance(result, Awaitable):
                asyncio.run(finish(result))
    if "client" in names:
        assert names["client"].close()  # type: ignore[attr-defined]
    assert server.triggers


async def finish(result: Awaitable[Any]) -> Any:
    return await result


@pytest.mark.parametrize("page", sorted({block.page for block in CONSOLE}))
def test_the_commands_run(page: str, tmp_path: Path, server: RecordingServer) -> None:
    """Those of a page succeed, typed one after the other."""
    (tmp_path / "access.log").write_text(
        '203.0.113.7 - - [10/Oct/2025:13:55:36 +0200] "GET /blog HTTP/1.1" 200 2326 "-" "curl/8"\n'
    )
    spool = tmp_path / "lib" / "shop" / "focuslab"
    spool.mkdir(parents=True, mode=0o700)
    script = to_shell([block for block in CONSOLE if block.page == page])
    script = script.replace("/var/lib", str(tmp_path / "lib"))
    output = run_shell(script, tmp_path, FL_ENDPOINT=server.endpoint, FL_API_KEY=KEY)
    assert '"error"' not in output
