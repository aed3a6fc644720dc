"""The dashboard: it asks for what exists, and is no heap."""

from __future__ import annotations

import re

from deploy.dashboard import DASHBOARD, names_in, panels, queries, variables
from unit.worker.exposed import exposed_names

# From other exporters, and from Prometheus itself.
_OTHERS = {"process_resident_memory_bytes"}


def test_every_query_asks_for_metrics_that_exist() -> None:
    """The variables' queries, too."""
    asked = [*(query for _, query in queries()), *variables().values()]
    used = set().union(*(names_in(query) for query in asked))
    assert used <= exposed_names()
    for title, query in queries():
        assert names_in(query) or any(name in query for name in _OTHERS), title


def test_every_metric_of_ours_is_shown_somewhere() -> None:
    """But for those that would say the same twice."""
    families = {re.sub(r"_(bucket|count|sum)$", "", name) for name in exposed_names()}
    shown = set().union(*(names_in(query) for _, query in queries()))
    shown = {re.sub(r"_(bucket|count|sum)$", "", name) for name in shown}
    left = {"streamer_worker_last_poll_success_timestamp_seconds", "streamer_worker_draining"}
    assert families - shown == left


def test_queries_follow_the_variables() -> None:
    """Which fleet, which worker, which action; there is no other variable to choose."""
    assert set(variables()) == {"datasource", "job", "instance", "action"}
    for title, query in queries():
        assert 'job=~"$job"' in query, title
        assert set(re.findall(r"\$(\w+)", query)) <= {
            "job",
            "instance",
            "action",
            "__rate_interval",
        }
        if "worker_requests_finished" in query or "worker_request_duration" in query:
            assert 'action=~"$action"' in query, title


def test_panels_say_what_they_show() -> None:
    """A title of its own, what it means, a unit, a legend."""
    titles = [panel["title"] for panel in panels()]
    for panel in panels():
        assert panel["description"].endswith("."), panel["title"]
        if panel["type"] in {"timeseries", "stat"}:
            assert panel["fieldConfig"]["defaults"]["unit"]
        if panel["type"] == "timeseries":
            assert all(target["legendFormat"] for target in panel["targets"])
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    assert 20 <= len(titles) <= 45


def test_panels_neither_overlap_nor_leave_the_page() -> None:
    """On Grafana's grid of 24 columns."""
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells
