"""``headrace explain``."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.commands.options import DEFAULT_ADDRESS, At, Ca, Certificate, KeyFile, Tenant, connection
from headrace.errors import ConfigError

if TYPE_CHECKING:
    from headrace.v1.bidder_pb2 import CandidateExplanation, ExplainBidResponse


def explain(
    token: Annotated[str, typer.Option("--token", metavar="TOKEN", help="Of a bid.")] = "",
    request_id: Annotated[
        str, typer.Option("--request-id", metavar="ID", help="An auction's, as the exchange has it.")
    ] = "",
    impression: Annotated[
        int, typer.Option("--impression", metavar="N", min=0, max=63, help="With --request-id: its place.")
    ] = 0,
    at: At = DEFAULT_ADDRESS,
    key_file: KeyFile = None,
    ca: Ca = "",
    certificate: Certificate = "",
    tenant: Tenant = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say why an impression was bid on or not, how far each line item came, and what would have won."""
    from google.protobuf.json_format import MessageToDict

    from headrace.client import Client

    if bool(token) == bool(request_id):
        raise ConfigError("--token, --request-id", "both" if token else "neither", "one of them")
    with Client(at, connection(key_file, ca, certificate, tenant)) as client:
        answer = client.explain_bid(token, bid_request_id=request_id, impression=impression)
    if as_json:
        said = MessageToDict(answer, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
        print(json.dumps(said, allow_nan=False))
    else:
        print("\n".join(_lines(answer)))


def _lines(answer: ExplainBidResponse) -> Iterator[str]:
    from headrace.v1 import bidder_pb2 as pb

    if answer.bid_cpm_micros:
        yield f"bid {answer.bid_cpm_micros} CPM micros, which wins {answer.win_rate:.0%} of such auctions"
    else:
        yield f"no bid: {pb.NoBidReason.Name(answer.no_bid_reason).removeprefix('NO_BID_REASON_')}"
    if answer.notice:
        paid = f", {answer.price_cpm_micros} paid" if answer.price_cpm_micros else ""
        yield f"told: {pb.NoticeType.Name(answer.notice).removeprefix('NOTICE_TYPE_')}{paid}"
    for action in answer.actions:
        what = "taken back" if action.count < 0 else "reported"
        worth = f", each worth {action.worth_micros} micros" if action.worth_micros else ""
        yield f"purchases {what}: {abs(action.count)} at {_moment(action.time_ms)}{worth}"
    how = pb.PriceSource.Name(answer.price_source).removeprefix("PRICE_SOURCE_").lower()
    yield f"would have won at {answer.would_have_won_at_cpm_micros} ({how.replace('_', ' ')})"
    yield f"artifact {answer.artifact_version}, events up to {answer.event_sequence}, floor {answer.floor_cpm_micros}"
    yield f"computed anew: {'the same' if answer.recomputed else 'NOT the same'}"
    yield f"{answer.fit} line items fit, {answer.payable} in the currency, {answer.matched} may run"
    for candidate in answer.candidates:
        yield _candidate(candidate)


def _moment(time_ms: int) -> str:
    return dt.datetime.fromtimestamp(time_ms / 1000, dt.UTC).isoformat(timespec="seconds")


def _candidate(candidate: CandidateExplanation) -> str:
    from headrace.v1 import bidder_pb2 as pb

    reason = pb.CandidateReason.Name(candidate.reason).removeprefix("CANDIDATE_REASON_")
    said = f"  {candidate.campaign_id}/{candidate.line_item_id}: {reason}"
    if candidate.value_cpm_micros:
        worth = str(candidate.value_cpm_micros)
        if candidate.premium_cpm_micros:
            worth = f"({worth} + premium {candidate.premium_cpm_micros})"
        said += f", value {worth} x {candidate.multiplier:.4g} = {_paced(candidate)}"
    if candidate.bid_cpm_micros:
        said += f", priced {candidate.bid_cpm_micros} (shade {candidate.shade:.3f})"
    return said + (f"; needed {candidate.needed}" if candidate.needed else "")


def _paced(candidate: CandidateExplanation) -> str:
    """The paced value, and what cut it where it was cut."""
    paced = candidate.paced_cpm_micros
    product = (candidate.value_cpm_micros + candidate.premium_cpm_micros) * candidate.multiplier
    if paced + 1 >= product:
        return str(paced)
    cut = "what was left to spend" if paced == candidate.affordable_cpm_micros else "its highest bid"
    return f"{product:.0f}, cut to {paced}, {cut}"
