"""The layers of a worker, to which the samples of a profile are assigned."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

_ENTRIES: Final = "index pages: decode and choose"
_ITEMS: Final = "store: item to request"
LAYERS: Final = {
    "client: HTTP and event loop's transport": ("aiohttp/", "httpsession", "awsrequest", "yarl/"),
    "client: signatures": ("botocore/auth", "signers.py"),
    "client: JSON, requests": ("dynamo/serializer", "botocore/serialize"),
    "client: JSON, answers": ("botocore/parsers", "aiobotocore/parsers", "dynamo/parser"),
    "client: checks of answers": ("dynamo/answers", "dynamo/session"),
    "client: the rest": ("aiobotocore/", "botocore/", "dynamo/client", "dynamo/calls"),
    _ENTRIES: (
        *("index_reader", "eligibility", "selection", "seen.py", "lane_reader", "request_reader"),
    ),
    "group commit, statements": ("group_commit", "write_queue", "dynamo/"),
    "log line": ("monitoring/log", "worker_log", "structlog/"),
    "metrics, health": ("metrics.py", "metric_families", "health.py", "prometheus_client/"),
    "claim: poller, claimer, slots": ("poller", "claimer", "slots.py", "probation", "limits.py"),
    _ITEMS: ("codec", "decoding"),
    "store: writes as data": ("writes", "request_attributes", "versions", "claims.py", "values"),
    "handler: task, context, payload": ("attempt", "invoker", "channels", "handlers/", "forks"),
    "outcome, settle, progress": ("outcome", "settler", "serialization", "progress", "announcer"),
    "dispatch, scopes of a request": ("dispatcher", "deadlines", "request_tasks", "events/"),
}
"""For each layer, parts of the paths of its files. A file is in the first layer that fits."""
_OTHER: Final = "event loop, tasks, the rest"
_ENTRY: Final = re.compile(r"(candidate|due_entry) \(.*codec\.py")
"""The functions of codec.py that decode entries of an index."""
_LOOP: Final = "_run_once"


def layer_of(stack: Sequence[str]) -> str | None:
    """Return the layer of the innermost function that has one. None: before the event loop ran.

    `stack`: functions as `name (path:line)`, the innermost last.
    """
    if not any(_LOOP in function for function in stack):
        return None
    for function in reversed(stack):
        for layer, fragments in LAYERS.items():
            if any(fragment in function for fragment in fragments):
                return _ENTRIES if layer == _ITEMS and any(map(_ENTRY.match, stack)) else layer
    return _OTHER
