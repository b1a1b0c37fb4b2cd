"""The settings: one table, from keywords and from the environment, and every mistake said in full but the key."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import pickle
import re
import threading
import traceback
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from brockman.exceptions import ConfigurationError
from brockman.options.secret import Secret
from brockman.options.table import DEFAULT_ENDPOINT, ClientOptions, Options
from brockman.options.table import Path as PathLike

KEY = "da9dcaa0364541498d4ae6b4865cf395"
SPECS = dataclasses.fields(Options)
DEFAULTS = {spec.name: spec.default for spec in SPECS}
NUMBERS = [name for name, value in DEFAULTS.items() if type(value) in (int, float)]
WHOLE = [name for name, value in DEFAULTS.items() if type(value) is int]
FLAGS = [name for name, value in DEFAULTS.items() if type(value) is bool]
# Values that differ from the default, of the options whose default does not tell what they may be.
SAMPLES: dict[str, Any] = {
    "api_key": KEY,
    "endpoint": "https://focus.example/v2/",
    "overflow": "drop_oldest",
    "on_invalid": "drop",
    "variables": {"tenant": "acme"},
    "release": "1.4",
    "environment": "production",
    "spool_dir": "/var/lib/shop/focuslab",
    "spool_fsync": "interval",
    "on_drop": print,
    "on_error": print,
    "before_record": dict,
}


def sample(name: str) -> Any:
    """Return a value that is not the option's default."""
    default = DEFAULTS[name]
    if name in SAMPLES:
        return SAMPLES[name]
    if isinstance(default, bool):
        return not default
    assert type(default) in (int, float), f"give {name} a value in SAMPLES"
    return default + 1


def in_environment(value: Any) -> str:
    return json.dumps(value) if isinstance(value, dict) else str(value)


def shown(value: Any) -> Any:
    """Return what an option holds, with the key's text for the key."""
    return value.reveal() if isinstance(value, Secret) else value


def error_of(environment: dict[str, str] | None = None, **keywords: Any) -> str:
    """Return the words in which settings are refused."""
    with pytest.raises(ConfigurationError) as caught:
        Options.read({"api_key": KEY, **keywords}, environment or {})
    return str(caught.value)


# One table, two spellings.


@pytest.mark.parametrize("name", Options.names())
def test_an_option_is_read_from_its_keyword_and_its_variable(name):
    """`flush_interval=` and `FL_FLUSH_INTERVAL` say the same; the keyword wins; a function has no variable."""
    value, other, variable = sample(name), DEFAULTS[name], f"FL_{name.upper()}"
    rest = {} if name == "api_key" else {"api_key": KEY}
    assert shown(getattr(Options.read({**rest, name: value}, {}), name)) == value
    by_variable = Options.read(rest or {"enabled": False}, {variable: in_environment(value)})
    if callable(value):
        assert getattr(by_variable, name) is None
    else:
        assert shown(getattr(by_variable, name)) == value
        kept = getattr(Options.read({**rest, name: value}, {variable: str(other)}), name)
        assert shown(kept) == value


def test_the_names_are_those_of_the_table():
    """The order is that of the declaration, and every option says what it is for, in which unit."""
    assert Options.names() == tuple(spec.name for spec in SPECS)
    for spec in SPECS:
        assert spec.metadata["doc"].endswith(".")
        assert spec.metadata["unit"]


def test_type_checkers_know_every_keyword():
    """`ClientOptions` has the names and types of `Options`; a path object is kept as text."""
    kept = get_type_hints(Options)
    assert kept.pop("spool_dir") == str | None
    del kept["api_key"], kept["endpoint"]  # arguments of a client by position
    taken = get_type_hints(ClientOptions)
    assert taken.pop("spool_dir") == str | PathLike | None
    assert taken == kept
    assert ClientOptions.__required_keys__ == frozenset()


def test_a_default_is_of_its_type():
    """A number, a flag, one of the names of a policy, or None."""
    for name, kind in get_type_hints(Options).items():
        default = DEFAULTS[name]
        if isinstance(default, str) and name != "endpoint":
            assert default in get_args(kind), name
        else:
            assert type(default) is kind or (default is None and type(None) in get_args(kind)), name


def test_the_defaults_are_the_documented_ones():
    """Defaults are as promised."""
    options = Options(api_key=KEY)
    expected = {
        "endpoint": "https://api.focuslab.io/api/v1/",
        "enabled": True,
        "flush_interval": 1.0,
        "max_batch_size": 500,
        "max_batch_bytes": 512 * 1024,
        "max_queue_size": 100_000,
        "max_queue_bytes": 32 * 1024 * 1024,
        "max_trigger_bytes": 32 * 1024,
        "overflow": "drop_newest",
        "block_timeout": 1.0,
        "on_invalid": "auto",
        "connect_timeout": 3.05,
        "read_timeout": 10.0,
        "backoff_base": 0.5,
        "backoff_cap": 60.0,
        "max_attempts": 10,
        "shutdown_timeout": 5.0,
        "gzip": False,
        "allow_insecure": False,
        "identify_sender": True,
        "on_drop": None,
        "on_error": None,
        "before_record": None,
    }
    assert {name: getattr(options, name) for name in expected} == expected


def test_the_environment_alone_is_enough():
    """A deployment can set everything without a line of code."""
    options = Options.read({}, {"FL_API_KEY": KEY, "FL_GZIP": "yes", "FL_MAX_ATTEMPTS": "3", "PATH": "/bin"})
    assert (options.api_key.reveal(), options.gzip, options.max_attempts) == (KEY, True, 3)
    assert options == Options(api_key=KEY, gzip=True, max_attempts=3)


def test_an_empty_variable_counts_as_not_set():
    """`FL_GZIP=` in a shell means: the default."""
    assert Options.read({"api_key": KEY}, {f"FL_{name.upper()}": "" for name in Options.names()}) == Options(
        api_key=KEY
    )


def test_none_for_the_key_or_the_endpoint_means_the_environment():
    """`api_key=None` is what `os.environ.get` gives a caller: the environment is still looked at."""
    assert Options.read({"api_key": None}, {"FL_API_KEY": KEY}).api_key.reveal() == KEY
    elsewhere = {"FL_ENDPOINT": "https://focus.example/"}
    assert Options.read({"api_key": KEY, "endpoint": None}, elsewhere).endpoint == "https://focus.example/"
    assert Options.read({"api_key": KEY, "endpoint": None}, {}).endpoint == DEFAULT_ENDPOINT


def test_variables_of_other_programs_are_passed_over():
    """Only the derived names count."""
    environment = {"FL_NO_SUCH_OPTION": "1", "FLUSH_INTERVAL": "7", "fl_gzip": "1", "FL_ON_DROP": "print"}
    assert Options.read({"api_key": KEY}, environment) == Options(api_key=KEY)


@pytest.mark.parametrize(
    ("keyword", "hint"),
    [
        ("flush_intervall", "did you mean 'flush_interval'?"),
        ("apikey", "did you mean 'api_key'?"),
        ("max_queue", "did you mean 'max_queue_"),
        ("timeout", "did you mean '"),
        ("zzzz", "the options are: api_key, endpoint, enabled, "),
    ],
)
def test_an_unknown_keyword_gets_a_hint(keyword, hint):
    """A slip is named together with what was probably meant; the value is not shown, it may be a key."""
    message = error_of(**{keyword: KEY})
    assert message.startswith(f"unknown option {keyword!r}; {hint}")
    assert KEY not in message


# Numbers, flags, choices, functions.


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_that_is_none_is_refused(name):
    """The message names the option, the value, and what would be right; a bool is no number."""
    what = "a whole number" if name in WHOLE else "a number"
    for value in (True, False, None, "", "many", "nan", "inf", math.nan, math.inf, -math.inf, -1, b"1", [1], 1j):
        message = error_of(**{name: value})
        assert message.startswith(f"{name} is {value!r}; it should be {what} ")
        assert any(bound in message for bound in ("of at least 0 ", "above 0 ", "of at least 1 ", "1_048_576 "))


@pytest.mark.parametrize("name", [name for name in WHOLE if name != "max_spool_bytes"])
def test_a_count_is_whole_and_at_least_one(name):
    """Half a trigger cannot wait, and none is no bound."""
    for value in (0, 1.0, 2.5, "2.5", "0", "1e3"):
        assert (
            error_of(**{name: value})
            == f"{name} is {value!r}; it should be a whole number of at least 1 and at most 1_000_000_000_000"
        )
    assert getattr(Options(api_key=KEY, **{name: 1}), name) == 1


def test_a_spool_has_room_for_a_segment_or_two():
    """Less than 1 MiB for all processes is a slip, and the error says so."""
    message = error_of(max_spool_bytes=1024**2 - 1)
    assert "a whole number of at least 1_048_576 and at most 1_000_000_000_000_000" in message
    assert Options(api_key=KEY, max_spool_bytes=1024**2).max_spool_bytes == 1024**2


@pytest.mark.parametrize("path", ["spool", "./spool", "~/spool", "/a\0b", b"/spool", 3])
def test_a_spool_is_named_from_the_root_on(path):
    """A relative path would mean another folder after a chdir, as daemons do."""
    assert "it should be an absolute path of a folder" in error_of(spool_dir=path)


def test_a_spool_may_be_a_path_object():
    """As `pathlib` and Django's `BASE_DIR` give it; an empty text, as of an unset variable, is none."""
    assert Options(api_key=KEY, spool_dir=Path("/var/spool")).spool_dir == "/var/spool"
    assert Options(api_key=KEY, spool_dir="").spool_dir is None


@pytest.mark.parametrize("name", [name for name in NUMBERS if name not in WHOLE])
def test_seconds_are_floats(name):
    """Whole seconds are seconds too; no time at all is allowed only where not waiting makes sense."""
    kept = getattr(Options(api_key=KEY, **{name: 2}), name)
    assert (type(kept), kept) == (float, 2.0)
    if name in ("block_timeout", "shutdown_timeout"):
        assert getattr(Options(api_key=KEY, **{name: 0}), name) == 0.0
    else:
        assert error_of(**{name: 0}).startswith(f"{name} is 0; it should be a number above 0")


def test_no_wait_is_longer_than_python_can_wait():
    """Seconds that no lock or socket can wait are refused at the start, not met at exit as another error."""
    for name in set(NUMBERS) - set(WHOLE):
        for value in (1e10, 1e18, 1e300):
            assert "it should be a number" in error_of(**{name: value})
        assert getattr(Options(api_key=KEY, **{name: 86_400}), name) <= threading.TIMEOUT_MAX


@settings(deadline=None, database=None, max_examples=200)
@given(st.sampled_from(NUMBERS), st.integers() | st.floats() | st.integers().map(str) | st.floats().map(str))
@example("flush_interval", 10**400)
@example("max_queue_size", 10**400)
@example("flush_interval", "1" + "0" * 400)
@example("max_queue_size", "1" * 5000)
@example("backoff_cap", 5e-324)
def test_a_number_is_kept_or_refused(name, value):
    """Every number is kept as it is, or refused as a ConfigurationError: there is no third way."""
    try:
        kept = getattr(Options(api_key=KEY, **{name: value}), name)
    except ConfigurationError as error:
        words = str(error)
    else:
        assert kept == type(kept)(value)
        assert type(kept) is type(DEFAULTS[name])
        assert math.isfinite(kept)
        return
    assert words.startswith(f"{name} is ")
    assert " it should be " in words


@pytest.mark.parametrize("name", FLAGS)
def test_a_flag_has_its_words(name):
    """1, true, yes and on mean yes, 0, false, no and off mean no, in any case; nothing else means anything."""
    for words, meant in ((("1", "true", "YES", " On "), True), (("0", "False", "no", "OFF"), False)):
        for word in (*words, meant):
            assert getattr(Options.read({"api_key": KEY}, {f"FL_{name.upper()}": str(word)}), name) is meant
    for value in (1, 0, None, "2", "y", "ja", "truely", 1.0, []):
        message = error_of(**{name: value})
        assert message.startswith(f"{name} is {value!r}; it should be True or False")


@pytest.mark.parametrize(
    ("name", "choices"),
    [
        ("overflow", ("drop_newest", "drop_oldest", "block", "raise")),
        ("on_invalid", ("auto", "raise", "drop")),
        ("spool_fsync", ("never", "interval", "always")),
    ],
)
def test_a_choice_is_one_of_its_names(name, choices):
    """The message lists what can be chosen; type checkers know the same names."""
    assert get_args(get_type_hints(Options)[name]) == choices
    for value in ("", "DROP", "ignore", None, True, ["raise"]):
        message = error_of(**{name: value})
        assert message.startswith(f"{name} is {value!r}; it should be one of ")
        assert all(repr(choice) in message for choice in choices)
    for choice in choices:
        assert getattr(Options(api_key=KEY, **{name: choice}), name) == choice


@pytest.mark.parametrize("name", ["on_drop", "on_error", "before_record"])
def test_a_callback_is_a_function(name):
    """The name of a function is none."""
    for value in ("print", 7, b""):
        assert error_of(**{name: value}) == f"{name} is {value!r}; it should be a function, or None"
    assert getattr(Options(api_key=KEY, **{name: len}), name) is len


def test_a_wrong_variable_is_refused_like_a_wrong_keyword():
    """A typing slip in a deployment stops it at the start, in words that say where."""
    assert error_of({"FL_MAX_QUEUE_SIZE": "1o000"}) == (
        "max_queue_size is '1o000'; it should be a whole number of at least 1 and at most 1_000_000_000_000"
    )


def test_a_long_wrong_value_is_shown_shortened():
    """A message stays a line."""
    assert len(error_of(overflow="x" * 100_000)) < 500


# The endpoint.


@pytest.mark.parametrize(
    ("given_url", "kept"),
    [
        ("https://api.focuslab.io/api/v1/", "https://api.focuslab.io/api/v1/"),
        ("https://api.focuslab.io/api/v1", "https://api.focuslab.io/api/v1/"),
        ("https://host", "https://host/"),
        ("https://host:8443/x", "https://host:8443/x/"),
        ("https://[2001:db8::1]:8443/", "https://[2001:db8::1]:8443/"),
        ("http://localhost:8000", "http://localhost:8000/"),
        ("http://127.0.0.1:8000/api/v1/", "http://127.0.0.1:8000/api/v1/"),
        ("http://[::1]:8000/", "http://[::1]:8000/"),
        ("http://LOCALHOST/", "http://LOCALHOST/"),
        ("https://my_service.internal_net/", "https://my_service.internal_net/"),
        ("https://example.com./", "https://example.com./"),
        ("https://xn--mnchen-3ya.example/", "https://xn--mnchen-3ya.example/"),
        ("https://münchen.example/", "https://münchen.example/"),
        ("https://日本語.example/", "https://日本語.example/"),
        ("https://संगठन.भारत/", "https://संगठन.भारत/"),
        ("https://10.1/", "https://10.1/"),
        ("https://2130706433/", "https://2130706433/"),
        ("https://[fe80::1%25eth0]/", "https://[fe80::1%25eth0]/"),
        ("https://[::ffff:10.0.0.1]/", "https://[::ffff:10.0.0.1]/"),
        ("https://host:/", "https://host:/"),
        ("https://host//api", "https://host//api/"),
        ("https://host:00443/", "https://host:00443/"),
        ("https://host/a%20b/é/;v=1/@me", "https://host/a%20b/é/;v=1/@me/"),
        (f"https://{'a' * 63}.example/", f"https://{'a' * 63}.example/"),
    ],
)
def test_an_endpoint_ends_in_a_slash(given_url, kept):
    """With or without the slash it is the same endpoint; plain http is fine on this machine."""
    assert Options(api_key=KEY, endpoint=given_url).endpoint == kept


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.focuslab.io",
        "//api.focuslab.io/",
        "https:",
        "https://",
        "https:///api/v1/",
        "https://:443/",
        "ftp://host/",
        "file:///etc/passwd",
        "https://user@host/",
        "https://user:pass@host/",
        "https://localhost@host/",
        "https://host/?",
        "https://host/#",
        "https://host:port/",
        "https://host:99999/",
        "https://host:-1/",
        "https://host:0/",
        "https://[::1/",
        "https://::1/",
        "https://[::1]x/",
        "https://[::g]/",
        "https://[]/",
        "https://[v1.x]/",
        "https://[10.0.0.1]/",
        "https://[fe80::1%]/",
        "https://*/",
        "https://*.example.com/",
        "https://.x/",
        "https://./",
        "https://a..b/",
        "https://%s/",
        "https://%HOST%/",
        "https://$HOST/",
        "https://{host}/",
        "https://<host>/",
        "https://a,b/",
        "https://a%41/",
        "https://a\\b/",
        "https://a\\@b/",
        "https://a\tb/",
        "https://10.0.0.1.2/",
        "https://256.0.0.1/",
        "https://10.0.0.1./",
        "https://host:1e3/",
        "https://host:\u0663/",
        "https://host:80:80/",
        "https://\u2603..example/",
        "https://\u2100.example/",
        f"https://{'a' * 64}.example/",
        f"https://{'a.' * 127}a/",
        "https:\\\\host\\",
        "http+unix://host/",
        "https://https://host/",
        "https://ho st/",
        "https://host/a b/",
        " https://host/",
        "https://host/\n",
        "https://host/\r\nX-Evil: 1",
        "https://host/\x00",
        "https://host/\u2028",
        b"https://host/",
        7,
    ],
    ids=ascii,
)
def test_what_is_no_endpoint_is_refused(url):
    """The message shows the value and an example; a user, a query and a fragment have no place in it."""
    shown = re.sub("//.*@", "//...@", url) if isinstance(url, str) else url  # a password is shown to nobody
    message = error_of(endpoint=url)
    assert message.startswith(f"endpoint is {repr(shown)[:200]}")
    assert message.endswith(f"; it should be a URL such as {DEFAULT_ENDPOINT}, without user, query or fragment")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://host/?token=geheim", "'https://host/?token=...'"),
        ("https://host/?geheim", "'https://host/?...'"),
        ("https://host/?geheim==", "'https://host/?...'"),
        ("https://host/?a=geheim&b=geheim#geheim", "'https://host/?a=...&b=...#...'"),
        ("https://host/?a=b=geheim;geheim", "'https://host/?a=...;...'"),
        ("https://host/#access_token=geheim", "'https://host/#access_token=...'"),
        ("api.focuslab.io?token=geheim", "'api.focuslab.io?token=...'"),
        ("//host/?token=geheim", "'//host/?token=...'"),
        ("https://user:geheim@host/", "'https://...@host/'"),
        ("https://geheim@host:8443/x?a=geheim", "'https://...@host:8443/x?a=...'"),
        ("https://user:ge/heim@host/", "'https://...@host/'"),
        ("https://user:ge@heim@host/", "'https://...@host/'"),
        ("https://user:ge?heim@host/", "'https://...'"),
        ("https://user:ge#heim@host/", "'https://...'"),
        ("https:user:geheim@host/", "'https:...@host/'"),
        ("https:/user:geheim@host/", "'https:/...@host/'"),
        ("//user:geheim@host/", "'//...@host/'"),
        (b"https://user:geheim@host/?token=geheim", "b'https://...@host/?token=...'"),
        ("user:geheim@host/", "not shown, since it may be a key"),
        ("geheim", "not shown, since it may be a key"),
        ("sk-geheim/+==", "not shown, since it may be a key"),
        (f"{KEY}.{KEY}.{KEY}", "not shown, since it may be a key"),
        (int(KEY, 16), "a value of type int"),
        (Path("geheim"), "a value of type PosixPath"),
        ("https://ho\x1b[31mst/", r"'https://ho\x1b[31mst/'"),
    ],
    ids=ascii,
)
def test_a_wrong_endpoint_is_shown_without_its_secrets(url, shown):
    """The message has the URL, without password, values of the query, and anything that may be a key."""
    message = error_of(endpoint=url)
    assert message.startswith(f"endpoint is {shown}; it should be ")
    assert "heim" not in message


@pytest.mark.parametrize(
    "url",
    [
        "http://api.focuslab.io/api/v1/",
        "HTTP://api.focuslab.io/api/v1/",
        "Http://api.focuslab.io/api/v1/",
        "http://localhost.example/",
        "http://127.0.0.1.example/",
        "http://0.0.0.0/",
        "http://10.0.0.1/",
        "http://[2001:db8::1]/",
        "http://example/localhost/",
    ],
)
def test_the_key_does_not_travel_in_clear_unless_allowed(url):
    """Plain http to another machine is refused, however it is spelt; `allow_insecure` permits it."""
    message = error_of(endpoint=url)
    assert message.startswith(f"endpoint is {url!r}: the API key would travel in clear to ")
    assert "https://" in message
    assert "allow_insecure=True" in message
    assert Options(api_key=KEY, endpoint=url, allow_insecure=True).endpoint == url


# The key.


def test_a_key_is_required():
    """Without a key the message says where to put it; switched off, none is needed."""
    for environment in ({}, {"FL_API_KEY": ""}):
        with pytest.raises(ConfigurationError, match=r"^api_key is missing; .*api_key=.*FL_API_KEY"):
            Options.read({}, environment)
    assert Options(enabled=False).api_key is None
    assert Options.read({}, {"FL_ENABLED": "off"}).enabled is False


WRONG_KEYS = [
    f"{KEY}\r\nX-Evil: 1",
    f"{KEY}\x00",
    f"{KEY}\u20ac",
    f"{KEY}\ud800",
    KEY.encode(),
    [KEY],
    int(KEY, 16),
    "",
]


def logged(error: BaseException | None) -> str:
    """Return all that a log may show of an error and of the errors behind it."""
    texts: list[str] = []
    while error is not None:
        texts += [str(error), repr(error), repr(error.args), repr(vars(error)), repr(pickle.dumps(error))]
        texts += traceback.format_exception(type(error), error, error.__traceback__)
        error = error.__cause__ or error.__context__
    return "\n".join(texts)


@pytest.mark.parametrize("wrong", WRONG_KEYS, ids=lambda wrong: type(wrong).__name__)
def test_a_wrong_key_is_never_quoted(wrong):
    """Neither the message nor the traceback, nor the errors behind it, hold anything of the key."""
    spellings = [({"api_key": wrong}, {})]
    if isinstance(wrong, str) and wrong:
        spellings.append(({}, {"FL_API_KEY": wrong}))
    for keywords, environment in spellings:
        with pytest.raises(ConfigurationError) as caught:
            Options.read(keywords, environment)
        assert str(caught.value).startswith("api_key is not usable; it should be ")
        assert KEY not in logged(caught.value)
        assert str(int(KEY, 16)) not in logged(caught.value)


def test_another_mistake_does_not_quote_the_key():
    """A wrong option beside a right key shows the option only."""
    for wrong in ({"flush_interval": -1}, {"endpoint": "http://host/"}, {"no_such_option": 1}):
        with pytest.raises(ConfigurationError) as caught:
            Options.read({"api_key": KEY, **wrong}, {"FL_API_KEY": KEY})
        assert KEY not in logged(caught.value)


def test_settings_do_not_show_the_key():
    """A repr, a dict and a format of the settings hold a placeholder."""
    options = Options(api_key=KEY)
    for text in (
        repr(options),
        str(options),
        f"{options}",
        repr(dataclasses.asdict(options)),
        repr(vars(options)),
    ):
        assert KEY not in text
        assert "<api key>" in text


def test_settings_with_a_key_are_never_pickled():
    """A task queue does not carry the key; the error does not hold it. Without a key there is nothing to hide."""
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match="never pickled") as caught:
            pickle.dumps(Options(api_key=KEY), protocol)
        texts = traceback.format_exception(caught.type, caught.value, caught.tb)
        assert KEY not in "".join(texts)
        assert pickle.loads(pickle.dumps(Options(enabled=False), protocol)) == Options(enabled=False)


# A value like others.


def test_equal_settings_are_equal():
    """Clients with the same settings, however they were spelt, can share what they need."""
    one = Options.read({}, {"FL_API_KEY": KEY, "FL_FLUSH_INTERVAL": "2", "FL_ENDPOINT": "https://host"})
    two = Options(api_key=Secret(KEY), flush_interval=2, endpoint="https://host/")
    assert one == two
    assert hash(one) == hash(two)
    assert {one: "shared"}[two] == "shared"


def test_settings_that_differ_in_anything_are_not_equal():
    """Each option counts."""
    base = Options(api_key=KEY[::-1])
    for name in Options.names():
        other = dataclasses.replace(base, **{name: sample(name)})
        assert other != base, name
        assert dataclasses.replace(other, **{name: getattr(base, name)}) == base


def test_settings_do_not_change():
    """The options of a client stay as they were checked."""
    options = Options(api_key=KEY)
    for name in Options.names():
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(options, name, sample(name))


def test_settings_can_be_copied():
    """A copy is equal, key and all."""
    options = Options(api_key=KEY, gzip=True)
    assert copy.copy(options) == copy.deepcopy(options) == options


def test_positions_are_not_taken():
    """Settings are named: their order is no promise."""
    with pytest.raises(TypeError):
        Options(KEY)  # type: ignore[misc]
