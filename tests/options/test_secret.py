"""The API key: returned by `reveal` only, shown by nothing else."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import pprint
import string
import traceback

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from brockman.client import FocusLabClient
from brockman.exceptions import ConfigurationError
from brockman.options.secret import Secret
from tests.support.client import KEY

UNSEEN = "9f86d081884c7d659a2feaa0c55ad015"  # a key that stands in no traceback of this file


def shown_by(error: BaseException) -> str:
    """Return everything that a log may show of an error and of those behind it."""
    seen, texts = [], []
    while error is not None and error not in seen:
        seen.append(error)
        texts += [str(error), repr(error), repr(error.args), repr(vars(error))]
        texts += traceback.format_exception(type(error), error, error.__traceback__)
        error = error.__cause__ or error.__context__
    return "\n".join(texts)


def test_only_reveal_returns_it():
    """`reveal` returns the key as it was given."""
    assert Secret(KEY).reveal() == KEY


@pytest.mark.parametrize(
    "show",
    [
        repr,
        str,
        ascii,
        pprint.pformat,
        "{}".format,
        "{!r:>40}".format,
        lambda secret: "%s %r" % (secret, secret),  # noqa: UP031
        lambda secret: f"{secret}",
        lambda secret: str([secret]) + str({"key": secret}) + str((secret,)),
        lambda secret: logging.makeLogRecord({"msg": "key=%s", "args": (secret,)}).getMessage(),
        lambda secret: repr(dir(secret)) + repr(getattr(secret, "__dict__", None)),
        lambda secret: json.dumps({"key": secret}, default=str),
    ],
)
def test_nothing_that_shows_a_value_shows_it(show):
    """Neither a repr, a format, a log line nor a container's repr holds the key."""
    assert KEY not in show(Secret(KEY))


def test_it_is_never_pickled():
    """Pickling fails, and the error does not hold the key: no task queue ever carries it."""
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match="never pickled") as caught:
            pickle.dumps(Secret(KEY), protocol)
        assert KEY not in shown_by(caught.value)


def test_copies_are_the_same_key():
    """Settings that hold the key can be copied, deeply too."""
    secret = Secret(KEY)
    assert copy.copy(secret).reveal() == KEY
    assert copy.deepcopy({"key": secret})["key"].reveal() == KEY


def test_equal_keys_are_equal():
    """Two settings with the same key are the same settings; a key is never equal to its text."""
    assert Secret(KEY) == Secret(KEY)
    assert hash(Secret(KEY)) == hash(Secret(KEY))
    assert Secret(KEY) != Secret(KEY + "0")
    assert Secret(KEY) != KEY


def test_it_is_replaced_in_a_text():
    """Each occurrence in the message of a server or library is replaced."""
    text = f"no such key {KEY}, ({KEY})"
    assert Secret(KEY).hide_in(text) == "no such key <api key>, (<api key>)"


WRONG = [
    "",
    " ",
    f" {KEY}",
    f"{KEY}\n",
    f"{KEY}\r\nX-Evil: 1",
    f"{KEY}\x00{KEY}",
    f"{KEY}\x7f",
    f"{KEY}\u2028{KEY}",
    f"{KEY}\u20ac",
    f"{KEY}\ud800",
    KEY.encode(),
    int(KEY, 16),
    [KEY],
    None,
]


@pytest.mark.parametrize("wrong", WRONG, ids=ascii)
def test_a_wrong_key_is_an_error_that_does_not_quote_it(wrong):
    """A text that cannot be a header value is an error that says what is wrong, and shows nothing of the text."""
    with pytest.raises(ValueError, match=r"^(a|with|made) ?\w* ") as caught:
        Secret(wrong)
    shown = shown_by(caught.value)
    assert KEY not in shown
    assert str(int(KEY, 16)) not in shown


@settings(deadline=None, database=None)
@given(st.text(st.characters(max_codepoint=0x2FF)))
@example("key with spaces within")
@example("cl\u00e9")
def test_every_accepted_key_is_a_header_value(text):
    """Every key that is accepted can be sent as it is, on one line; every visible ASCII text is accepted."""
    try:
        value = Secret(text).reveal()
    except ValueError:
        assert not text or not set(text) <= set(string.ascii_letters + string.digits + string.punctuation)
        return
    assert value == text
    assert value.encode("latin-1").decode("latin-1") == value
    assert len(value.splitlines()) == 1
    assert value.strip() == value != ""


@pytest.mark.parametrize("where", ["keyword", "environment"])
def test_no_frame_of_ours_shows_the_key(where, monkeypatch):
    """Error trackers send the locals of a traceback, a client that could not be made among them, to others."""
    monkeypatch.setenv("FL_API_KEY", UNSEEN if where == "environment" else "another")
    arguments = {"api_key": Secret(UNSEEN)} if where == "keyword" else {}
    with pytest.raises(ConfigurationError) as caught:
        FocusLabClient(**arguments, flush_interval="soon")
    trace = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    text = "".join(trace.format())
    assert "FocusLabClient not in use yet" in text
    assert UNSEEN not in text


def test_a_key_that_is_given_as_text_is_hidden_at_once():
    """No frame below the caller's has it."""
    with pytest.raises(ConfigurationError) as caught:
        FocusLabClient(UNSEEN, flush_interval="soon")
    trace = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    assert UNSEEN not in "".join(trace.format())
