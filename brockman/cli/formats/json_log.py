"""Parses access logs of which each line is a JSON object: nginx, Apache, Caddy, Traefik. No I/O."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from brockman.cli.formats.access_log import parse_host, parse_request, unescape
from brockman.cli.formats.addresses import choose_client, parse_address, split_chain
from brockman.cli.formats.fields import UnreadableField, look_up, override
from brockman.cli.formats.ndjson import load
from brockman.cli.formats.times import parse_time
from brockman.cli.formats.wrappers import unwrap, unwrap_object
from brockman.cli.source import Arguments, BadLine, excerpt

# Usual names in small letters, "-" as "_", the best first.
_NAMES = {
    "forwarded": ("http_x_forwarded_for", "x_forwarded_for", "request_x_forwarded_for", "forwarded_for", "xff"),
    "address": (
        *("http_cf_connecting_ip", "cf_connecting_ip", "http_x_real_ip", "x_real_ip", "client_ip", "clientip"),
        *("clienthost", "remote_addr", "remote_ip", "remoteip", "remote_address"),
        *("remote_host", "remotehost", "client", "ip"),
    ),
    "user": ("remote_user", "user", "username", "user_id", "clientusername"),
    "method": ("request_method", "method", "requestmethod", "verb"),
    "target": ("request_uri", "requestpath", "uri", "url", "path", "request"),
    "query": ("args", "query_string", "query"),
    "status": ("status", "status_code", "downstreamstatus", "response", "code"),
    "bytes": ("body_bytes_sent", "bytes_sent", "bytes", "size", "response_size", "downstreamcontentsize"),
    "referer": ("http_referer", "http_referrer", "referer", "referrer", "request_referer"),
    "user_agent": ("http_user_agent", "user_agent", "useragent", "agent", "request_user_agent"),
    "host": ("http_host", "vhost", "requesthost", "server_name", "host"),
}
_NAMES_OF_TIME = (
    *("time_iso8601", "time_local", "startutc", "@timestamp", "timestamp", "time", "ts", "datetime", "date"),
    "msec",
)
_METHOD = re.compile(r"[A-Za-z][A-Za-z_-]{0,31}", re.ASCII)
_ESCAPES = re.compile(r"((?:\\x[0-9A-Fa-f]{2})+)|\\.")


def parse(line: str, mapping: Mapping[str, str]) -> Arguments | BadLine:
    value = load_log(unwrap(line) if line[:1] != "{" else line)
    if isinstance(value, BadLine):
        return value
    inner = unwrap_object(value)
    if inner is not None and not is_request(value):
        return parse(inner, mapping) if len(inner) < len(line) else BadLine(f"not a log line: {excerpt(line)}")
    try:
        trigger = parse_object(value, mapping)
        return override(trigger, value, mapping) if mapping else trigger
    except UnreadableField as error:
        return BadLine(str(error))


def load_log(line: str) -> dict[str, Any] | BadLine:
    r"""Return the object of a line, also of a server that writes `\x22`, which is not JSON."""
    value = load(line)
    if isinstance(value, BadLine) and r"\x" in line:
        return load(_ESCAPES.sub(_to_json, line))
    return value


def _to_json(match: re.Match[str]) -> str:
    return json.dumps(unescape(match[1]))[1:-1] if match[1] else match[0]


def is_request(value: dict[str, Any]) -> bool:
    """Return whether an object is about a request: method and URL, or both in one."""
    fields = _flatten(value)
    return fields.get("request") is not None or {"method", "target"} <= _find(fields).keys()


def parse_object(value: dict[str, Any], mapping: Mapping[str, str]) -> Arguments:
    """Return the trigger of an object. Fields with a mapping need no usual name.

    Raises:
        UnreadableField: If there is no request, address or time.
    """
    fields = _flatten(value)
    found = _find(fields)
    chain, host = _find_addresses(found), str(found.get("host", ""))
    if not chain and parse_address(host):  # Apache's %h
        chain, host = [host], ""
    if not chain and "actor_id" not in mapping:
        raise UnreadableField(f"no address of a client among the fields {_list(value)}; give --map actor_id=NAME")
    method, target = ("", "") if {"action", "object"} <= mapping.keys() else _find_request(fields, found)
    time = _find_time({"time": look_up(value, mapping["time"])} if "time" in mapping else fields)
    path, _, query = target.partition("?")
    variables: dict[str, Any] = {"time": time.isoformat()}
    for name in ("status", "bytes"):
        with suppress(KeyError, ValueError, TypeError, OverflowError):
            variables[name] = int(found[name])
    query = query or str(found.get("query", "")).removeprefix("?")
    texts = {"query": query, "referer": found.get("referer"), "user_agent": found.get("user_agent")}
    texts["host"] = parse_host(host)
    variables.update((name, str(text)) for name, text in texts.items() if text)
    identities = {"user": str(found["user"])} if "user" in found else None
    return Arguments(choose_client(chain or [""]), method, path, identities, None, variables, time)


def _flatten(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields with names in small letters, and what Caddy has in `request` and `headers` beside them."""
    fields: dict[str, Any] = {}
    for name, item in value.items():
        name = name.lower().replace("-", "_")
        if isinstance(item, dict) and name in ("request", "headers"):
            fields = {**_flatten(item), **fields}
        elif isinstance(item, list):
            fields[name] = item[0] if item else None
        else:
            fields[name] = item
    return fields


def _find(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the value of each kind that the fields have, under its name in `_NAMES`."""
    return {
        kind: fields[name]
        for kind, names in _NAMES.items()
        for name in reversed(names)  # the best is the last to be written
        if fields.get(name) not in (None, "", "-")
    }


def _find_addresses(found: Mapping[str, Any]) -> list[str]:
    chain = split_chain(str(found.get("forwarded", "")))
    if "address" in found:
        address = str(found["address"])
        chain += split_chain(address) or [address]
    return chain


def _find_request(fields: Mapping[str, Any], found: Mapping[str, Any]) -> tuple[str, str]:
    request = fields.get("request")
    requested = parse_request(request) if isinstance(request, str) else None
    if requested is not None and "request_uri" not in fields:
        return requested
    method, target = found.get("method"), found.get("target")
    if not (isinstance(method, str) and isinstance(target, str) and _METHOD.fullmatch(method)):
        if request is None and "target" not in found:
            raise UnreadableField(
                f"no request among the fields {_list(fields)}; give --map action=NAME, object=NAME"
            )
        raise UnreadableField(f"not a request: {excerpt(str(request or method or ''))}")
    return method, target


def _find_time(fields: Mapping[str, Any]) -> datetime:
    """Return the time, with the milliseconds of nginx's `msec` and the zone of another field."""
    given = [
        name
        for name in _NAMES_OF_TIME
        if fields.get(name) not in (None, "", "-") and not _is_duration(fields[name])
    ]
    if not given:
        raise UnreadableField(f"no time among the fields {_list(fields)}; give --map time=NAME")
    try:
        names = [name for name in given if name in (given[0], "msec")]
        time, *others = (parse_time(_without_brackets(fields[name])) for name in names)
    except ValueError as error:
        raise UnreadableField(f"{given[0]}: {error}") from None
    if others and abs(others[0] - time) < timedelta(seconds=1):
        return others[0].astimezone(time.tzinfo)
    return time


def _is_duration(value: object) -> bool:
    """Return whether a value is a number too small for the time of a request: `time` is often how long it took."""
    with suppress(ValueError):
        return isinstance(value, (str, int, float)) and float(value) < 10**8
    return False


def _without_brackets(value: object) -> object:
    return value.strip("[] ") if isinstance(value, str) else value


def _list(fields: Iterable[str]) -> str:
    return excerpt(", ".join(fields))
