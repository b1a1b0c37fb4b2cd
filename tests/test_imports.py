"""The folders of the package: their imports, the libraries they use, the side effects of an import."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import pytest

import brockman

PACKAGE = Path(brockman.__file__).parent
# A module imports from its own folder, and from the lines below it.
DIAGRAM = """
    __main__
    cli
    django  flask  pytest_plugin
    celery  collector  testing  asgi  wsgi  diagnosis
    web
    client  metrics
    compatible  delivery
    buffer  transport
    stats  groups  contexts
    trigger
    process  options
    exceptions
"""
FLOORS = {name: floor for floor, line in enumerate(reversed(DIAGRAM.split("\n"))) for name in line.split()}
# The collector imports nothing of the client.
FORBIDDEN = {
    "collector": set(FLOORS) - {"collector"},
}
# Values and rules: no thread, file, socket, clock or random of their own.
PURE = (
    *("exceptions", "options", "trigger", "stats", "groups", "delivery.policy", "delivery.endpoint"),
    "metrics.table",
)
# A library that is not Python's own, or that does I/O of a special kind, and the only places that import it.
LIBRARIES = {
    "requests": ("brockman.transport.http",),
    "urllib3": ("brockman.transport",),
    "orjson": ("brockman.trigger.encode", "brockman.collector"),
    "sqlite3": ("brockman.collector.store.sqlite",),
    "psycopg": ("brockman.collector.store.postgresql",),
    "starlette": ("brockman.collector",),
    "uvicorn": ("brockman.collector",),
    "anyio": ("brockman.collector",),  # which starlette needs
    "tqdm": ("brockman.cli",),
    "django": ("brockman.django",),
    "asgiref": ("brockman.django",),
    "celery": ("brockman.celery", "brockman.django.celery"),
    "flask": ("brockman.flask",),
    "fcntl": ("brockman.buffer.spool",),
    "prometheus_client": ("brockman.metrics.prometheus",),
    "opentelemetry": ("brockman.metrics.opentelemetry", "brockman.delivery.traces"),
    "pytest": ("brockman.pytest_plugin",),
    "typing_extensions": (),
}
TYPES_ONLY = {  # under TYPE_CHECKING
    ("brockman.client", "requests"),
    ("brockman.client", "typing_extensions"),
    ("brockman.delivery.factory", "requests"),
    ("brockman.delivery.pipeline", "requests"),
    ("brockman.django.client", "requests"),
    ("brockman.web.client", "requests"),
    ("brockman.django.client", "typing_extensions"),
    *((module, "typing_extensions") for module in ("brockman.asgi", "brockman.flask", "brockman.wsgi")),
    ("brockman.metrics", "opentelemetry"),
    ("brockman.metrics", "prometheus_client"),
}
IMPURE = {
    *("asyncio", "atexit", "concurrent", "http", "io", "logging", "multiprocessing", "os", "pathlib", "queue"),
    *("random", "secrets", "select", "shutil", "signal", "socket", "sqlite3", "ssl", "subprocess", "tempfile"),
    *("threading", "time", "urllib3", "requests", "_thread"),
}
NAMES_THAT_SAY_NOTHING = {"utils", "util", "helpers", "helper", "common", "manager", "managers", "misc", "tools"}


class Import(NamedTuple):
    """One imported name, and whether only a type checker sees it."""

    name: str
    types_only: bool


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


@lru_cache(None)
def imports_of(module: str) -> tuple[Import, ...]:
    """Return all imports of a module, also those in functions."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    for_types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for statement in node.body
        for inner in ast.walk(statement)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [Import(alias.name, node in for_types) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} line {node.lineno}: imports are absolute"
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                found.append(Import(submodule if submodule in MODULES else node.module, node in for_types))
    return tuple(found)


def own_imports(module: str) -> Iterator[str]:
    return (
        found.name for found in imports_of(module) if is_within(found.name, "brockman") and not found.types_only
    )


def is_within(module: str, room: str) -> bool:
    return module == room or module.startswith(f"{room}.")


def folder_of(module: str) -> str:
    """Return the name of a module in the diagram; "" for the package itself."""
    return module.partition(".")[2].partition(".")[0]


def test_the_diagram_has_every_name_of_the_package():
    """`ls brockman` and the diagram tell the same story."""
    assert {folder_of(module) for module in MODULES} - {""} == set(FLOORS)


def test_contributing_shows_the_diagram_and_files_that_exist() -> None:
    """CONTRIBUTING.rst is right about the tree."""
    root = PACKAGE.parent
    text = (root / "CONTRIBUTING.rst").read_text(encoding="utf-8")
    assert DIAGRAM in text
    files = re.findall(r"``([\w/]+(?:\.py|/))``", text)
    assert len(files) > 20
    assert [file for file in files if not (root / file).exists() and not any(PACKAGE.rglob(file))] == []


def test_imports_run_one_way():
    """Downwards in the diagram, but for imports that only a type checker runs."""
    wrong = []
    for module in MODULES:
        folder = folder_of(module)
        for found in imports_of(module):
            if not is_within(found.name, "brockman") or folder_of(found.name) in ("", folder):
                continue
            is_up = not found.types_only and FLOORS[folder_of(found.name)] >= FLOORS[folder]
            forbidden = {
                name
                for place, names in FORBIDDEN.items()
                if is_within(module, f"brockman.{place}")
                for name in names
            }
            if is_up or folder_of(found.name) in forbidden:
                wrong.append(f"{module} imports {found.name}")
    assert wrong == []


def test_there_is_no_cycle_of_imports():
    """Not even of imports inside functions."""
    done: set[str] = set()
    trail: list[str] = []

    def visit(module: str) -> None:
        assert module not in trail, " -> ".join([*trail[trail.index(module) :], module])
        if module in done or module not in MODULES:
            return
        trail.append(module)
        for name in own_imports(module):
            visit(name)
        done.add(trail.pop())

    for module in MODULES:
        visit(module)
    assert done == set(MODULES)


def test_a_library_is_imported_in_its_place_only():
    """HTTP, SQL and the like are used in one place each."""
    wrong = []
    for library, rooms in LIBRARIES.items():
        for module in MODULES:
            uses = [found for found in imports_of(module) if is_within(found.name, library)]
            if (module, library) in TYPES_ONLY:
                uses = [found for found in uses if not found.types_only]
            if uses and not any(is_within(module, room) for room in rooms):
                wrong.append(f"{module} imports {library}")
    assert wrong == []


def test_one_module_imports_requests_and_one_each_database():
    """Not only one folder each."""
    for library in ("requests", "sqlite3", "psycopg"):
        places = [
            module
            for module in MODULES
            if any(found.name.split(".")[0] == library and not found.types_only for found in imports_of(module))
        ]
        assert len(places) <= 1, places
    assert any(found.name == "requests" for found in imports_of("brockman.transport.http"))


def test_no_other_library_is_needed():
    """Libraries outside the standard library are listed above."""
    known = {*sys.stdlib_module_names, "brockman", *LIBRARIES}
    unknown = {
        (module, found.name)
        for module in MODULES
        for found in imports_of(module)
        if found.name.split(".")[0] not in known
    }
    assert unknown == set()


def test_values_and_rules_do_no_io():
    """Clock, random and environment are passed in; threads, files and sockets are not imported."""
    reached = {
        module: {found.name.split(".")[0] for found in imports_of(module)} & IMPURE
        for module in MODULES
        if any(is_within(module, f"brockman.{pure}") for pure in PURE)
    }
    assert len(reached) > 10
    assert {module: names for module, names in reached.items() if names} == {}


def test_no_module_has_a_name_for_anything():
    """There is no `utils` and the like."""
    parts = {part for module in MODULES for part in module.split(".")}
    assert parts & NAMES_THAT_SAY_NOTHING == set()


IMPORT_AND_WATCH = """
import os, sys, threading, _thread
import collections.abc, traceback

reads, events = [], []

class Watched(collections.abc.MutableMapping):
    def __init__(self, inner):
        self.inner = inner
    def __getitem__(self, name):
        reads.append((name, "".join(traceback.format_stack(limit=8))))
        return self.inner[name]
    def __setitem__(self, name, value):
        events.append(f"environment set: {name}")
    def __delitem__(self, name):
        events.append(f"environment deleted: {name}")
    def __iter__(self):
        reads.append(("all", ""))
        return iter(self.inner)
    def __len__(self):
        return len(self.inner)

NOTED = ("socket.", "subprocess.", "os.fork", "os.system", "os.mkdir", "os.remove", "signal.", "sqlite3.")

def note_threads(start):
    def noted(*arguments, **keywords):
        events.append("thread started")
        return start(*arguments, **keywords)
    return noted

threading.Thread.start = note_threads(threading.Thread.start)
_thread.start_new_thread = note_threads(_thread.start_new_thread)

def hook(event, arguments):
    if event.startswith(NOTED):
        events.append(event)
    elif event == "open" and arguments[1] and set(arguments[1]) & set("wax+"):
        events.append(f"open {arguments[0]}")

os.environ = Watched(os.environ)
before = set(sys.modules)
sys.addaudithook(hook)
__import__(sys.argv[1])
loaded = set(sys.modules) - before
import json
print(json.dumps({
    "reads": reads,
    "events": events,
    "loaded": sorted(loaded),
}))
"""


@lru_cache(None)
def watched_import(module: str) -> dict:
    result = subprocess.run(
        [sys.executable, "-B", "-c", IMPORT_AND_WATCH, module],
        cwd=PACKAGE.parent,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return json.loads(result.stdout)


@pytest.mark.parametrize(
    "module", ["brockman", "brockman.exceptions", "brockman.options", "brockman.client", "brockman.metrics"]
)
def test_an_import_starts_nothing_and_reads_nothing(module):
    """No thread, socket, process, signal handler or written file; no read of the environment; no HTTP library."""
    seen = watched_import(module)
    assert module in seen["loaded"]
    assert seen["events"] == []
    assert seen["reads"] == []
    libraries = {name.split(".")[0] for name in seen["loaded"]}
    others = {"django", "celery", "starlette", "prometheus_client", "opentelemetry"}
    assert libraries & {"requests", "urllib3", "sqlite3", "ssl", "asyncio", *others} == set()


def test_importing_the_client_loads_no_settings_and_no_log():
    """They come with the first client, and so does the encoder: importing the client alone stays cheap."""
    loaded = set(watched_import("brockman.client")["loaded"])
    assert loaded & {"brockman.options", "brockman.trigger.encode", "dataclasses", "inspect", "logging"} == set()


def test_the_package_itself_loads_nothing_else():
    """`import brockman` loads one module."""
    assert watched_import("brockman")["loaded"] == ["brockman"]


def test_a_side_effect_of_an_import_would_be_noticed():
    """The test above notices a thread, a read of the environment and a written file."""
    script = IMPORT_AND_WATCH.replace(
        "__import__(sys.argv[1])",
        "os.getenv('FL_API_KEY'); threading.Thread(target=print).start(); open(os.devnull, 'w').close()",
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, encoding="utf-8", timeout=60, check=True
    )
    for trace in ("FL_API_KEY", "thread started", "open "):
        assert trace in result.stdout
