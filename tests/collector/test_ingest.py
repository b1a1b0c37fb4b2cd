"""Request bodies become rows and errors, whatever they contain."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from starlette.exceptions import HTTPException

from brockman.collector import strict_json
from brockman.collector.ingest import MAX_ERRORS, read_triggers, rejected_entries
from brockman.collector.validation import MAX_ERROR_CHARS
from tests.collector.test_validation import few, json_values, near_triggers


@few
@given(st.binary() | st.lists(near_triggers | json_values, max_size=8).map(lambda v: json.dumps(v).encode()))
def test_no_body_causes_an_internal_error(body: bytes) -> None:
    try:
        parsed_body = read_triggers(body, 0)
    except HTTPException as error:
        status = error.status_code
    else:
        parsed = json.loads(body)
        assert len(parsed_body.rows) + len(parsed_body.errors) == (len(parsed) if isinstance(parsed, list) else 1)
        status = 400
    assert status == 400


@few
@given(st.lists(st.text(alphabet="a€😀", max_size=MAX_ERROR_CHARS), min_size=1, max_size=MAX_ERRORS))
def test_errors_fit_into_60_kib(texts: list[str]) -> None:
    entries = rejected_entries(list(enumerate(texts, start=10_000 - len(texts))))

    response = strict_json.dump({"accepted": 10_000 - len(texts), "rejected": entries})
    assert len(response.encode()) <= 60 * 1024
    assert len(entries) == len(texts)
    assert all(text.startswith(str(entry["error"])) for entry, text in zip(entries, texts, strict=True))


def test_few_errors_are_not_cut() -> None:
    text = "x" * MAX_ERROR_CHARS

    assert all(entry["error"] == text for entry in rejected_entries([(index, text) for index in range(450)]))
