"""The environment of programs that must not reach AWS, and the line that sets it in a shell."""

from __future__ import annotations

import os
import shlex
from typing import Final

# As parts of an environment: settings of the caller that would lead elsewhere are replaced.
_DUMMY: Final = {
    "AWS_ACCESS_KEY_ID": "local",
    "AWS_SECRET_ACCESS_KEY": "local",  # pragma: allowlist secret
}
_WITHOUT_AWS: Final = _DUMMY | {
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "NO_PROXY": "127.0.0.1",
    "no_proxy": "127.0.0.1",  # takes precedence over NO_PROXY
}
_REMOVED: Final = ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SESSION_TOKEN")


def use_dummy_credentials() -> None:
    """Replace the AWS credentials in os.environ, and what could provide others, by dummy ones."""
    for name in _REMOVED:
        os.environ.pop(name, None)
    os.environ.update(_WITHOUT_AWS)


def export_line(url: str, **more: str) -> str:
    """Return the shell command after which other terminals use the DynamoDB at this URL."""
    variables = _DUMMY | {"STREAMER_ENDPOINT_URL": url} | more
    return "export " + " ".join(f"{name}={shlex.quote(text)}" for name, text in variables.items())
