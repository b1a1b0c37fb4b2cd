r"""Parses a web server's access log in common or combined format: each line is a trigger. No I/O.

    203.0.113.7 - ada [10/Oct/2025:13:55:36 +0200] "GET /blog?page=2 HTTP/1.1" 200 2326 "https://..." "Mozilla/5.0"

Every pattern matches in linear time, whatever the line: no two of its parts can match the same text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from brockman.cli.formats.addresses import choose_client, is_public, parse_address, split_chain
from brockman.cli.formats.fields import UnreadableField, override
from brockman.cli.formats.times import parse_log_time
from brockman.cli.formats.wrappers import unwrap
from brockman.cli.source import Arguments, BadLine, Line, Unterminated, excerpt
from brockman.exceptions import ConfigurationError

_QUOTED = r'"([^"\\]*(?:\\.[^"\\]*)*)"'
_TAIL = (
    _QUOTED + r" (\d{3}) (\d{1,18}|-)"
    # Fields after the user agent are ignored: many servers are configured to append some.
    r"(?: " + _QUOTED + " " + _QUOTED + r'(?: (.*))?| [^"].*)?\s*'
)
# Nearly every line: one address, no space in the user's name.
_LINE = re.compile(r'([^ ",\0-][^ ",\0]*) [^ "]+ ([^ "]+) \[([^]]{1,40})\] ' + _TAIL, re.ASCII)
_TIME = re.compile(r' \[([^\[\]]{1,40})\] (?=")', re.ASCII)
_REST = re.compile(_TAIL, re.ASCII)
_STATUS = re.compile(r'" (\d{3}) (\d{1,18}|-)(?= "|\s*$)', re.ASCII)
_REQUEST = re.compile(r"([A-Za-z][A-Za-z_-]{0,31}) (.*[^ ]) HTTP/\d(?:\.\d)?", re.ASCII)
_REQUEST_0_9 = re.compile(r"(GET) (/\S*)", re.ASCII)
_FORWARDED = re.compile(r'"([0-9A-Fa-f.:,\[\] -]{1,1000})"')  # a field after the user agent
_ADDRESS_OF_SERVER = re.compile(r"[\d.]+:\d{2,3}", re.ASCII)  # a client's port has more digits
_NAMES = ("address", "user", "time", "method", "path", "query", "status", "bytes", "referer", "user_agent", "host")
_PORT = re.compile(r"\.\d+:", re.ASCII)
_NO_NAMES = ("", "-", "_")
_ESCAPE = re.compile(rb"\\(?:x([0-9A-Fa-f]{2})|(.))", re.DOTALL)
_CONTROLS = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"b": b"\b", b"f": b"\f", b"v": b"\v"}
_make: Callable[[tuple[Any, ...]], Arguments] = partial(tuple.__new__, Arguments)  # without a call in Python


def parse(line: str) -> Arguments | BadLine:
    host, text = None, line
    match = _LINE.fullmatch(line)
    if match is not None:
        address, user, time, request, status, size, referer, agent, rest = match.groups()
        if ":" in address:
            address = parse_address(address) or address
    else:
        text = unwrap(line)
        fields = _split(text)
        if fields is None:
            return BadLine(f"not a line of a common or combined log: {excerpt(line)}")
        address, user, time, request, status, size, referer, agent, rest, host = fields
        if not address:
            return BadLine(f"no address of a client: {excerpt(line)}")
    if rest and '"' in rest:
        address = _find_forwarded(rest, address)
    requested = _REQUEST.fullmatch(unescape(request)) or _REQUEST_0_9.fullmatch(request)
    if requested is None:
        return BadLine(f"not a request: {excerpt(request)}")
    stamp = parse_log_time(time)
    if stamp is None:
        return BadLine(f"not a time: {excerpt(time)}")
    path, _, query = requested[2].partition("?")
    # The common format has "-" for no bytes.
    variables = {"time": stamp[1], "status": int(status), "bytes": 0 if size == "-" else int(size)}
    if query:
        variables["query"] = query
    if referer and referer != "-":
        variables["referer"] = unescape(referer)
    if agent and agent != "-":
        variables["user_agent"] = unescape(agent)
    if host:
        variables["host"] = host
    identities = {"user": unescape(user)} if user and user != "-" else None
    return _make((address, requested[1], path, identities, None, variables, stamp[0], None, text.rstrip()))


def is_line(line: str) -> bool:
    """Return whether a line has the format, its request and time not looked at."""
    return _LINE.fullmatch(line) is not None or _split(unwrap(line)) is not None


def find_cut(lines: Iterable[Line]) -> Iterator[Line]:
    """Yield the lines; a last one that was read while it was being written, and has lost its end, is a bad line.

    What is left of it may be a line too: of the common format, or of another client.
    """
    before: str | BadLine = ""
    for number, line in lines:
        if type(line) is Unterminated and _extent(line) < _extent(before):
            reason = "it ends without a line break, and before it should; import it again when it is complete"
            line = BadLine(reason, line)
        before = line
        yield number, line


def _extent(line: str | BadLine) -> tuple[bool, int]:
    """Return whether a line goes on behind the bytes, and the number of quotes behind the user agent."""
    time = _TIME.search(line) if isinstance(line, str) else None
    tail = _REST.fullmatch(str(line), time.end()) if time is not None else None
    return (False, -1) if tail is None else (tail[5] is not None, (tail[6] or "").count('"'))


def parse_mapped(line: str, mapping: Mapping[str, str]) -> Arguments | BadLine:
    """Parse a line; a mapping may name `address`, `user`, `method`, `path` and the variables."""
    trigger = parse(line)
    if isinstance(trigger, BadLine):
        return trigger
    values = {"address": trigger.actor_id, "method": trigger.action, "path": trigger.obj}
    try:
        return override(trigger, values | (trigger.identities or {}) | trigger.variables, mapping)
    except UnreadableField as error:
        return BadLine(str(error))


def check_names(mapping: Mapping[str, str]) -> None:
    for field, name in mapping.items():
        if name not in _NAMES:
            raise ConfigurationError(f"--map has {excerpt(f'{field}={name}')}; a line has {', '.join(_NAMES)}")


def parse_request(text: str) -> tuple[str, str] | None:
    """Return method and target of a request line, or None."""
    match = _REQUEST.fullmatch(text) or _REQUEST_0_9.fullmatch(text)
    return None if match is None else (match[1], match[2])


def _split(line: str) -> tuple[Any, ...] | None:
    """Return the fields of a line as the server wrote them, or None if it has another format.

    They are: address, user, time, request, status, bytes, referer, user agent, further fields, host.
    """
    time = _TIME.search(line)
    if time is None:
        return None
    tail = _REST.fullmatch(line, time.end())
    fields = _split_unescaped(line, time.end()) if tail is None else tail.groups()
    head = _split_head(line[: time.start()])
    if fields is None or head is None:
        return None
    address, user, host = head
    return address, user, time[1], *fields, host


def _split_unescaped(line: str, start: int) -> tuple[str | None, ...] | None:
    """Return request, status and so on of a server that does not escape quotes."""
    status = _STATUS.search(line, start + 1)
    if status is None:
        return None
    rest = line[status.end() :].strip()
    names = rest[1:-1].split('" "') if rest else [None, None]
    if len(names) == 1 and _FORWARDED.fullmatch(rest):  # a common log with one more field
        return line[start + 1 : status.start()], *status.groups(), None, None, rest
    if len(names) < 2 or rest[-1:] not in ("", '"'):
        return None
    return line[start + 1 : status.start()], *status.groups(), names[0], names[1], None


def _split_head(head: str) -> tuple[str, str, str | None] | None:
    """Return address, user and host of `[HOST] ADDRESS... IDENT USER`; the address is "" if there is none."""
    tokens = head.lstrip().split(" ")
    end = len(tokens) - 2  # the addresses are before these two
    if end < 1:
        return None
    chain: list[str] = []
    names: list[str] = []
    position = 0
    while position < end:
        token = tokens[position]
        addresses = split_chain(token)
        if position == 0 and _ADDRESS_OF_SERVER.fullmatch(token) and split_chain(tokens[1]):
            names.append(token)
        elif addresses:
            chain += addresses
        elif not any(map(split_chain, tokens[position + 1 : min(position + 3, end)])):
            break
        elif not chain and not token.endswith(","):
            names.append(token)
        elif token != "-" and not token.endswith(","):
            break
        position += 1
    if not chain:
        has_host = end >= 2 and "." in tokens[1] and tokens[2] == "-"
        names, position = tokens[:has_host], 1 + has_host
        chain = [tokens[has_host].strip('",-')]
    user = " ".join(tokens[position + 1 :]).strip('"')
    return choose_client(chain), user.removeprefix("- "), next(filter(None, map(parse_host, names)), None)


def parse_host(text: str) -> str | None:
    """Return the name of a virtual host without its port, or None for the default one."""
    host, _, port = text.strip('"').rpartition(":")
    name = host if host and port.isdigit() else text.strip('"')
    return None if name in _NO_NAMES else name


def _find_forwarded(rest: str, address: str) -> str:
    """Return the client's address if one of the fields after the user agent is a list of addresses."""
    for match in _FORWARDED.finditer(rest):
        chain = split_chain(match[1])
        if not chain or len(chain) <= match[1].count(","):
            continue
        client = choose_client([*chain, address])
        if is_public(client) or not _PORT.search(match[1]):  # not the address of an upstream
            return client
    return address


def unescape(text: str) -> str:
    r"""Undo the escapes of servers: `\"`, `\\`, `\x22`, `\n`."""
    if "\\" not in text:
        return text
    return _ESCAPE.sub(_unescape_one, text.encode("utf-8", "surrogatepass")).decode("utf-8", "replace")


def _unescape_one(match: re.Match[bytes]) -> bytes:
    digits, character = match.groups()
    return bytes.fromhex(digits.decode()) if digits else _CONTROLS.get(character, character)
