"""Callers that behave, for the soak: exchanges over gRPC, on streams and over HTTP, and who swaps artifacts."""

from __future__ import annotations

import http.client
import itertools
import json
import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

import grpc
from bench_openrtb import bid_request
from served import BID_STREAM, FEW, bid_requests

from headrace import Client
from headrace.errors import HeadraceError, OverloadedError
from headrace.v1 import bidder_pb2 as pb

TIMEOUT_S = 5.0


class Caller(ABC):
    """Does the same again and again until told to stop.

    Attribute ``outcomes`` counts what came of it: "ok", "refused" for want of room, or what went wrong.
    """

    def __init__(self) -> None:
        self._stop = threading.Event()
        self.outcomes: Counter[str] = Counter()

    def run(self, pause_s: float) -> None:
        """Go on until :meth:`stop`, with a pause after each."""
        while not self._stop.wait(pause_s):
            self.outcomes[self._outcome()] += 1
        self.close()

    def stop(self) -> None:
        """End :meth:`run`."""
        self._stop.set()

    def _outcome(self) -> str:
        try:
            self.act()
        except HeadraceError as error:
            return "refused" if isinstance(error, OverloadedError) else f"{type(error).__name__}: {error}"
        except grpc.RpcError as error:
            return "refused" if error.code() == grpc.StatusCode.UNAVAILABLE else str(error.code())
        except (OSError, http.client.HTTPException) as error:
            return repr(error)
        return "ok"

    @abstractmethod
    def act(self) -> None:
        """Do it once; raises what went wrong."""

    @abstractmethod
    def close(self) -> None:
        """Let the connection go."""


class Exchange(Caller):
    """Asks for bids over gRPC; most are won and billed, some lost, of some nothing is heard."""

    def __init__(self, address: str, user_ids: Sequence[str]) -> None:
        super().__init__()
        self._client = Client(address).within(TIMEOUT_S)
        self._requests = itertools.cycle(bid_requests(list(user_ids)))
        self._turn = itertools.count()

    def act(self) -> None:
        """One auction and its notices."""
        (offer,) = self._client.bid(next(self._requests)).impressions
        turn = next(self._turn) % 10
        if not offer.token or turn == 0:
            return
        if turn == 1:
            self._client.notify([pb.Notice(type=pb.NOTICE_TYPE_LOSS, token=offer.token)])
            return
        won = {"token": offer.token, "price_cpm_micros": offer.bid_cpm_micros // 2}
        self._client.notify([pb.Notice(type=pb.NOTICE_TYPE_WIN, **won)])
        self._client.notify([pb.Notice(type=pb.NOTICE_TYPE_BILLING, **won)])

    def close(self) -> None:
        """Let the connection go."""
        self._client.close()


class StreamExchange(Caller):
    """Asks for bids on streams of 64 messages; every other one is given up in the middle."""

    N_MESSAGES = 64

    def __init__(self, address: str, user_ids: Sequence[str]) -> None:
        super().__init__()
        self._channel = grpc.insecure_channel(address)
        self._open = self._channel.stream_stream(
            BID_STREAM, pb.BidStreamRequest.SerializeToString, pb.BidStreamResponse.FromString
        )
        self._requests = itertools.cycle(bid_requests(list(user_ids)))
        self._turn = itertools.count()

    def act(self) -> None:
        """One stream."""
        asked = list(itertools.islice(self._requests, self.N_MESSAGES))
        answers: Iterator[pb.BidStreamResponse] = self._open(
            iter([pb.BidStreamRequest(request=request) for request in asked]), timeout=TIMEOUT_S
        )
        if next(self._turn) % 2:
            next(answers)
            answers.cancel()  # type: ignore[attr-defined]
            return
        heard = sorted(answer.bid_request_id for answer in answers)
        if heard != sorted(request.bid_request_id for request in asked):
            raise OSError(f"{len(heard)} answers to {len(asked)} messages of a stream")

    def close(self) -> None:
        """Let the connection go."""
        self._channel.close()


class HttpExchange(Caller):
    """Posts bid requests as JSON and calls the notice URLs of what it gets."""

    def __init__(self, address: str, user_ids: Sequence[str]) -> None:
        super().__init__()
        self._connection = http.client.HTTPConnection(address, timeout=TIMEOUT_S)
        self._users = itertools.cycle(user_ids)
        self._turn = itertools.count()

    def act(self) -> None:
        """One auction and its notices."""
        turn = next(self._turn)
        body = json.dumps(bid_request(turn, next(self._users), FEW)).encode()
        answer = self._ask("POST", "/openrtb2/bid?exchange=adx", body)
        if not answer:
            return
        (bid,) = json.loads(answer)["seatbid"][0]["bid"]
        for url in (bid["lurl"],) if turn % 5 == 0 else (bid["nurl"], bid["burl"]):
            filled = url.replace("${AUCTION_PRICE}", str(bid["price"])).replace("${AUCTION_CURRENCY}", "USD")
            parts = urlsplit(filled.replace("${AUCTION_LOSS}", "102"))
            self._ask("GET", f"{parts.path}?{parts.query}")

    def _ask(self, verb: str, path: str, body: bytes | None = None) -> bytes:
        try:
            self._connection.request(verb, path, body, {"content-type": "application/json"})
            response = self._connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()  # the next request opens another
            raise
        if response.status == 503:
            raise OverloadedError("the server refused for want of room")
        if response.status not in (200, 204):
            raise OSError(f"{verb} {path.partition('?')[0]}: {response.status} {answer[:200]!r}")
        return answer

    def close(self) -> None:
        """Let the connection go."""
        self._connection.close()


class Swapper(Caller):
    """Lets the server swap to another version of its artifact, in turn."""

    def __init__(self, address: str, versions: Sequence[str]) -> None:
        super().__init__()
        self._client = Client(address)
        self._versions = itertools.cycle(versions)

    def act(self) -> None:
        """One swap."""
        self._client.reload_artifact(next(self._versions))

    def close(self) -> None:
        """Let the connection go."""
        self._client.close()
