"""Where the tables are, and which setting or variable says so."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from streamer_worker.cli.findings import Finding

if TYPE_CHECKING:
    from streamer_store import Target
    from streamer_store.dynamo.addressing import Address
    from streamer_worker.settings import Settings

_AWS: Final = "AWS's own endpoint"
_REGION_TODO: Final = "set STREAMER_REGION or AWS_REGION, or name a region in the AWS profile"


@dataclass(frozen=True, slots=True)
class Sources:
    """Names the source of an address: the file or the variable of a setting, or AWS's."""

    config: Path | None

    def name(self, setting: str, source: str) -> str:
        """Return the name. `source`: that of a Target, for the setting of this name."""
        from streamer_worker.settings import effective_settings, variable_of

        if source != "argument":
            return source
        effective = {each.name: each.source for each in effective_settings(self.config)}
        return str(self.config) if effective[setting] == "file" else variable_of(setting)


def configured_address(settings: Settings) -> Address:
    """Return the endpoint and the region that the settings and the AWS settings name.

    Needs no credentials, and makes no call. Raises InvalidInput for AWS settings that are wrong.
    """
    from streamer_store.dynamo import addressing

    return addressing.configured_address(endpoint_url=settings.endpoint_url, region=settings.region)


def region_finding(address: Address, sources: Sources) -> Finding:
    """Return the finding about the region: an error if there is none."""
    region, source = address.region
    if region is None:
        return Finding("error", "region", "there is no AWS region", _REGION_TODO)
    if source == "default":
        return Finding("ok", "region", f"{region}: none is set, and the endpoint is not AWS's")
    return Finding("ok", "region", f"{region}, from {sources.name('region', source)}")


def endpoint_finding(endpoint: str | None, source: str, sources: Sources) -> Finding:
    """Return the finding about the endpoint. None: AWS decides, and the region is not known."""
    from streamer_store.target import without_password

    endpoint = endpoint and without_password(endpoint)
    if source == "default":
        return Finding("ok", "endpoint", f"{endpoint}, {_AWS}" if endpoint else _AWS)
    return Finding("ok", "endpoint", f"{endpoint}, from {sources.name('endpoint_url', source)}")


def target_finding(target: Target, sources: Sources) -> Finding:
    """Return the finding about the endpoint that an open client calls."""
    return endpoint_finding(target.endpoint, target.endpoint_source, sources)
