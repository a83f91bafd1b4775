"""Whether a server is serving, by the standard gRPC health protocol."""

from __future__ import annotations

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from headrace.client.connection import Connection
from headrace.client.rpc import error_from


def check(address: str, service: str = "", timeout_s: float = 2.0, connection: Connection | None = None) -> str:
    """``SERVING`` or ``NOT_SERVING``; raises NotFoundError for an unknown service, UnavailableError for no server."""
    request = health_pb2.HealthCheckRequest(service=service)
    credentials = (connection or Connection()).credentials()
    with grpc.secure_channel(address, credentials) if credentials else grpc.insecure_channel(address) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=timeout_s)
        except grpc.RpcError as failure:
            raise error_from(failure) from failure
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))
