"""Campaigns are checked, durable, audited, mirrored into the ledger and followed by other processes."""

from __future__ import annotations

import sqlite3

import pytest

from headrace.bidding.campaigns import CampaignStore
from headrace.errors import AlreadyExistsError, InvalidRequestError, LedgerNotOwnerError, NotFoundError
from headrace.v1 import campaigns_pb2 as pb


def bad_campaigns(make):
    line = make.line_item
    return [
        ("campaign_id", make.campaign("")),
        ("campaign_id", make.campaign("x" * 65)),
        ("campaign_id", make.campaign("a/b")),
        ("campaign_id", make.campaign("a\nb")),
        ("advertiser_id", make.campaign(advertiser_id="")),
        ("name", make.campaign(name="n" * 257)),
        ("currency", make.campaign(currency="usd")),
        ("currency", make.campaign(currency="DOLLARS")),
        ("time_zone", make.campaign(time_zone="Mars/Olympus")),
        ("time_zone", make.campaign(time_zone="../etc/passwd")),
        ("flight_end_ms", make.campaign(flight_start_ms=10, flight_end_ms=10)),
        ("flight_start_ms", make.campaign(flight_start_ms=-1)),
        ("flight_end_ms", make.campaign(flight_end_ms=1 << 62)),
        ("limits.daily_micros", make.campaign(limits=pb.Limits(daily_micros=-1))),
        ("limits.lifetime_micros", make.campaign(limits=pb.Limits(lifetime_micros=1 << 62))),
        ("ledger_mode", make.campaign(ledger_mode=7)),
        ("pacing_plan", make.campaign(pacing_plan=7)),
        ("line_item_id", make.campaign(lines=[line("same"), line("same")])),
        ("line_item_id", make.campaign(lines=[line("")])),
        ("item_ids", make.campaign(lines=[line(item_ids=[])])),
        ("item_ids", make.campaign(lines=[line(item_ids=["i1", "i1"])])),
        ("item_ids", make.campaign(lines=[line(item_ids=[f"i{n}" for n in range(1001)])])),
        ("item_ids", make.campaign(lines=[line(item_ids=["x" * 257])])),
        ("action_worth_micros", make.campaign(lines=[line(action_worth_micros=-1)])),
        ("max_bid_cpm_micros", make.campaign(lines=[line(max_bid_cpm_micros=-1)])),
        ("line: limits.daily", make.campaign(lines=[line(limits=pb.Limits(daily_micros=-1))])),
        ("countries", make.campaign(lines=[line(targeting={"countries": ["Germany"]})])),
        ("countries", make.campaign(lines=[line(targeting={"countries": ["de"]})])),
        ("hours", make.campaign(lines=[line(targeting={"hours": [24]})])),
        ("categories", make.campaign(lines=[line(targeting={"categories": ["c" * 65]})])),
        ("user_segments", make.campaign(lines=[line(targeting={"user_segments": [""]})])),
        ("ahead_share", make.campaign(ahead_share=0.7)),
        ("ahead_share", make.campaign(pacing_plan=pb.PACING_PLAN_AHEAD, ahead_share=1.0)),
        ("ahead_share", make.campaign(pacing_plan=pb.PACING_PLAN_AHEAD, ahead_share=float("nan"))),
        ("goals.target_cpa_micros", make.campaign(goals=pb.Goals(target_cpa_micros=-1))),
        ("goals.target_roas", make.campaign(goals=pb.Goals(target_roas=float("nan")))),
        ("line: goals.target_roas", make.campaign(lines=[line(goals=pb.Goals(target_roas=-1.0))])),
        ("line: guarantee", make.campaign(lines=[line(guarantee=pb.Guarantee(penalty_cpm_micros=1))])),
        ("penalty_cpm_micros", make.campaign(lines=[line(guarantee=pb.Guarantee(daily_impressions=1))])),
        ("flight_end_ms", make.campaign(lines=[line(guarantee=pb.Guarantee(impressions=1, penalty_cpm_micros=1))])),
        ("daily_impressions", make.campaign(lines=[line(guarantee=pb.Guarantee(daily_impressions=-1))])),
        ("dayparts.weekdays", make.campaign(lines=[line(targeting=part(1, 2, 0))])),
        ("dayparts.weekdays", make.campaign(lines=[line(targeting=part(1, 2, 3, 3))])),
        ("dayparts", make.campaign(lines=[line(targeting=part(22, 6))])),
        ("dayparts", make.campaign(lines=[line(targeting=part(0, 25))])),
        ("common hour", make.campaign(lines=[line(targeting={"hours": [3], **part(8, 10)})])),
    ]


def part(start, end, *weekdays):
    return {"dayparts": [pb.Daypart(weekdays=weekdays, start_hour=start, end_hour=end)]}


@pytest.mark.parametrize("number", range(46))
def test_what_is_wrong_is_named_and_nothing_is_kept(path, make, number):
    cases = bad_campaigns(make)
    assert len(cases) == 46
    named, campaign = cases[number]
    with pytest.raises(InvalidRequestError, match=named):
        path.campaigns.create(campaign, "tester")
    assert path.campaigns.find("", []) == []


def test_defaults_are_filled_in(path):
    created = path.create()
    assert (created.currency, created.time_zone) == ("USD", "UTC")


def test_ids_are_unique_and_unknown_ones_are_told(path, make):
    path.create()
    with pytest.raises(AlreadyExistsError, match="spring"):
        path.create()
    with pytest.raises(NotFoundError, match="autumn"):
        path.campaigns.update(make.campaign("autumn"), "tester")
    with pytest.raises(NotFoundError, match="autumn"):
        path.campaigns.pause("autumn", resume=False, who="tester")
    with pytest.raises(NotFoundError, match="autumn"):
        path.campaigns.find("", ["autumn"])
    with pytest.raises(NotFoundError, match="fund it first"):
        path.campaigns.create(make.campaign("autumn", advertiser_id="nobody"), "tester")


def test_currency_and_advertiser_are_fixed_and_one(path, make):
    with pytest.raises(InvalidRequestError, match="currency"):
        path.create(currency="EUR")
    path.create()
    with pytest.raises(InvalidRequestError, match="fixed once created"):
        path.campaigns.update(make.campaign(currency="EUR"), "tester")
    path.fund("other", 10, "first of other")
    with pytest.raises(InvalidRequestError, match="advertiser_id"):
        path.campaigns.update(make.campaign(advertiser_id="other"), "tester")


def test_funding_needs_a_name_and_an_amount(path):
    with pytest.raises(InvalidRequestError, match="entry_id"):
        path.fund(entry_id="")
    with pytest.raises(InvalidRequestError, match="amount_micros"):
        path.fund(entry_id="zero", amount_micros=0)


def test_every_edit_is_audited_and_the_audit_cannot_be_changed(path, make):
    path.create()
    path.campaigns.update(make.campaign(name="new name"), "editor")
    path.campaigns.pause("spring", resume=False, who="night shift")
    rows = path.store.read("SELECT time_ms, who, action, campaign_id, document FROM campaign_edits ORDER BY sequence")
    assert [row[:4] for row in rows] == [
        (make.noon_ms, "tester", "create", "spring"),
        (make.noon_ms, "editor", "update", "spring"),
        (make.noon_ms, "night shift", "pause", "spring"),
    ]
    assert [pb.Campaign.FromString(row[4]).name for row in rows] == ["", "new name", "new name"]
    for statement in ("DELETE FROM campaign_edits", "UPDATE campaign_edits SET who = 'nobody'"):
        with pytest.raises(Exception, match="immutable"):
            path.store.write(lambda connection, text=statement: connection.execute(text))


def test_a_line_item_that_goes_may_spend_no_more(path, make):
    path.create(lines=[make.line_item("a"), make.line_item("b")])
    path.campaigns.update(make.campaign(lines=[make.line_item("b")]), "tester")
    assert path.ledger.settings["acme/spring/a"]["lifetime_micros"] == 0
    assert path.bid_one().line_item_id == "b"


def test_another_process_follows_and_takes_over(path, make):
    path.create(name="before")
    successor = make.ledger()
    successor.owned = False
    successor.numbers, successor._store = path.ledger.numbers, path.store
    follower = CampaignStore(path.store, successor, max_bid_cpm=10**9, clock_ms=lambda: 0)
    assert follower.get("spring").name == "before"
    with pytest.raises(LedgerNotOwnerError, match="another process owns the ledger"):
        follower.create(make.campaign("autumn"), "tester")
    with pytest.raises(LedgerNotOwnerError):
        follower.pause("spring", resume=False, who="tester")
    boards = []
    follower.subscribe(boards.append)
    path.campaigns.update(make.campaign(name="after", paused=True), "tester")
    assert follower.refresh()
    assert not follower.refresh()
    assert boards[-1].paused.all()
    assert follower.get("spring").name == "after"
    successor.owned = True
    successor.fund("deposit", "acme", 10, "USD")
    assert follower.refresh()
    assert successor.settings["acme/spring/line"]["lifetime_micros"] is None
    follower.pause("spring", resume=True, who="tester")


def test_a_failed_commit_changes_nothing(path, make):
    path.create()
    path.store.close()
    with pytest.raises(Exception, match="closed"):
        path.campaigns.update(make.campaign(name="lost"), "tester")
    assert path.campaigns.get("spring").name == ""


def test_the_service_reports_status_accounts_and_its_own_errors(path, make):
    def ask(method, request):
        (answer,) = method.handle([request], [path.call()])
        return answer

    methods = {method.name.rsplit("/", 1)[1]: method for method in path.admin.methods()}
    funded = ask(
        methods["FundAdvertiser"], pb.FundAdvertiserRequest(entry_id="more", advertiser_id="acme", amount_micros=5)
    )
    assert funded.account.account_id == "acme"
    created = ask(methods["CreateCampaign"], pb.CreateCampaignRequest(campaign=make.campaign()))
    assert [account.account_id for account in created.status.accounts] == ["acme/spring", "acme/spring/line"]
    assert created.status.planned_spend_micros == 0
    assert created.status.pacing_multiplier == 1.0
    updated = ask(methods["UpdateCampaign"], pb.UpdateCampaignRequest(campaign=make.campaign(name="new")))
    assert updated.status.campaign.name == "new"
    paused = ask(methods["PauseCampaign"], pb.PauseCampaignRequest(campaign_id="spring"))
    assert paused.status.campaign.paused
    listed = ask(methods["ListCampaigns"], pb.ListCampaignsRequest())
    assert [status.campaign.campaign_id for status in listed.campaigns] == ["spring"]
    assert [account.account_id for account in listed.advertisers] == ["acme"]
    assert not ask(methods["ListCampaigns"], pb.ListCampaignsRequest(advertiser_id="other")).campaigns
    assert ask(methods["SetBrake"], pb.SetBrakeRequest(engaged=True, reason="test")) == pb.SetBrakeResponse()
    assert isinstance(ask(methods["SetBrake"], pb.SetBrakeRequest(engaged=True)), InvalidRequestError)
    both = pb.SetBrakeRequest(engaged=True, reason="x", exchange="adx", advertiser_id="acme")
    assert isinstance(ask(methods["SetBrake"], both), InvalidRequestError)
    assert isinstance(ask(methods["CreateCampaign"], pb.CreateCampaignRequest()), InvalidRequestError)


def test_the_tables_are_strict(path):
    with pytest.raises(Exception, match="cannot store"):
        path.store.write(
            lambda connection: connection.execute("INSERT INTO campaigns VALUES ('x', 'not a number', x'00')")
        )
    assert sqlite3.sqlite_version_info >= (3, 37)
