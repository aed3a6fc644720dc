"""The payload schema, from the annotation of a handler's first parameter."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, field_validator
from typing_extensions import TypedDict

from streamer_worker import Context, PayloadInvalid, SyncContext, handler
from streamer_worker.errors import HandlerLoadError
from streamer_worker.handlers.registry import registry
from streamer_worker.handlers.schema import schema_of

if TYPE_CHECKING:
    from fractions import Fraction  # as a type checker alone knows it


class Report(BaseModel):
    model_config = ConfigDict(extra="forbid")

    rows: int = Field(gt=0)
    title: str = "untitled"


@dataclass
class Span:
    begin: int
    end: int = 10


class Names(TypedDict):
    names: list[str]


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]
    tricks: list[str]


Animal = Annotated[Cat | Dog, Field(discriminator="kind")]


async def model(payload: Report, ctx: Context) -> None: ...
async def data_class(payload: Span, ctx: Context) -> None: ...
async def typed_dict(payload: Names, ctx: Context) -> None: ...
async def union(payload: Cat | Dog, ctx: Context) -> None: ...
async def tagged(payload: Animal, ctx: Context) -> None: ...
async def bare_dict(payload: dict, ctx: Context) -> None: ...  # type: ignore[type-arg]
async def typed_mapping(payload: dict[str, int], ctx: Context) -> None: ...
async def anything(payload: Any, ctx: Context) -> None: ...
async def nothing_said(payload, ctx) -> None: ...  # type: ignore[no-untyped-def] # noqa: ANN001
async def all_of_them(*both: Any) -> None: ...
def in_thread(payload: Report, ctx: SyncContext) -> None: ...
async def typed_state(payload: Report, ctx: Context[int]) -> None: ...
async def unread_context(payload: Report, ctx: Fraction) -> None: ...


@functools.wraps(model)
async def wrapped(*args: Any) -> None:
    await model(*args)


class Service:
    async def method(self, payload: Report, ctx: Context) -> None: ...


@pytest.mark.parametrize(
    ("function", "payload", "expected"),
    [
        (model, {"rows": 3}, Report(rows=3)),
        (model, {"rows": Decimal(3), "title": "a"}, Report(rows=3, title="a")),
        (in_thread, {"rows": 3}, Report(rows=3)),
        (typed_state, {"rows": 3}, Report(rows=3)),
        (unread_context, {"rows": 3}, Report(rows=3)),
        (wrapped, {"rows": 3}, Report(rows=3)),
        (Service().method, {"rows": 3}, Report(rows=3)),
        (functools.partial(model), {"rows": 3}, Report(rows=3)),
        (data_class, {"begin": 1}, Span(1, 10)),
        (typed_dict, {"names": ["Ada"]}, {"names": ["Ada"]}),
        (union, {"kind": "dog", "tricks": []}, Dog(kind="dog", tricks=[])),
        (tagged, {"kind": "cat", "lives": 9}, Cat(kind="cat", lives=9)),
        (bare_dict, {"any": [1, None]}, {"any": [1, None]}),
        (typed_mapping, {"a": 1}, {"a": 1}),
        (anything, {"any": b"bytes"}, {"any": b"bytes"}),
        (nothing_said, {"any": 1}, {"any": 1}),
        (all_of_them, {"any": 1}, {"any": 1}),
        (bare_dict, None, {}),
    ],
)
def test_a_payload_that_fits_becomes_the_annotated_type(
    function: Any, payload: Any, expected: Any
) -> None:
    """A model, a dataclass, a TypedDict and so on."""
    assert schema_of(function).parse(payload) == expected


@pytest.mark.parametrize(
    ("function", "payload", "paths"),
    [
        (model, {}, ("rows",)),
        (model, None, ("rows",)),
        (model, {"rows": 0, "title": 5, "more": 1}, ("rows", "title", "more")),
        (data_class, {"begin": "x"}, ("begin",)),
        (typed_dict, {"names": ["Ada", 7]}, ("names.1",)),
        (tagged, {"kind": "cow"}, ("",)),
        (tagged, {"kind": "cat"}, ("cat.lives",)),
        (typed_mapping, {"a": "b"}, ("a",)),
    ],
)
def test_a_payload_that_does_not_fit_is_refused(function: Any, payload: Any, paths: Any) -> None:
    """The error has the path and the text of every fault."""
    with pytest.raises(PayloadInvalid) as caught:
        schema_of(function).parse(payload)
    assert caught.value.paths == paths
    assert str(caught.value).startswith("the payload does not fit: ")
    for path, fault in caught.value.fields:
        assert (f"{path}: {fault}" if path else fault) in str(caught.value)


def test_the_error_has_no_values_of_the_payload() -> None:
    """They may be secret, and the producer knows them."""
    with pytest.raises(PayloadInvalid) as caught:
        schema_of(model).parse({"rows": "s3cret"})
    assert str(caught.value) == (
        "the payload does not fit: rows: Input should be a valid integer,"
        " unable to parse string as an integer"
    )


class Checked(BaseModel):
    rows: int

    @field_validator("rows")
    @classmethod
    def _rows(cls, value: int) -> int:
        if value == 1:
            raise ValueError("must be two or more")
        if value == 0:
            raise AssertionError("must not be zero")
        return value


async def checked(payload: Checked, ctx: Context) -> None: ...


@pytest.mark.parametrize(("rows", "text"), [(1, "must be two or more"), (0, "must not be zero")])
def test_the_text_of_a_validator_is_the_fault(rows: int, text: str) -> None:
    """As the author of the model wrote it, without pydantic's prefix."""
    with pytest.raises(PayloadInvalid) as caught:
        schema_of(checked).parse({"rows": rows})
    assert caught.value.fields == (("rows", text),)


def test_of_many_faults_only_some_are_listed() -> None:
    """The text must fit into the table."""
    with pytest.raises(PayloadInvalid) as caught:
        schema_of(typed_mapping).parse({str(number): "x" for number in range(1000)})
    assert len(caught.value.fields) == 20


@pytest.mark.parametrize("function", [model, bare_dict])
def test_the_routers_metadata_is_not_part_of_the_payload(function: Any) -> None:
    """A model that forbids extra fields accepts the rest. The context has the metadata."""
    payload = {"rows": 3, "_metadata": {"source_ip": "192.0.2.1"}}
    assert "_metadata" not in dict(schema_of(function).parse(payload))
    assert "_metadata" in payload


def test_metadata_of_another_kind_is_the_payloads_own() -> None:
    """Only a mapping under `_metadata` is the router's."""
    assert schema_of(bare_dict).parse({"_metadata": 5}) == {"_metadata": 5}


async def swapped(ctx: Context, payload: dict[str, Any]) -> None: ...
async def a_number(payload: int, ctx: Context) -> None: ...
async def a_list(payload: list[str], ctx: Context) -> None: ...
async def unreadable(payload: Fraction, ctx: Context) -> None: ...
async def no_schema(payload: Service, ctx: Context) -> None: ...
async def wrong_context(payload: Report, ctx: SyncContext) -> None: ...
def wrong_sync_context(payload: Report, ctx: Context) -> None: ...


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (swapped, "the payload comes first, then the context; 'ctx'"),
        (a_number, "'payload' is annotated as int, but a payload is a mapping"),
        (a_list, r"'payload' is annotated as list\[str\], but a payload is a mapping"),
        (unreadable, "the annotation of 'payload' cannot be read.*TYPE_CHECKING"),
        (no_schema, "'payload' is annotated with what pydantic cannot check.*Service"),
        (wrong_context, "an async function takes a Context: annotate 'ctx' as Context"),
        (wrong_sync_context, "a plain function takes a SyncContext: annotate 'ctx' as SyncContext"),
    ],
)
def test_a_wrong_signature_is_refused_when_it_is_loaded(function: Any, text: str) -> None:
    """The error names the handler, its action, the parameter and the fault."""
    with pytest.raises(HandlerLoadError, match=f"handler {function.__name__} of 'x': {text}"):
        registry([handler("x")(function)])


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (model, "Report"),
        (union, "Cat | Dog"),
        (typed_mapping, "dict[str, int]"),
        (bare_dict, "dict"),
        (nothing_said, "dict"),
    ],
)
def test_a_schema_has_a_name(function: Any, name: str) -> None:
    """It is the annotation as the author writes it."""
    assert schema_of(function).name.replace(f"{__name__}.", "") == name


def test_a_schema_has_a_json_schema() -> None:
    """It has the fields and their rules."""
    schema = schema_of(model).json_schema()
    assert schema["required"] == ["rows"]
    assert schema["properties"]["rows"]["exclusiveMinimum"] == 0
    assert schema_of(nothing_said).json_schema() == {"type": "object"}
