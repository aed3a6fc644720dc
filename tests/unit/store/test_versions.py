"""Derived Versions: the same for the same claim, and different from all others."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest

from streamer_store.versions import cancel_version, has_version, settle_version


@pytest.mark.parametrize("derive", [cancel_version, settle_version])
def test_a_derived_version_is_the_same_each_time(derive: Callable[[str], str]) -> None:
    """Two processes derive the same Version from the same one. It is a new UUID."""
    derived = derive("seen")
    assert derived == derive("seen")
    assert derived != "seen"
    assert str(uuid.UUID(derived)) == derived


def test_a_derived_version_is_a_uuid_of_version_5() -> None:
    """Releases that use `uuid.uuid5` derive the same."""
    settles = uuid.UUID("b0a1b1f2-3c1e-4a55-8d43-0f6d5a1c7e22")
    assert settle_version("mine") == str(uuid.uuid5(settles, "mine"))
    cancels = uuid.UUID("6f1ff2c4-5d0b-4b57-9c8e-6a3e5a6f0d11")
    assert cancel_version("mine") == str(uuid.uuid5(cancels, "mine"))


def test_cancellations_of_different_versions_have_different_versions() -> None:
    """The cancellation of a cancellation differs from both."""
    once = cancel_version("seen")
    assert len({once, cancel_version(once), cancel_version("other")}) == 3


def test_outcome_and_cancellation_of_a_claim_have_different_versions() -> None:
    """Neither is mistaken for the other, for the claim, or for another claim's outcome.

    Proves VERSION-1.
    """
    derived = {"mine", settle_version("mine"), cancel_version("mine"), settle_version("other")}
    assert len(derived) == 4


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ({"Version": {"S": "v"}}, True),
        ({"Version": {"S": "w"}}, False),
        ({"Version": {"N": "1"}}, False),
        ({}, False),
    ],
)
def test_only_the_exact_version_is_recognised(
    item: dict[str, dict[str, str]], *, expected: bool
) -> None:
    """Another text, another type or no Version at all is not it."""
    assert has_version(item, "v") == expected


@pytest.mark.parametrize("seen", ["", "mine", "\u00fc", "0" * 500])
def test_derived_versions_are_uuids_of_version_5(seen: str) -> None:
    """Another release, or a program in another language, derives the same (RFC 9562)."""
    for derive, namespace in (
        (cancel_version, "6f1ff2c4-5d0b-4b57-9c8e-6a3e5a6f0d11"),
        (settle_version, "b0a1b1f2-3c1e-4a55-8d43-0f6d5a1c7e22"),
    ):
        assert derive(seen) == str(uuid.uuid5(uuid.UUID(namespace), seen))
