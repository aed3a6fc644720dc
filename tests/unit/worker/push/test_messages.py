"""The JSON of messages."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from streamer_worker.push.messages import (
    MAX_BYTES,
    CompleteMessage,
    ErrorMessage,
    ProgressMessage,
    encode,
)

AT = datetime.fromtimestamp(1700000000, UTC)


def progress(**fields: Any) -> ProgressMessage:
    defaults: dict[str, Any] = {"fraction": 0.455, "message": "Reading", "details": {"rows": 3}}
    return ProgressMessage(request_id="r1", connection_id="c1", at=AT, **defaults | fields)


def complete(result: Any) -> CompleteMessage:
    return CompleteMessage(request_id="r1", connection_id="c1", at=AT, result=result)


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (
            progress(),
            (
                '{"type":"progress","request_id":"r1","percentage":45.5,"message":"Reading",'
                '"metadata":{"rows":3},"timestamp":1700000000}'
            ),
        ),
        (
            progress(fraction=1 / 3, message=None, details=None),
            (
                '{"type":"progress","request_id":"r1","percentage":33.33,"message":"",'
                '"metadata":{},"timestamp":1700000000}'
            ),
        ),
        (
            complete({"url": "https://example.com/ä"}),
            (
                '{"type":"complete","request_id":"r1","success":true,'
                '"result":{"url":"https://example.com/ä"},"timestamp":1700000000}'
            ),
        ),
        (
            complete({"d": Decimal("1.5"), "b": b"\x00\xff", "s": {"b", "a"}, "n": {3, 1}}),
            (
                '{"type":"complete","request_id":"r1","success":true,'
                '"result":{"d":1.5,"b":"AP8=","s":["a","b"],"n":[1,3]},"timestamp":1700000000}'
            ),
        ),
        (
            ErrorMessage(request_id="r1", connection_id=None, at=AT, code="NO", text="no rows"),
            (
                '{"type":"error","request_id":"r1","error":{"code":"NO","message":"no rows"},'
                '"timestamp":1700000000}'
            ),
        ),
    ],
)
def test_messages_have_the_documented_json(message: Any, text: str) -> None:
    """The names, types and units of all fields are as documented."""
    assert encode(message).decode() == text


@pytest.mark.parametrize(
    ("result", "nested"),
    [
        ({"n": 1}, {"success": True, "n": 1}),
        ({"data": 5}, {"success": True, "data": 5}),
        ({}, {"success": True}),
        ({"success": False, "why": "x"}, {"success": False, "why": "x"}),
    ],
)
def test_success_may_be_inside_the_result_too(
    result: dict[str, Any], nested: dict[str, Any]
) -> None:
    """What the handler says there is kept. Nothing else changes, and the result is not touched."""
    before = dict(result)
    document = json.loads(encode(complete(result)))
    assert json.loads(encode(replace(complete(result), success_in_result=True))) == document | {
        "result": nested
    }
    assert result == before


@pytest.mark.parametrize("success", [True, False])
def test_success_is_there_when_the_result_is_omitted(*, success: bool) -> None:
    """A client that reads `result.success` does not fail."""
    message = complete({"text": "x" * MAX_BYTES, "success": success})
    document = json.loads(encode(replace(message, success_in_result=True)))
    assert document["result"] == {"success": success}
    assert document["result_omitted"] is True


def test_a_result_that_is_too_long_is_omitted() -> None:
    """A message of up to 128 KB is sent whole. A longer one says that its result is omitted."""
    room = MAX_BYTES - len(encode(complete({"x": ""})))
    assert len(encode(complete({"x": "x" * room}))) == MAX_BYTES
    document = json.loads(encode(complete({"x": "x" * (room + 1)})))
    omitted = (document["success"], document["result"], document["result_omitted"])
    assert omitted == (True, None, True)


@pytest.mark.parametrize("message", ["m", "\U0001f600" * 100_000, '"' * 300_000, "\x00" * 300_000])
def test_progress_that_is_too_long_loses_its_details(message: str) -> None:
    """The details are omitted, and the text is cut."""
    encoded = encode(progress(message=message, details={"x": "x" * 200_000}))
    assert len(encoded) <= MAX_BYTES
    document = json.loads(encoded)
    assert (document["metadata"], document["metadata_omitted"]) == ({}, True)
    assert message.startswith(document["message"])
    assert document["message"]


@pytest.mark.parametrize("text", ["x" * 400_000, "\U0001f600" * 100_000, "\x00" * 300_000])
def test_an_error_that_is_too_long_is_cut(text: str) -> None:
    """The code and the text of an error are cut, so that the message fits."""
    encoded = encode(ErrorMessage(request_id="r1", connection_id=None, at=AT, code=text, text=text))
    assert len(encoded) <= MAX_BYTES
    error = json.loads(encoded)["error"]
    assert text.startswith(error["message"])
    assert text.startswith(error["code"])
    assert error["message"]
    assert error["code"]
