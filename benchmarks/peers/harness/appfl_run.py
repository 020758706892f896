"""APPFL 1.12: its gRPC server and one client. The one call of an upload returns the new model.

Stamps inside the server tell the parts apart: `upload` ends when every piece was received and
joined, `visible` when they were loaded, `aggregate` when the new weights are there; `as_shipped`
is the whole call with the download in it. It does not sleep in between. `--lean` turns off the
garbage collections that it forces by default.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
from importlib.metadata import version

import numpy as np
import payload

MESSAGE_BYTES = 2 << 20
ALPHA = 0.9  # of FedAsync: how much a fresh model counts

_MODEL = """
import torch
class Model(torch.nn.Module):
    def __init__(self, sizes):
        super().__init__()
        self.parts = torch.nn.ParameterList([torch.nn.Parameter(torch.zeros(n)) for n in sizes])
"""


def without_cuda() -> object:
    """Lets torchvision be imported beside a torch for processors; keep what it returns.

    APPFL imports it, and nothing here calls it. Its operators are in a library that wants CUDA.
    """
    import torch

    operators = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        operators.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return operators


def configuration(options: object) -> object:
    from omegaconf import OmegaConf

    model = options.directory / "model.py"
    lean = {"optimize_memory": False} if options.lean else {}
    sizes = payload.shapes(options.megabytes, options.tensors)
    return OmegaConf.create(
        {
            "client_configs": {
                "model_configs": {
                    "model_path": str(model),
                    "model_name": "Model",
                    "model_kwargs": {"sizes": sizes},
                },
                "train_configs": {"send_gradient": False},
            },
            "server_configs": {
                "num_clients": 1,
                "scheduler": "AsyncScheduler",
                "scheduler_kwargs": {"same_init_model": True, **lean},
                "aggregator": "FedAsyncAggregator",
                "aggregator_kwargs": {
                    "staleness_fn": "polynomial",
                    "staleness_fn_kwargs": {"a": 0.5},
                    "alpha": ALPHA,
                    **lean,
                },
                "num_global_epochs": options.repeats + 1,
                "logging_output_dirname": str(options.directory / "logs"),
                "comm_configs": {"grpc_configs": {**link(options), **lean}},
                **lean,
            },
        }
    )


def link(options: object) -> dict[str, object]:
    return {"server_uri": f"127.0.0.1:{options.port}", "max_message_size": MESSAGE_BYTES}


def server(options: object) -> None:
    from appfl.agent import ServerAgent
    from appfl.comm.grpc import GRPCServerCommunicator, serve

    (options.directory / "model.py").write_text(_MODEL)
    agent = ServerAgent(configuration(options))
    stamps: list[dict[str, float]] = []
    update, load = agent.global_update, agent._bytes_to_model

    def timed_load(*arguments: object, **more: object) -> object:
        began = time.time()
        loaded = load(*arguments, **more)
        if stamps and "loaded" not in stamps[-1]:
            stamps[-1] |= {"loading": began, "loaded": time.time()}
        return loaded

    def timed_update(*arguments: object, **more: object) -> object:
        stamps.append({"received": time.time()})
        done = update(*arguments, **more)
        stamps[-1]["aggregated"] = time.time()
        number = len(stamps) - 1
        (options.directory / f"stamp-{number}.json").write_text(json.dumps(stamps[-1]))
        return done

    agent.global_update, agent._bytes_to_model = timed_update, timed_load
    settings = {"grpc_configs": {**link(options)}}["grpc_configs"]
    if options.lean:
        settings["optimize_memory"] = False
    payload.leave(options.directory / "ready.json", {})
    serve(GRPCServerCommunicator(agent, logger=agent.logger, **settings), **settings)


def client(options: object) -> None:
    import torch
    from appfl.comm.grpc import GRPCClientCommunicator

    payload.await_document(options.directory / "ready.json")
    more = {"optimize_memory": False} if options.lean else {}
    link_ = GRPCClientCommunicator("c1", **link(options), **more)
    link_.get_configuration()
    model = link_.get_global_model(init_model=True)
    model = model[0] if isinstance(model, tuple) else model
    correct = True
    for repeat in range(options.repeats):
        values = payload.arrays(options.megabytes, options.tensors, repeat)
        local = {f"parts.{i}": torch.from_numpy(a) for i, a in enumerate(values)}
        began = time.time()
        answer = link_.update_global_model(local)
        ended = time.time()
        stamp = json.loads((options.directory / f"stamp-{repeat}.json").read_text())
        seconds = {
            "serialise": 0.0,  # inside of the call, and of `upload`
            "upload": stamp["received"] - began,
            "visible": stamp["loaded"] - stamp["received"],
            "aggregate": stamp["aggregated"] - stamp["loaded"],
        }
        if not options.lean:
            seconds["as_shipped"] = ended - began
        payload.report(repeat=repeat, seconds=seconds)
        found = answer[0] if isinstance(answer, tuple) else answer
        correct = correct and follows(model, local, found)
        model = found
    payload.report(version=version("appfl"), correct=correct)
    link_.invoke_custom_action(action="close_connection")


def follows(before: dict, local: dict, after: dict) -> bool:
    """Whether the new model lies at one point between the old and the local one, for all values.

    FedAsync answers `before + a (local - before)`; `a` depends on what it takes the staleness
    to be, so it is read from the first value and must hold for every other.
    """
    names = list(local)
    a = None
    for name in names:
        old, new, got = (np.asarray(m[name], dtype=np.float64) for m in (before, local, after))
        if a is None:
            a = float((got[0] - old[0]) / (new[0] - old[0]))
        if not 0 < a <= 1 or float(np.max(np.abs(old + a * (new - old) - got))) > 1e-4:
            return False
    return True


def main() -> None:
    parser = payload.arguments("APPFL")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--lean", action="store_true")
    options = parser.parse_args()
    logging.disable(logging.INFO)
    if options.role != "driver":
        operators = without_cuda()
        (server if options.role == "server" else client)(options)
        del operators
        return
    command = [sys.executable, *sys.argv]
    errors = (options.directory / "server.log").open("wb")
    child = subprocess.Popen([*command, "--role", "server"], stdout=errors, stderr=errors)
    try:
        subprocess.run([*command, "--role", "client"], check=True)
    finally:
        child.kill()  # it would sleep for ten seconds first
        child.wait()
        errors.close()


if __name__ == "__main__":
    main()
