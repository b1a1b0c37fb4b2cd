"""Reading an answer: its text, however it is encoded; whether it is a page; the words for the log."""

from __future__ import annotations

import gzip
import json
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brockman.transport.answer import MAX_ANSWER_BYTES, Answer, printable

PAGE = "<!DOCTYPE html>\n<html><body>Please log in, Ü</body></html>"
RAW_DEFLATE = zlib.compressobj(wbits=-15)
PAGES = {
    "plain": Answer(200, PAGE.encode()),
    "in upper case": Answer(200, PAGE.upper().encode()),
    "BOM": Answer(200, PAGE.encode("utf-8-sig")),
    "UTF-16 with a BOM": Answer(200, PAGE.encode("utf-16")),
    "UTF-16 without one": Answer(200, PAGE.encode("utf-16-le")),
    "UTF-16, big endian": Answer(200, PAGE.encode("utf-16-be"), "text/html"),
    "UTF-32": Answer(200, PAGE.encode("utf-32")),
    "UTF-32 without a BOM": Answer(200, PAGE.encode("utf-32-be")),
    "latin-1": Answer(200, "<p>Ü".encode("latin-1"), "text/html; charset=nonsense"),
    "a mainframe's": Answer(200, "<html>Ü".encode("cp037"), 'text/html; charset="cp037"'),
    "600 blanks": Answer(200, b"\r\n\t " * 150 + PAGE.encode(), "application/json"),
    "60 000 blanks": Answer(200, b"\n" * 60_000 + PAGE.encode()),
    "a blank that does not break": Answer(200, "\xa0\u200b<p>x".encode()),
    "an XML prolog": Answer(200, b'<?xml version="1.0"?>\n<html xmlns="x">', "text/xml"),
    "SOAP": Answer(200, b"<soap:Envelope/>", "application/soap+xml"),
    "a comment": Answer(200, b"<!-- portal -->\n" + PAGE.encode()),
    "a fragment": Answer(200, b"<p>log in", "text/html"),
    "markup after text": Answer(200, b"Warning: no space left on device\n<br />\n<b>index.php</b>"),
    "an error in front of a page": Answer(200, b"{oops}<html>" + PAGE.encode()),
    "gzip": Answer(200, gzip.compress(PAGE.encode()), content_encoding="gzip"),
    "gzip under another name": Answer(200, gzip.compress(PAGE.encode()), content_encoding="X-GZip"),
    "gzip without a header": Answer(200, gzip.compress(PAGE.encode())),
    "gzip twice": Answer(200, gzip.compress(gzip.compress(PAGE.encode())), content_encoding="gzip, gzip"),
    "gzip that breaks off": Answer(200, gzip.compress(PAGE.encode() * 99)[:-9], content_encoding="gzip"),
    "gzip with an empty first part": Answer(200, gzip.compress(b"") + gzip.compress(PAGE.encode())),
    "gzip of UTF-16": Answer(200, gzip.compress(PAGE.encode("utf-16")), content_encoding="gzip"),
    "deflate": Answer(200, zlib.compress(PAGE.encode()), content_encoding="deflate"),
    "deflate without a header": Answer(200, zlib.compress(PAGE.encode())),
    "raw deflate": Answer(
        200, RAW_DEFLATE.compress(PAGE.encode()) + RAW_DEFLATE.flush(), content_encoding="deflate"
    ),
}
TEXTS = {
    "nothing": (Answer(200), ""),
    "blanks": (Answer(200, b" \r\n"), ""),
    "a word": (Answer(200, b"created", "text/html"), "created"),
    "JSON": (Answer(200, b'{"id": 1}'), '{"id": 1}'),
    "JSON with a BOM": (Answer(200, b'\xef\xbb\xbf{"id": 1}'), '{"id": 1}'),
    "JSON that quotes HTML": (Answer(200, b'{"object": "<html>"}'), '{"object": "<html>"}'),
    "a JSON string": (Answer(200, b'"<p>"'), '"<p>"'),
    "JSON that was cut": (Answer(200, b'[{"object": "<p>"}, {"o', is_complete=False), '[{"object": "<p>"}, {"o'),
    "an address": (Answer(200, b"accepted, said <ops@example.com>, 3 < 4"), None),
    "latin-1": (Answer(200, "créé".encode("latin-1")), "créé"),
    "a character that was cut": (Answer(200, "é".encode()[:1] + b"", is_complete=False), ""),
    "gzip": (Answer(200, gzip.compress(b"created"), content_encoding="gzip"), "created"),
    "empty gzip": (Answer(200, gzip.compress(b""), content_encoding="gzip"), ""),
    "nothing, said to be gzip": (Answer(200, b"", content_encoding="gzip"), ""),
    "identity": (Answer(200, b"ok", content_encoding="identity"), "ok"),
}
UNREADABLE = {
    "brotli": Answer(200, b"\x0b\x02\x80ok\x03", content_encoding="br"),
    "an unknown coding": Answer(200, b"ok", content_encoding="sdch"),
    "damaged gzip": Answer(200, b"\x1f\x8b\x08" + b"\x00" * 7 + b"\xff" * 50, content_encoding="gzip"),
    "the first bytes of gzip": Answer(200, gzip.compress(b"x")[:4], content_encoding="gzip"),
    "no gzip at all": Answer(200, b"{}", content_encoding="gzip"),
    "an image": Answer(200, b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"),
    "zeros": Answer(200, b"\0" * 100),
    "blanks without end": Answer(200, b"\r\n" * (MAX_ANSWER_BYTES // 2)),
    "compressed blanks without end": Answer(200, gzip.compress(b" " * 70_000), content_encoding="gzip"),
}


@pytest.mark.parametrize("answer", PAGES.values(), ids=PAGES)
def test_a_page_is_known_however_it_comes(answer):
    """Portals and proxies answer 200 with their page: compressed, in any encoding, after blanks and comments."""
    assert answer.is_page


@pytest.mark.parametrize(("answer", "text"), TEXTS.values(), ids=TEXTS)
def test_a_text_is_read_and_is_no_page(answer, text):
    """The API's own words, in JSON or not."""
    assert not answer.is_page
    assert text is None or answer.text == text


@pytest.mark.parametrize("answer", UNREADABLE.values(), ids=UNREADABLE)
def test_what_cannot_be_decoded_has_no_text(answer):
    """Nor are its bytes shown in a log."""
    assert answer.text is None
    assert answer.words == f"({len(answer.body)} bytes that cannot be read)"


def test_a_compressed_answer_is_read_to_64_kib():
    """A bomb of 100 MB takes no more memory than an answer in plain text."""
    bomb = gzip.compress(gzip.compress(b"0" * 100_000_000))
    assert Answer(200, bomb, content_encoding="gzip, gzip").text == "0" * MAX_ANSWER_BYTES


def test_the_words_of_a_page_are_its_text():
    """Its title and text, without tags, styles, scripts and comments."""
    page = b"""<html><head><title>403 Forbidden</title><style>p { color: red }</style></head><!-- a
        comment --><body><script>alert("x")</script><h1>Host &quot;x&quot; is not allowed</h1><hr>nginx</body>"""
    assert Answer(403, page, "text/html").words == '403 Forbidden: Host "x" is not allowed nginx'


def test_words_cannot_change_how_a_log_is_shown():
    """Control, C1 and bidirectional characters are escaped, line breaks become blanks."""
    text = "no\x1b[31m such\r\nplan\x85 \u202etxt.exe\u2066 \x9b2J \u2028 é \U0001f600"
    assert printable(text) == r"no\x1b[31m such plan \u202etxt.exe\u2066 \x9b2J é " + "\U0001f600"


@given(st.text(max_size=400))
def test_words_are_one_printable_line(text):
    """Whatever a server says, and a log file in UTF-8 can hold it."""
    words = printable(text)
    assert words.isprintable()
    words.encode()


@given(st.binary(max_size=300), st.sampled_from(["", "gzip", "deflate", "gzip, deflate", "br"]), st.text())
def test_no_body_is_an_error(body, encoding, content_type):
    """A server can send any bytes under any header."""
    answer = Answer(200, body, content_type, content_encoding=encoding)
    assert isinstance(answer.is_page, bool)
    assert answer.words.isprintable()


@given(st.dictionaries(st.text(), st.text()))
def test_no_json_is_a_page(value):
    """An API may answer anything in JSON."""
    assert not Answer(200, json.dumps(value).encode()).is_page
    assert not Answer(200, json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")).is_page


@pytest.mark.parametrize("between", ["\n", "\r\n", "", " ", "\n\n"])
@pytest.mark.parametrize("is_ascii", [True, False])
def test_several_json_values_are_no_page(between, is_ascii):
    """A line of JSON for each trigger, with markup in its texts, is JSON, cut off after 64 KiB too."""
    lines = [{"id": number, "text": f"<p class='x'>{number}</p> <br/>\u2028"} for number in range(200)]
    body = between.join(json.dumps(line, ensure_ascii=is_ascii) for line in lines).encode()
    for answer in (Answer(200, body), Answer(200, body, "text/html"), Answer(200, body * 9)):
        assert not answer.is_page


@pytest.mark.parametrize(
    "body", ['{"n": %s, "t": "<b>x</b>"}' % ("9" * 5000), '{"t": "<b>\n</b>"}', '"<html></html>"', '["<br>"]\n']
)
def test_unusual_json_is_no_page(body):
    """A number of any length, a line break in a text, a text alone."""
    assert not Answer(200, body.encode()).is_page


@pytest.mark.parametrize("body", ['{"a": 1}\n<html></html>', '{"a": 1} <br> {"a": 1}', "1 <b>x</b>"])
def test_a_page_behind_json_is_a_page(body):
    """An error page in the middle of an answer that had begun."""
    assert Answer(200, body.encode()).is_page


def test_hostile_markup_is_read_in_time():
    """64 KiB of unfinished tags take no time to speak of."""
    for part in (b"<title ", b"<script ", b"<!--", b"<", b"<a ", b"</title"):
        answer = Answer(403, part * (MAX_ANSWER_BYTES // len(part)))
        assert answer.is_page
        assert len(answer.words) <= 300
    for text in (b"x <a x=" + b" " * 65000 + b"z", b"x <a" + b" " * 65000 + b"z", b"x <a b" * 10000):
        answer = Answer(403, text)
        assert not answer.is_page
        assert len(answer.words) <= 300
