"""A role that is assumed with the credentials of a program."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from streamer_store import StoreUnavailable, open_stores
from streamer_store.dynamo import credentials

pytestmark = pytest.mark.anyio

_ANSWER = """<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
<AssumeRoleResult><Credentials><AccessKeyId>role</AccessKeyId><SecretAccessKey>s</SecretAccessKey>
<SessionToken>t</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials>
</AssumeRoleResult></AssumeRoleResponse>"""
_PROGRAM = '{"Version": 1, "AccessKeyId": "program", "SecretAccessKey": "s"}'


class Sts(ThreadingHTTPServer):
    """An STS that lets everyone assume a role. It records the caller and region of each call."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.scopes: list[str] = []


class _Answer(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Sts)
        scope = re.search(r"Credential=(\w+)/\d+/([\w-]+/\w+)", self.headers["Authorization"])
        assert scope is not None
        self.server.scopes.append(f"{scope[1]} {scope[2]}")
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(_ANSWER)))
        self.end_headers()
        self.wfile.write(_ANSWER.encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def sts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sts]:
    config = tmp_path / "config"
    config.write_text(
        "[profile base]\n"
        f"credential_process = cat {tmp_path / 'output'}\n"
        "[profile role]\n"
        "role_arn = arn:aws:iam::123456789012:role/worker\n"
        "source_profile = base\n"
    )
    (tmp_path / "output").write_text(_PROGRAM)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_PROFILE", "role")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    with Sts() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


async def test_a_role_is_assumed_in_the_region_of_the_stores(sts: Sts) -> None:
    """The region given to `open_stores` is used where the AWS settings name none."""
    nowhere = "http://127.0.0.1:1"  # nobody listens there
    async with open_stores(endpoint_url=nowhere, region="eu-west-1", attempts=1) as stores:
        with pytest.raises(StoreUnavailable):
            await stores.requests.get("r")
    assert set(sts.scopes) == {"program eu-west-1/sts"}


async def test_a_credential_program_of_a_role_has_a_time_limit(
    sts: Sts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program is killed, and opening raises StoreUnavailable."""
    monkeypatch.setattr(credentials, "PROGRAM_SECONDS", 0.3)
    config = tmp_path / "config"
    config.write_text(config.read_text().replace(f"cat {tmp_path / 'output'}", "sleep 60"))
    with pytest.raises(StoreUnavailable, match=r"did not answer within 0.3 s"):
        async with open_stores(endpoint_url="http://127.0.0.1:1", region="eu-west-1"):
            pass
    assert sts.scopes == []
