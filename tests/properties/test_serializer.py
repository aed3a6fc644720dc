"""Statements are serialised as botocore serialises them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal
from hypothesis import given
from hypothesis import strategies as st

from properties.strategies import values
from streamer_store import open_stores
from streamer_store.values import encode
from support import client_of

statements = st.lists(
    st.fixed_dictionaries(
        {"Statement": st.text(min_size=1)},
        optional={"Parameters": st.lists(values.map(encode), min_size=1)},
    ),
    min_size=1,
)


class _SentError(Exception):
    """Ends a call that would be sent."""


@pytest.fixture(scope="module")
def clients(portal: BlockingPortal) -> Iterator[tuple[Any, Any]]:
    """Open our client, and one that validates its arguments, for which botocore serialises."""
    opened = []
    with ExitStack() as closing:
        for validates in (False, True):
            stores = closing.enter_context(
                portal.wrap_async_context_manager(
                    open_stores(endpoint_url="http://127.0.0.1:1", validate_parameters=validates)
                )
            )
            opened.append(client_of(stores.engine))
        yield opened[0], opened[1]


def sent(portal: BlockingPortal, client: Any, **arguments: Any) -> Any:
    """Return the document that the client would send."""
    found = []

    def keep(request: Any, **_: Any) -> None:
        found.append(json.loads(request.body))
        assert request.headers["Content-Length"] == str(len(request.body))
        raise _SentError

    async def send() -> None:
        await client.batch_execute_statement(**arguments)

    client.meta.events.register("before-send", keep)
    try:
        with pytest.raises(_SentError):
            portal.call(send)
    finally:
        client.meta.events.unregister("before-send", keep)
    return found[0]


@given(statements=statements)
def test_statements(
    portal: BlockingPortal, clients: tuple[Any, Any], statements: list[dict[str, Any]]
) -> None:
    """Any statements, with parameters of all types, become the same JSON."""
    ours, theirs = clients
    arguments = {"Statements": statements, "ReturnConsumedCapacity": "INDEXES"}
    document = sent(portal, ours, **arguments)
    assert document == sent(portal, theirs, **arguments)
