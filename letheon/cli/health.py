"""`letheon health`: what a service says of itself on its health port."""

from __future__ import annotations

from typing import Annotated

import grpc
import typer
from grpc_health.v1 import health_pb2, health_pb2_grpc

from letheon.cli.exits import ExitCode
from letheon.cli.screen import Format, FormatOption, print_document, say
from letheon.errors import CoordinatorUnreachable, MalformedRequest

_STATES = health_pb2.HealthCheckResponse.ServingStatus


def health(
    address: Annotated[
        str, typer.Argument(metavar="HOST:PORT", help="The service's `health_listen`.")
    ],
    service: Annotated[
        str,
        typer.Option(metavar="NAME", help="liveness, readiness or one condition of it."),
    ] = "readiness",
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for the answer.")] = 5.0,
    output: FormatOption = Format.TABLE,
) -> None:
    """Asks the health port of a coordinator or calibrator. Exit code 0 only if it is well.

    For supervisors that cannot probe gRPC by themselves. The port has no TLS: ask it from the
    same machine or pod.
    """
    state = _ask(address, service, timeout)
    if output is Format.JSON:
        print_document({"address": address, "service": service, "state": state})
    else:
        say(f"{service} at {address}: {state}")
    if state != "SERVING":
        raise typer.Exit(int(ExitCode.DOES_NOT_HOLD))


def _ask(address: str, service: str, timeout_s: float) -> str:
    options = (("grpc.enable_http_proxy", 0),)
    with grpc.insecure_channel(address, options=options) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(service=service), timeout=timeout_s
            )
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                raise MalformedRequest(
                    f"{address} knows no {service!r}: ask for liveness or readiness"
                ) from error
            raise CoordinatorUnreachable(
                f"nobody answers health probes at {address}", address=address
            ) from error
    return str(_STATES.Name(answer.status))
