"""The base of the settings of each component."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Component(BaseModel):
    """Settings that cannot be changed. Unknown names are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")
