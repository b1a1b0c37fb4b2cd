"""The errors: one root, a documented tree, messages, pickling."""

from __future__ import annotations

import copy
import pickle
from unittest.mock import Mock

import pytest

from brockman import exceptions
from brockman.exceptions import (
    AnswerError,
    BadAPIKey,
    BadRequest,
    BufferFull,
    ClientClosed,
    ConfigurationError,
    ConnectionFailed,
    FocusLabError,
    InvalidTrigger,
    NoRequest,
    ResourceNotFound,
    ServerError,
    UnknownError,
    from_status,
)

PARENTS = {
    FocusLabError: (Exception,),
    ConfigurationError: (FocusLabError, ValueError),
    InvalidTrigger: (FocusLabError, ValueError),
    BufferFull: (FocusLabError,),
    ClientClosed: (FocusLabError,),
    NoRequest: (FocusLabError, LookupError),
    ConnectionFailed: (FocusLabError,),
    AnswerError: (FocusLabError,),
    BadRequest: (AnswerError,),
    BadAPIKey: (AnswerError,),
    ResourceNotFound: (AnswerError,),
    ServerError: (AnswerError,),
    UnknownError: (AnswerError,),
}
SAMPLES = [
    FocusLabError("trouble"),
    ConfigurationError("gzip is 3; it should be a flag"),
    InvalidTrigger("action: None should be a str"),
    BufferFull("no room"),
    ClientClosed("closed"),
    ConnectionFailed("refused"),
    ConnectionFailed("reset", stale=True),
    *(from_status(status, "its words") for status in (301, 400, 401, 403, 404, 409, 500, 503)),
]


def test_the_tree_is_the_documented_one():
    """Every error has the documented parents, and there is none beside the documented ones."""
    defined = {kind for kind in vars(exceptions).values() if isinstance(kind, type)}
    assert {kind: kind.__bases__ for kind in defined} == PARENTS


def test_the_documentation_names_every_error():
    """The docstring of the module names every error."""
    for kind in PARENTS:
        assert kind.__name__ in exceptions.__doc__


def test_every_failed_status_has_an_error():
    """400, 401 and 403, 404 and every 5xx have an error of their own; whatever else came is an UnknownError."""
    expected = {400: BadRequest, 401: BadAPIKey, 403: BadAPIKey, 404: ResourceNotFound}
    expected.update(dict.fromkeys(range(500, 600), ServerError))
    for status in [0, 42, *range(100, 200), *range(300, 700), 999]:
        error = from_status(status, "no")
        assert type(error) is expected.get(status, UnknownError)
        assert (error.status, error.words) == (status, "no")


def test_the_message_holds_the_status_and_the_servers_text():
    """Or says that there was no text."""
    assert str(from_status(400, "no such action")) == "the server answered 400: no such action"
    assert str(from_status(503, "")) == "the server answered 503: (no text)"
    assert str(AnswerError(418)) == "the server answered 418: (no text)"


@pytest.mark.parametrize("error", SAMPLES, ids=repr)
def test_an_error_survives_a_pickle_and_a_copy(error):
    """A task queue that pickles an error keeps its type, message and attributes."""
    pickles = [pickle.dumps(error, protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]
    for again in [copy.copy(error), *map(pickle.loads, pickles)]:
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert again.args == error.args
        assert vars(again) == vars(error)


def test_a_failed_connection_has_a_stale_flag():
    """False unless given."""
    assert ConnectionFailed("reset", stale=True).stale is True
    assert ConnectionFailed("refused").stale is False
    assert str(ConnectionFailed("reset", stale=True)) == "reset"


def test_the_repr_shows_status_and_text():
    """As a debugger shows it."""
    assert repr(from_status(403, "unknown key")) == "BadAPIKey(403, 'unknown key')"


SENTENCES = {kind: str(kind()) for kind in PARENTS}
USUAL_STATUS = {AnswerError: None, BadRequest: 400, BadAPIKey: 401, ResourceNotFound: 404, ServerError: 500}


@pytest.mark.parametrize("kind", PARENTS, ids=lambda kind: kind.__name__)
def test_every_error_can_be_raised_without_arguments(kind):
    """By class, as an instance, as the side effect of a mock: its text is a sentence, also after a pickle."""
    for error in (kind, kind()):
        with pytest.raises(kind) as raised:
            raise error
        assert raised.value.args == ()
        assert len(str(raised.value).split()) > 1
    with pytest.raises(kind):
        Mock(side_effect=kind)()
    for again in (copy.copy(kind()), copy.deepcopy(kind()), pickle.loads(pickle.dumps(kind()))):
        assert (type(again), str(again), vars(again)) == (kind, SENTENCES[kind], vars(kind()))
    assert len(set(SENTENCES.values())) == len(SENTENCES)


@pytest.mark.parametrize("kind", [kind for kind in PARENTS if issubclass(kind, AnswerError)])
def test_an_answer_that_nobody_gave_has_the_usual_status(kind):
    """`error.status` and `error.words` never fail, and the text does not claim that a server answered."""
    assert (kind().status, kind().words) == (USUAL_STATUS.get(kind), "")
    assert kind("no key for shop 5").status == USUAL_STATUS.get(kind)
    assert str(kind("no key for shop 5")) == "no key for shop 5"
    assert kind(status=418, words="tea").status == 418
    assert str(kind(status=418, words="tea")) == "the server answered 418: tea"


class Named(ServerError):
    """An application's own error, which calls its parent without arguments."""

    def __init__(self, *, shop):
        super().__init__()
        self.shop = shop


class Silent(ConnectionFailed):
    """One that does not call its parent at all."""

    def __init__(self, shop, cause):
        self.shop = shop


@pytest.mark.parametrize("error", [Named(shop=5), Silent(5, "down")], ids=repr)
def test_a_subclass_may_take_what_it_likes(error):
    """It has all attributes, and is copied and pickled without its `__init__`."""
    for again in (copy.copy(error), pickle.loads(pickle.dumps(error)), pickle.loads(pickle.dumps(error, 0))):
        assert (type(again), again.shop, str(again)) == (type(error), 5, str(error))
    assert getattr(error, "status", 500) == 500
    assert getattr(error, "stale", False) is False
