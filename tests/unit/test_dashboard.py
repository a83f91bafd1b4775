"""The Grafana dashboard and the alert rules, as files: whole, placed without overlap, every number with its unit."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

GRAFANA = Path(__file__).parents[2] / "docs" / "grafana"
DASHBOARD: dict[str, Any] = json.loads((GRAFANA / "headrace.json").read_text("utf-8"))
PANELS: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
ALERTS = (GRAFANA / "alerts.yml").read_text("utf-8")


def cells(panel: dict[str, Any]) -> set[tuple[int, int]]:
    at = panel["gridPos"]
    return set(itertools.product(range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])))


def test_grafana_can_import_it() -> None:
    assert DASHBOARD["schemaVersion"] >= 36
    assert {"title", "uid", "templating", "time", "panels"} <= DASHBOARD.keys()
    # no data source of somebody's own installation
    assert DASHBOARD["templating"]["list"][0]["type"] == "datasource"
    assert {panel["datasource"]["uid"] for panel in PANELS} == {"${datasource}"}
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)


def test_panels_lie_side_by_side() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        assert not taken & cells(panel), panel["title"]
        assert all(x < 24 for x, _ in cells(panel))
        taken |= cells(panel)


def test_every_panel_has_a_unit_that_fits_its_metrics() -> None:
    for panel in PANELS:
        unit, title = panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        for target in panel["targets"]:
            expression = target["expr"]
            assert expression.count("(") == expression.count(")"), title
            if "_bytes" in expression:
                assert unit == "bytes", title
            elif "histogram_quantile" in expression or "_age_seconds" in expression:
                assert unit == "s", title
            elif "_timestamp_seconds" in expression:
                assert unit.startswith("dateTime"), title
                assert expression.endswith("* 1000"), title
            elif "_micros" in expression:
                assert expression.endswith("/ 1e6"), title
            elif re.match(r"sum by .*rate\(.* / sum by .*rate\(", expression):
                assert unit in ("percentunit", "none"), title
            elif expression.startswith("sum by") and "rate(" in expression and "_sum" not in expression:
                assert unit in ("reqps", "none"), title
            # a counter is looked at by its rate, never by itself
            for name in re.findall(r"\b\w+_total\b", expression):
                assert re.search(rf"(rate|increase)\({name}", expression), title


def test_rules_name_what_to_do_about_what_matters() -> None:
    rules = re.findall(r"- alert: (\w+)\n(.*?)(?=\n      - alert|\n  - name|\Z)", ALERTS, re.DOTALL)
    assert {
        "HeadraceOverspend",
        "HeadraceStrandedMoney",
        "HeadraceShedding",
        "HeadraceArtifactOld",
        "HeadraceErrors",
        "HeadracePacingError",
        "HeadraceDiskFull",
    } <= {name for name, _ in rules}
    for name, body in rules:
        assert re.search(r"severity: (page|ticket)", body), name
        assert "summary: " in body, name
        assert "expr: " in body, name
