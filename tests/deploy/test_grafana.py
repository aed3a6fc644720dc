"""The dashboard: its queries, titles, legends and layout."""

from __future__ import annotations

import re

from deploy.dashboard import DASHBOARD, names_in, panels, queries, variables
from unit.worker.exposed import exposed_names

# Metrics of the process, which are not the worker's own.
_OTHERS = {"process_resident_memory_bytes"}


def test_every_query_uses_metrics_that_exist() -> None:
    """This holds for the queries of panels and of variables."""
    used_queries = [*(query for _, query in queries()), *variables().values()]
    used = set().union(*(names_in(query) for query in used_queries))
    assert used <= exposed_names()
    for title, query in queries():
        assert names_in(query) or any(name in query for name in _OTHERS), title


def test_every_metric_of_the_worker_is_shown() -> None:
    """Two metrics are not shown, because other panels show the same."""
    families = {re.sub(r"_(bucket|count|sum)$", "", name) for name in exposed_names()}
    shown = set().union(*(names_in(query) for _, query in queries()))
    shown = {re.sub(r"_(bucket|count|sum)$", "", name) for name in shown}
    left = {"streamer_worker_last_poll_success_timestamp_seconds", "streamer_worker_draining"}
    assert families - shown == left


def test_queries_follow_the_variables() -> None:
    """Every query filters by fleet, and where it has them by worker and action."""
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


def test_panels_are_described() -> None:
    """Each panel has a description, and where it fits a unit and a legend."""
    titles = [panel["title"] for panel in panels()]
    for panel in panels():
        assert panel["description"].endswith("."), panel["title"]
        if panel["type"] in {"timeseries", "stat"}:
            assert panel["fieldConfig"]["defaults"]["unit"]
        if panel["type"] == "timeseries":
            assert all(target["legendFormat"] for target in panel["targets"])
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    assert 20 <= len(titles) <= 45


def test_panels_do_not_overlap_or_leave_the_grid() -> None:
    """The grid of Grafana has 24 columns."""
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
