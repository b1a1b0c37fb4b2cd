"""The answer of a server, and what can be read of it."""

from __future__ import annotations

import codecs
import html
import json
import re
import zlib
from contextlib import suppress
from dataclasses import dataclass
from typing import cast

MAX_ANSWER_BYTES = 64 * 1024
MAX_FETCHED_BYTES = 64 * 1024 * 1024  # of what is read on purpose, such as the members of a group
_MAX_WORDS = 300  # characters
_MAX_WORDS_FROM = 4096  # characters
_MAX_CODINGS = 5  # of one body; RFC 9110, 8.4 allows any number
_ZLIB_OR_GZIP, _RAW = 47, -15  # by its header, or without one; see `zlib.decompressobj`
_BLANKS = " \t\r\n\f\v\xa0\u200b\u2060\ufeff"
_MARKUP = re.compile(r"<[!?]|</?[a-z][a-z0-9]*(?:\s+[a-z:-]+\s*=[^<>]*|\s*/?)>", re.IGNORECASE)
_NOT_SHOWN = re.compile(r"<!--.*?(?:-->|$)|<(script|style|head)\b.*?(?:</\1\s*>|$)", re.IGNORECASE | re.DOTALL)
_TITLE = re.compile(r"<title\b[^>]*>(.*?)</title", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"<[^>]*>?")
_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")  # in no text
_JSON = json.JSONDecoder(parse_int=float, strict=False)  # a number of any length, a line break within a text
_BETWEEN = re.compile(r"\s*")
_PROTOCOL = re.compile(r"\b(?:https?|tls|ssl)\b(?!:)", re.IGNORECASE)
_BOMS = (  # the longer ones first: that of UTF-16 is the beginning of another
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


@dataclass(frozen=True)
class Answer:
    """An HTTP response.

    Attributes:
        status: The HTTP status.
        body: At most 64 KiB of the body.
        content_type: The header, or "".
        retry_after: The header, or None.
        date: The header, or None.
        location: The header, or None.
        content_encoding: The header, or "".
        is_complete: Whether the body came to its end, or to 64 KiB.
    """

    status: int
    body: bytes = b""
    content_type: str = ""
    retry_after: str | None = None
    date: str | None = None
    location: str | None = None
    content_encoding: str = ""
    is_complete: bool = True

    @property
    def text(self) -> str | None:
        """The body, decompressed and decoded, without blanks around it; None when it cannot be read."""
        # Not a `cached_property`: before Python 3.12 its lock stays held if a time limit strikes.
        known = vars(self)
        if "_text" not in known:
            body = _decompress(self.body, self.content_encoding)
            text = None if body is None else _decode(body, self.content_type)
            # 64 KiB of blanks are no empty answer: what follows them is unknown.
            known["_text"] = text or (None if len(body or b"") >= MAX_ANSWER_BYTES else text)
        return cast("str | None", known["_text"])

    @property
    def is_page(self) -> bool:
        """True for a web page or another document with markup, which the API never sends."""
        text = self.text or ""
        return text.startswith("<") or (_MARKUP.search(text) is not None and not self._is_json(text))

    @property
    def is_about_protocol(self) -> bool:
        """True for the plain text of a server that expected TLS, or did not understand the request as HTTP."""
        text = (self.text or "")[:_MAX_WORDS_FROM]
        return _PROTOCOL.search(text) is not None and not text.startswith(("{", "[", '"'))

    def _is_json(self, text: str) -> bool:
        """Return whether a text is JSON, or several JSON values: one on each line, or behind each other."""
        if not self.is_complete or len(self.body) >= MAX_ANSWER_BYTES:
            return text.startswith(("{", "[", '"'))
        place = 0
        with suppress(ValueError, RecursionError):
            while place < len(text):
                place = _JSON.raw_decode(text, place)[1]
                place = _BETWEEN.match(text, place).end()  # type: ignore[union-attr]
            return True
        return False

    @property
    def words(self) -> str:
        """The first 300 characters of the text, for a log or an exception: without tags, with escaped controls."""
        text = self.text
        if text is None:
            return f"({len(self.body)} bytes that cannot be read)"
        start = text[:_MAX_WORDS_FROM]
        if self.is_page:
            title = _TITLE.search(start)
            start = html.unescape(_TAG.sub(" ", _NOT_SHOWN.sub(" ", start)))
            start = f"{title[1]}: {start}" if title and title[1] not in start else start
        return printable(start)


def printable(text: str) -> str:
    """Return a server's text on one line, at most 300 characters long.

    Control and bidirectional characters, with which it could change how a terminal or a log is shown, are escaped.
    """
    words = " ".join(text.split())[:_MAX_WORDS]
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in words)


def _decompress(body: bytes, encoding: str) -> bytes | None:
    """Return at most 64 KiB of a body without its codings (RFC 9110, 8.4); None when that cannot be done."""
    codings = [name for name in re.split(r"[,\s]+", encoding.lower()) if name not in ("", "identity")]
    for coding in reversed(codings[:_MAX_CODINGS]):
        if coding not in ("gzip", "x-gzip", "deflate"):
            return None
        if not body:
            break
        inflated = _inflate(body, _ZLIB_OR_GZIP, *((_RAW,) if coding == "deflate" else ()))
        if inflated is None:
            return None
        body = inflated
    if body.startswith(b"\x1f\x8b") or (body[:1] == b"x" and _CONTROLS.search(body.decode("latin-1"))):
        return _inflate(body, _ZLIB_OR_GZIP) or body  # compressed, and no header says so
    return body


def _inflate(body: bytes, *formats: int) -> bytes | None:
    for bits in formats:
        inflated, rest = b"", body
        with suppress(zlib.error):
            while rest and len(inflated) < MAX_ANSWER_BYTES:
                member = zlib.decompressobj(bits)
                inflated += member.decompress(rest, MAX_ANSWER_BYTES - len(inflated))
                rest = member.unused_data
            return inflated if inflated or member.eof else None
    return None


def _decode(body: bytes, content_type: str) -> str | None:
    """Return a body as text without blanks around it; None when it is none."""
    charset = next((charset for bom, charset in _BOMS if body.startswith(bom)), "utf-8")
    if charset == "utf-8" and b"\0" in body[:4]:
        charset = f"utf-{16 if body[:4].count(0) < 3 else 32}-{'be' if body[0] == 0 else 'le'}"
    declared = re.search(r"charset\s*=\s*[\"']?([^\s\"';]+)", content_type, re.IGNORECASE)
    text = None
    with suppress(ValueError):
        text = codecs.getincrementaldecoder(charset)().decode(body)  # a character may be cut off at the end
    if text is None and declared:
        with suppress(LookupError, ValueError):
            text = body.decode(declared[1])
    if text is None:
        text = body.decode("latin-1")
    return None if _CONTROLS.search(text) else text.strip(_BLANKS)
