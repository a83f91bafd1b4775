"""Servers that Headrace is measured against: `python benchmarks/peers.py NAME [DIR]` serves and prints the address.

constant-native, constant-grpcio   our doors with a constant answer of 600 bytes
gated [KEYS]                        the native door with it behind all that a served call passes, by the keys in a file
grpcio-threads, grpcio-asyncio     grpcio's own servers with the same answer
implicit DIR                       a plain grpcio server calling implicit's `recommend` on the artifact in DIR
"""

from __future__ import annotations

import asyncio
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import grpc.aio

RECOMMEND = "/headrace.v1.RecommenderService/Recommend"
ANSWER = bytes(600)
K = 20


def say(port: int) -> None:
    print(f"127.0.0.1:{port}", flush=True)


def handlers(handle: Any) -> list[Any]:
    _, service, method = RECOMMEND.split("/")
    return [grpc.method_handlers_generic_handler(service, {method: grpc.unary_unary_rpc_method_handler(handle)})]


def constant(door_name: str) -> None:
    from headrace.front import Reply, make_door
    from headrace.front.settings import DoorConfig

    door = make_door(door_name, [RECOMMEND], "127.0.0.1:0", DoorConfig())

    def work() -> None:
        while batch := door.next_batch(64):
            door.reply(batch, [Reply(ANSWER)] * len(batch))

    serve(door, work)


def gated(*keys: str) -> None:
    """Access, admission and telemetry as `headrace serve` has them, around a method that does nothing."""
    from pathlib import Path

    from headrace.config import Config
    from headrace.front import make_door
    from headrace.security.access import KeyedAccess
    from headrace.service.access import OpenAccess
    from headrace.service.dispatch import Dispatcher, Gates
    from headrace.service.method import Method
    from headrace.service.server import make_admission
    from headrace.telemetry.calls import CallCounters

    config = Config()
    door = make_door("native", [RECOMMEND], "127.0.0.1:0", config.door)
    access = KeyedAccess(Path(keys[0])) if keys else OpenAccess()
    nothing = Method(RECOMMEND, answer=lambda calls: [ANSWER] * len(calls))
    dispatcher = Dispatcher(
        door,
        {"": [nothing]},
        durable=(),
        pure=(),
        executor=ThreadPoolExecutor(1),
        batch_limit=64,
        durable_queue=64,
        gates=Gates(access=access, admission=make_admission(config.admission), observer=CallCounters()),
    )
    serve(door, dispatcher.run)


def serve(door: Any, work: Any) -> None:
    worker = threading.Thread(target=work)
    worker.start()
    print(door.start(), flush=True)
    worker.join()


def threads(handle: Any) -> None:
    server = grpc.server(ThreadPoolExecutor(8), handlers=handlers(handle))
    say(server.add_insecure_port("127.0.0.1:0"))
    server.start()
    server.wait_for_termination()


async def asynchronous() -> None:
    async def handle(body: bytes, context: Any) -> bytes:
        return ANSWER

    server = grpc.aio.server(handlers=handlers(handle))
    say(server.add_insecure_port("127.0.0.1:0"))
    await server.start()
    await server.wait_for_termination()


def implicit_recommend(folder: str) -> Any:
    """implicit's ALS with the artifact's factors: a person's come from their items, which are filtered out."""
    import numpy as np
    import scipy.sparse
    from implicit.cpu.als import AlternatingLeastSquares

    from headrace.artifacts import open_artifact
    from headrace.v1 import recommender_pb2 as pb

    artifact = open_artifact(folder)
    model = AlternatingLeastSquares(
        factors=artifact.item_factors.shape[1], regularization=artifact.manifest.regularization, num_threads=1
    )
    model.item_factors, model.user_factors = np.array(artifact.item_factors), np.array(artifact.user_factors)
    shape = len(artifact.user_ids), len(artifact.item_ids)
    history = scipy.sparse.csr_matrix(
        (artifact.manifest.alpha * artifact.history_weights, artifact.history_items, artifact.history_indptr), shape
    )
    history.sum_duplicates()
    ids = [f"i{row}" for row in range(shape[1])]

    def handle(body: bytes, context: Any) -> bytes:
        request = pb.RecommendRequest.FromString(body)
        user = artifact.user_ids.find(request.user_id)
        rows, scores = model.recommend(user, history[user], N=request.limit, recalculate_user=True)
        items = [pb.RecommendedItem(item_id=ids[row], score=score) for row, score in zip(rows, scores, strict=True)]
        return pb.RecommendResponse(items=items).SerializeToString()

    return handle


def main(name: str, *folder: str) -> None:
    if name.startswith("constant-"):
        constant(name.removeprefix("constant-"))
    elif name == "gated":
        gated(*folder)
    elif name == "grpcio-asyncio":
        asyncio.run(asynchronous())
    elif name == "grpcio-threads":
        threads(lambda body, context: ANSWER)
    elif name == "implicit":
        threads(implicit_recommend(*folder))
    else:
        raise SystemExit(f"no server called {name}")


if __name__ == "__main__":
    main(*sys.argv[1:])
