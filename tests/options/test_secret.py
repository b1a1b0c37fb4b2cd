"""The API key: returned by `reveal` only, shown by nothing else."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import pprint
import string
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from brockman.client import FocusLabClient
from brockman.exceptions import ConfigurationError
from brockman.options import Options
from brockman.options.secret import Secret
from brockman.transport.memory import MemoryTransport
from tests.support.client import KEY
from tests.support.shown import shown_by

UNSEEN = "9f86d081884c7d659a2feaa0c55ad015"  # a key that stands in no traceback of this file


def test_only_reveal_returns_it():
    """`reveal` returns the key."""
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
        assert KEY not in shown_by(caught.value, but=__file__)


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
    assert Secret(KEY).hide_in(text) == "no such key (api key), ((api key))"


WRONG = [
    "",
    " ",
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
    shown = shown_by(caught.value, but=__file__)
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
        visible = set(string.ascii_letters + string.digits + string.punctuation)
        assert not text.strip() or "://" in text or not set(text) <= visible
        return
    assert value == text.strip()
    assert value.encode("latin-1").decode("latin-1") == value
    assert len(value.splitlines()) == 1
    assert value.strip() == value != ""


WHITE = ("\n", "\r\n", " ", "\t", "\n\n", "\u00a0", "\u2028")


@pytest.mark.parametrize("white", WHITE, ids=ascii)
def test_white_space_around_a_key_is_left_out(white, server, monkeypatch):
    """A file or a Kubernetes secret ends in a line break: the server gets the key alone."""
    monkeypatch.setenv("FL_API_KEY", white + KEY + white)
    for arguments in ((), (white + KEY + white,)):
        with FocusLabClient(*arguments, endpoint=server.endpoint) as client:
            client.send_trigger("7", "viewed", "page")
    assert [request.headers["x-fl-api-key"] for request in server.requests] == [KEY, KEY]


UNUSABLE = [
    UNSEEN.encode(),
    f"{UNSEEN}\n".encode(),
    bytearray(UNSEEN.encode()),
    int(UNSEEN, 16),
    Path(UNSEEN),
    [UNSEEN],
    {"key": UNSEEN},
    f"{UNSEEN}\n{UNSEEN}",
    f"{UNSEEN}\x00",
    f"{UNSEEN}\u20ac",
    f"{UNSEEN}\ud800",
    f"user:{UNSEEN}@focus.example/",
    f"{UNSEEN}/+==",
]
ENDPOINT = "https://focus.example/"


class Talkative:
    """An object that shows a key whatever is done with it."""

    def __repr__(self) -> str:
        return UNSEEN

    @property
    def __class__(self):
        raise ValueError(UNSEEN)


# Each makes a client from what was meant as its key, and fails.
MISTAKES = {
    "keyword": lambda key: FocusLabClient(api_key=key, flush_interval="soon"),
    "position": lambda key: FocusLabClient(key, flush_interval="soon"),
    "beside a misspelt option": lambda key: FocusLabClient(key, flush_intervall=1),
    "misspelt": lambda key: FocusLabClient(apikey=key),
    "beside a wrong endpoint": lambda key: FocusLabClient(key, "http://focus.example/"),
    "beside a session and a transport": lambda key: FocusLabClient(
        key, session=object(), transport=MemoryTransport()
    ),
    "beside a wrong session": lambda key: FocusLabClient(key, session=object()),
    "as endpoint": lambda key: FocusLabClient("any", key),
    "as endpoint, by keyword": lambda key: FocusLabClient("any", endpoint=key),
    "swapped": lambda key: FocusLabClient(ENDPOINT, key),
    "as both": lambda key: FocusLabClient(key, key),
    "of a table": lambda key: Options(api_key=key, flush_interval="soon"),
    "of a table, by position": lambda key: Options(key),
    "as endpoint of a table": lambda key: Options(api_key="any", endpoint=key),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_no_code_of_what_was_meant_as_a_key_is_run(mistake):
    """Neither its repr nor its class is asked for, and no error of it is quoted."""
    with pytest.raises((ConfigurationError, TypeError)) as caught:
        MISTAKES[mistake](Talkative())
    assert UNSEEN not in shown_by(caught.value, but=__file__)


@pytest.mark.parametrize("key", [UNSEEN, f"{UNSEEN}\n", *UNUSABLE], ids=lambda key: type(key).__name__)
@pytest.mark.parametrize("mistake", MISTAKES)
def test_no_error_shows_what_was_meant_as_a_key(mistake, key):
    """Error trackers send the locals of each frame to others: no text, frame or cause of an error has the key."""
    with pytest.raises((ConfigurationError, AttributeError, TypeError)) as caught:
        MISTAKES[mistake](key)
    text = shown_by(caught.value, but=__file__)
    assert UNSEEN not in text
    assert str(int(UNSEEN, 16)) not in text


@pytest.mark.parametrize("key", [UNSEEN, f"{UNSEEN}\n", f"{UNSEEN}\n{UNSEEN}", f"{UNSEEN}\u20ac"], ids=ascii)
def test_no_error_shows_a_key_of_the_environment(key, monkeypatch):
    """`FL_API_KEY` is hidden as the keyword is, and what else the environment has."""
    monkeypatch.setenv("FL_API_KEY", key)
    monkeypatch.setenv("FL_FLUSH_INTERVAL", "soon")
    with pytest.raises(ConfigurationError) as caught:
        FocusLabClient()
    assert "FocusLabClient not in use yet" in shown_by(caught.value, but=__file__)
    assert UNSEEN not in shown_by(caught.value, but=__file__)
    monkeypatch.delenv("FL_FLUSH_INTERVAL")
    monkeypatch.setenv("FL_ENDPOINT", key)
    with pytest.raises(ConfigurationError) as caught:
        FocusLabClient("any")
    assert UNSEEN not in shown_by(caught.value, but=__file__)


def test_swapped_arguments_are_named():
    """A URL is no key: the error says what may have happened."""
    with pytest.raises(ConfigurationError, match="are api_key and endpoint in the wrong order"):
        FocusLabClient(ENDPOINT, KEY)
