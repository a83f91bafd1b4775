"""How far from the plan, and how long until back: by hand."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from headrace.simulate.disturbances import _recovery, disturbances


def test_recovery_is_the_minute_from_which_it_stays():
    assert _recovery(np.zeros(100)) == 0
    assert _recovery(np.array([0.05] * 7 + [0.01] * 60)) == 7
    assert _recovery(np.array([0.0] * 10 + [0.03] + [0.0] * 60)) == 11
    assert _recovery(np.array([0.0] * 40 + [0.03] + [0.0] * 60)) == 0
    assert _recovery(np.array([0.03] * 20)) is None
    assert _recovery(np.array([0.03] * 5 + [0.0] * 10)) == 5
    assert _recovery(np.array([0.03] * 5 + [np.nan] * 3 + [0.0] * 40)) == 8


def test_each_disturbance_lasts_until_the_next(small):
    def change(values):
        values["days"] = 1
        values["traffic"]["swings"] = [{"at_hour": 2, "hours": 2, "factor": 5}]
        values["outages"] = [{"at_hour": 5, "hours": 0.5, "kind": "exchange"}]
        values["edits"] = [
            {"at_hour": 8, "campaign_id": "spring", "daily_micros": 5},
            {"at_hour": 9, "campaign_id": "other", "daily_micros": 5},
        ]
        values["campaigns"].append({**values["campaigns"][0], "campaign_id": "other"})
        values["values"]["other/shoes"] = values["values"]["spring/shoes"]
        values["shocks"] = [{"at_hour": 20, "hours": 9, "factor": 2}]

    plan = small.plan(change)
    gap = np.zeros(24 * 60)
    gap[150], gap[5 * 60 + 40], gap[8 * 60 + 5] = -0.03, 0.04, 0.01
    result = SimpleNamespace(curve=SimpleNamespace(gap=gap), campaign=SimpleNamespace(campaign_id="spring"))
    found = [(each.what, each.at_minute, each.deviation) for each in disturbances(plan.scenario, result)]
    assert found == [
        ("traffic times 5", 120, 0.03),
        ("traffic as usual", 240, 0.0),
        ("end of 30 minutes without exchange", 330, 0.04),
        ("an edit", 480, 0.01),
        ("prices times 2", 1200, 0.0),
    ]
    gap[:] = np.nan
    assert {each.recovery_minutes for each in disturbances(plan.scenario, result)} == {None}
