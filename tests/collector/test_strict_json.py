"""With orjson or without it, the collector accepts the same JSON."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from brockman.collector import strict_json

CODECS: list[tuple[Callable[[bytes], Any], Callable[[Any], str]]] = [
    (strict_json.parse_with_json, strict_json.dump_with_json)
]
if strict_json.parse is not strict_json.parse_with_json:  # orjson is installed
    CODECS.append((strict_json.parse, strict_json.dump))


@pytest.mark.parametrize(("parse", "dump"), CODECS)
class TestStrictJson:
    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"NaN",
            b"[Infinity]",
            b"1e400",
            b"-1e400",
            b"9" * 400,
            b"9" * 5000,
            b'"\\ud800"',
            b'"\\udc00\\ud800"',
            b'{"\\ud800": 1}',
            b'"\xed\xa0\x80"',
            b"\xff",
            b"\xef\xbb\xbf1",
            "1".encode("utf-16"),
            b"[" * 100_000,
            b'{"a":' * 100_000,
            b"[" * 100_000 + b"]" * 100_000,
            b"1 2",
            b"01",
            b"'a'",
            b'"\t"',
        ],
        ids=lambda body: repr(body[:16]),
    )
    def test_is_rejected(self, parse: Callable[[bytes], Any], dump: Callable[[Any], str], body: bytes) -> None:
        with pytest.raises(ValueError):  # noqa: PT011 - each parser has its own message
            parse(body)

    @pytest.mark.parametrize(
        ("body", "value"),
        [
            (b'{"a": 1, "a": 2}', {"a": 2}),
            (b'"\\ud83d\\ude00"', "😀"),
            (b'"\\u0000"', "\x00"),
            (b"18446744073709551615", 2**64 - 1),
            (b"-9223372036854775808", -(2**63)),
            (b"18446744073709551616", 18446744073709551616.0),
            (b"-9223372036854775809", -9223372036854775809.0),
            (b"1" + b"0" * 300, 1e300),
            (b"[1.5, true, null]", [1.5, True, None]),
        ],
    )
    def test_is_accepted(
        self, parse: Callable[[bytes], Any], dump: Callable[[Any], str], body: bytes, value: object
    ) -> None:
        parsed = parse(body)

        assert parsed == value
        assert type(parsed) is type(value)

    def test_a_dumped_value_parses_to_the_same(
        self, parse: Callable[[bytes], Any], dump: Callable[[Any], str]
    ) -> None:
        value = {"a": ["é", 1, 2.5, True, None, "\x00"]}

        assert parse(dump(value).encode()) == value

    def test_a_value_nested_too_deeply_to_dump_is_a_value_error(
        self, parse: Callable[[bytes], Any], dump: Callable[[Any], str]
    ) -> None:
        nested: list[Any] = []
        for _ in range(100_000):
            nested = [nested]

        with pytest.raises(ValueError, match="nested too deeply"):
            dump(nested)
