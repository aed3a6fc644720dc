"""The settings of tables that have a name of their own."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from streamer_worker.settings.component import Component
from streamer_worker.settings.patterns import TABLE_NAME

OwnTableName = Annotated[str | None, Field(pattern=TABLE_NAME)]


class TableNameSettings(Component):
    """Names of tables that do not have the prefix. By default each is `table_prefix` and its own
    name, such as `streamer_requests`.
    """

    connections: OwnTableName = Field(default=None, description="Name of the table of connections")
    requests: OwnTableName = Field(default=None, description="Name of the table of requests")
    subscriptions: OwnTableName = Field(
        default=None, description="Name of the table of subscriptions"
    )
    workers: OwnTableName = Field(default=None, description="Name of the table of workers")

    @property
    def given(self) -> dict[str, str]:
        """The names that are set, by the table that they are of."""
        return self.model_dump(exclude_none=True)
