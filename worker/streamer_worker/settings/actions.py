"""The settings of single actions, which override what `@handler` says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import NoDecode

from streamer_worker.rate_texts import parse_rate
from streamer_worker.sanitize import pydantic_message
from streamer_worker.settings.component import Component
from streamer_worker.settings.parsing import as_options


def _valid_rate(text: str) -> str:
    parse_rate(text)
    return text


RateText = Annotated[str, AfterValidator(_valid_rate)]


class ActionSettings(Component):
    """The limits of one action. What is not set is as the handler says."""

    max_concurrency: int | None = Field(default=None, ge=1, le=1_000_000)
    max_concurrency_scope: Literal["worker", "fleet"] | None = None
    rate_limit: RateText | None = None
    rate_limit_per_tenant: RateText | None = None

    @property
    def given(self) -> dict[str, Any]:
        """The options that are set, by name."""
        return self.model_dump(exclude_none=True)


Actions = Annotated[Mapping[str, ActionSettings], NoDecode, BeforeValidator(as_options)]


def action_fault(location: Sequence[object], fault: Any) -> str:
    """Return the text of a fault in the settings of an action, with the place."""
    name = ".".join(map(str, location))
    if fault["type"] == "value_error":
        return f"{name}: {fault['ctx']['error']}"
    return f"{name}: {pydantic_message(fault)}, not {fault['input']!r}"
