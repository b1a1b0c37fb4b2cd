"""The public names: importable from where they are promised, typed, documented, with the promised signatures."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

import brockman
from brockman import exceptions
from brockman.client import FocusLabClient
from brockman.django.client import DjangoFocusLabClient
from brockman.stats import FlushResult, Stats

PACKAGE = Path(brockman.__file__).parent
NAMES = [
    ("brockman", "__version__"),
    ("brockman", "FocusLabClient"),
    ("brockman", "context"),
    ("brockman", "current"),
    ("brockman.client", "FocusLabClient"),
    ("brockman.cli", "main"),
    ("brockman.transport.memory", "MemoryTransport"),
    ("brockman.metrics", "register_prometheus"),
    ("brockman.metrics", "observe_opentelemetry"),
    ("brockman.testing", "capture"),
    ("brockman.asgi", "DeliverOnShutdown"),
    ("brockman.asgi", "FocusLabMiddleware"),
    ("brockman.wsgi", "FocusLabMiddleware"),
    ("brockman.flask", "FocusLab"),
    ("brockman.celery", "record_trigger"),
    ("brockman.django.client", "DjangoFocusLabClient"),
    ("brockman.django.celery.tasks", "record_trigger"),
    ("brockman.django.tasks_context", "ContextMixin"),
    ("brockman.django.middleware", "FocusLabMiddleware"),
    ("brockman.options", "Options"),
    ("brockman.stats", "Stats"),
    ("brockman.groups", "Group"),
    ("brockman.groups", "Member"),
    *(("brockman.exceptions", name) for name in exceptions.__dict__ if name[0].isupper()),
]
TRIGGER = (
    "actor_id=None, action=None, obj=None, identities=None, attributes=None, variables=None, *,"
    " at=None, trigger_id=None"
)


@pytest.mark.parametrize(("module", "name"), NAMES, ids=str)
def test_a_public_name_is_importable_from_where_it_is_promised(module, name):
    """The imports of the documentation work."""
    assert getattr(importlib.import_module(module), name) is not None


@pytest.mark.parametrize(
    "client", ["brockman.client.FocusLabClient", "brockman.django.client.DjangoFocusLabClient"]
)
@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        ("record_trigger", TRIGGER),
        ("send_trigger", TRIGGER),
        ("flush", "timeout=10.0"),
        ("close", "timeout=5.0"),
        ("stats", ""),
        ("groups", "*, timeout=60.0"),
        ("download_group", "name, *, timeout=60.0"),
        ("save_group", "name, *, where=None, did=(), did_not=(), timeout=60.0"),
    ],
)
def test_a_method_takes_what_was_promised(client, method, parameters):
    """Names, order and defaults of the arguments are part of the API."""
    module, _, name = client.rpartition(".")
    signature = inspect.signature(getattr(getattr(importlib.import_module(module), name), method))
    taken = [
        parameter.replace(annotation=parameter.empty)
        for name, parameter in signature.parameters.items()
        if name != "self"
    ]
    assert str(inspect.Signature(taken)) == f"({parameters})"


@pytest.mark.parametrize("client", [FocusLabClient, DjangoFocusLabClient])
def test_key_and_endpoint_are_the_only_settings_without_a_name(client):
    """`FocusLabClient("key", "https://...")` works, as in 2012; every other setting is a keyword."""
    parameters = list(inspect.signature(client).parameters.values())
    by_position = [one for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD]
    assert [(one.name, one.default) for one in by_position] == [("api_key", None), ("endpoint", None)]
    assert [one.name for one in parameters if one.kind is one.KEYWORD_ONLY] == ["transport", "session"]
    assert parameters[-1].kind is inspect.Parameter.VAR_KEYWORD
    assert "Unpack[ClientOptions]" in str(parameters[-1].annotation)


def test_the_endpoint_may_be_the_second_argument(server):
    """It is that of the client, and None means the environment, or FocusLab's."""
    assert FocusLabClient("key", server.endpoint).options.endpoint == server.endpoint
    assert FocusLabClient("key", None).options.endpoint == "https://api.focuslab.io/api/v1/"


def test_the_package_hands_out_its_client():
    """`from brockman import FocusLabClient` gives the one of `brockman.client`, and `*` nothing else."""
    assert brockman.FocusLabClient is FocusLabClient
    assert brockman.__all__ == ["FocusLabClient", "__version__", "context", "current"]
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        brockman.nonsense  # noqa: B018


def public_names(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


def test_a_client_shows_what_is_promised_and_nothing_else():
    """Internals begin with an underscore."""
    promised = {
        *("record_trigger", "encode_trigger", "record_encoded", "send_trigger", "flush", "aflush", "flushing"),
        *("close", "aclose", "stats", "options"),
        *("groups", "download_group", "save_group"),
        *("api_key", "endpoint", "get_url", "get_headers", "get_trigger_data"),  # of 0.1
    }
    assert public_names(FocusLabClient) == promised
    assert public_names(DjangoFocusLabClient) == promised | {"record_trigger_on_commit"}


def test_the_counts_have_their_names():
    """`Stats` and `FlushResult` have at least the promised fields, and do not change."""
    promised = {
        *("recorded", "queued", "in_flight", "delivered", "rejected", "dropped", "retries", "batches"),
        *("queued_bytes", "oldest_age", "last_error"),
    }
    assert {field.name for field in dataclasses.fields(Stats)} >= promised
    assert {field.name for field in dataclasses.fields(FlushResult)} >= {
        "delivered",
        "rejected",
        "dropped",
        "pending",
    }
    for snapshot, name in ((Stats(), "recorded"), (FlushResult(), "pending")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(snapshot, name, 1)


def test_a_flush_is_true_when_nothing_is_pending():
    """`if not client.flush(): ...` asks whether something is still to be settled, not what became of it."""
    assert FlushResult()
    assert FlushResult(rejected=1, dropped=2)
    assert not FlushResult(delivered=5, pending=1)


def test_the_package_is_typed():
    """Type checkers read the annotations: the marker is there, and is shipped."""
    assert (PACKAGE / "py.typed").is_file()
    assert "py.typed" in (PACKAGE.parent / "setup.cfg").read_text(encoding="utf-8")


def undocumented(body: list[ast.stmt], where: str) -> Iterator[str]:
    """Yield the public classes, functions and methods that say nothing of themselves."""
    for node in body:
        if isinstance(node, (ast.If, ast.Try)):
            yield from undocumented([*node.body, *node.orelse], where)
        if not isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) or node.name.startswith(
            "_"
        ):
            continue
        if ast.get_docstring(node) is None and not any("overload" in ast.unparse(d) for d in node.decorator_list):
            yield f"{where}.{node.name}"
        if isinstance(node, ast.ClassDef):
            yield from undocumented(node.body, f"{where}.{node.name}")


def test_everything_public_has_a_docstring():
    """`help()` of every public module, class, function and method has something to say."""
    silent = []
    for module in sorted({module for module, _ in NAMES}):
        found = importlib.import_module(module)
        assert found.__file__ is not None
        tree = ast.parse(Path(found.__file__).read_text(encoding="utf-8"))
        if ast.get_docstring(tree) is None:
            silent.append(module)
        silent += undocumented(tree.body, module)
    assert silent == []


def test_every_module_says_what_it_is_for():
    """Someone who opens a file reads in one line what it does."""
    paths = sorted(PACKAGE.rglob("*.py"))
    assert [str(path) for path in paths if ast.get_docstring(ast.parse(path.read_text("utf-8"))) is None] == []
