"""The README's code runs as it stands, against a real server."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from headrace.v1 import campaigns_pb2, catalog_pb2

ROOT = Path(__file__).parents[2]


def test_the_examples_run(start: Callable[..., Any], capsys: Any) -> None:
    server = start()
    server.client.upsert_items([catalog_pb2.Item(item_id=f"i{i}", attributes={"name": f"item {i}"}) for i in range(60)])
    server.client.fund_advertiser("deposit", "brand", 1_000_000_000)
    server.client.create_campaign(
        campaigns_pb2.Campaign(
            campaign_id="spring",
            advertiser_id="brand",
            limits=campaigns_pb2.Limits(daily_micros=100_000_000),
            line_items=[
                campaigns_pb2.LineItem(line_item_id="main", item_ids=["i1", "i2"], action_worth_micros=5_000_000)
            ],
            pacing_plan=campaigns_pb2.PACING_PLAN_ASAP,
        )
    )
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(blocks) >= 2
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block.replace("127.0.0.1:50051", server.address), "README.md", "exec"), names)
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 4
    assert printed[-1].startswith("spring i")
    names["client"].close()
    (campaign,) = server.client.list_campaigns("brand").campaigns
    assert campaign.accounts[0].billed_micros == 4_100


def test_every_document_and_file_that_is_named_exists() -> None:
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"
