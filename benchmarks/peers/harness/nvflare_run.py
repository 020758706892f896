"""NVFlare 2.9: a numpy FedAvg job of one client, in the simulator's environment (no TLS).

With `--poc` the processes are those of a provisioned server and client, which speak mutual TLS.

`visible` is from the client's send to the aggregator's call: a large array is fetched by the
server only then, so upload and arrival are one span. Rounds are paced by task polling, which is
in `as_shipped` (from the send to the next model at the client) and nowhere else. One array only,
whatever the layout: the recipe's initial checkpoint holds no more.
"""

from __future__ import annotations

import json
import os
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import payload

LIMIT_S = 840.0
LOGIN_S = 120  # as shipped it gives up after 10 s, which a busy machine exceeds
sys.path.insert(0, str(Path(__file__).parent))
_CLIENT = """
import json, os, sys, time
from pathlib import Path
sys.path.insert(0, os.environ["LETHEON_BENCH_HARNESS"])
import nvflare.client as flare
import payload
directory, megabytes = Path(os.environ["LETHEON_BENCH_DIRECTORY"]), int(sys.argv[1])
flare.init()
repeat = 0
while flare.is_running():
    model = flare.receive()
    got = time.time()
    if repeat:
        payload.leave(directory / f"again-{repeat - 1}.json", {"got": got})
    (values,) = payload.arrays(megabytes, 1, repeat)
    began = time.time()
    payload.leave(directory / f"sent-{repeat}.json", {"began": began})
    flare.send(
        flare.FLModel(
            params={"numpy_key": values},
            params_type=flare.ParamsType.FULL,
            metrics={"accuracy": 0.0},
            meta={"NUM_STEPS_CURRENT_ROUND": 1},
        )
    )
    repeat += 1
"""
_AGGREGATOR = """
import os, sys, time
from pathlib import Path
sys.path.insert(0, os.environ["LETHEON_BENCH_HARNESS"])
import payload
from nvflare.app_common.abstract.fl_model import FLModel
from nvflare.app_common.aggregators.model_aggregator import ModelAggregator
from nvflare.app_common.aggregators.weighted_aggregation_helper import WeightedAggregationHelper

class TimedAggregator(ModelAggregator):
    def __init__(self):
        super().__init__()
        self.helper, self.repeat, self.stamp = WeightedAggregationHelper(), 0, {}

    def accept_model(self, model):
        self.stamp = {"accepting": time.time()}
        self.helper.add(model.params, 1.0, "c", 0)
        self.stamp["accepted"] = time.time()

    def aggregate_model(self):
        began = time.time()
        result = self.helper.get_result()
        self.stamp["aggregate"] = time.time() - began
        directory = Path(os.environ["LETHEON_BENCH_DIRECTORY"])
        megabytes = int(os.environ["LETHEON_BENCH_MEGABYTES"])
        due = payload.arrays(megabytes, 1, self.repeat)
        self.stamp["correct"] = payload.is_close([result["numpy_key"]], due)
        payload.leave(directory / f"merged-{self.repeat}.json", self.stamp)
        self.repeat += 1
        self.helper.reset_stats()
        return FLModel(params=result)

    def reset_stats(self):
        self.helper.reset_stats()
"""


def run_poc(recipe: object, directory: Path) -> None:
    """The job in processes of a server and a client as they are provisioned, and their end."""
    from nvflare.recipe import PocEnv

    os.environ["NVFLARE_POC_WORKSPACE"] = str(directory / "poc")
    environment = PocEnv(num_clients=1, extra={"login_timeout": LOGIN_S})
    try:
        recipe.execute(environment).get_result(timeout=LIMIT_S)
    finally:
        environment.stop(clean_up=True)


def main() -> None:
    parser = payload.arguments("NVFlare")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--poc", action="store_true")
    options = parser.parse_args()
    directory = options.directory.absolute()
    here = str(Path(__file__).parent.absolute())
    os.environ |= {
        "LETHEON_BENCH_DIRECTORY": str(directory),
        "LETHEON_BENCH_HARNESS": here,
        "LETHEON_BENCH_MEGABYTES": str(options.megabytes),
        "PYTHONPATH": f"{directory}:{here}",
    }
    # The simulator's processes find their Python by the PATH.
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    (directory / "bench_client.py").write_text(_CLIENT)
    (directory / "bench_aggregator.py").write_text(_AGGREGATOR)
    np.save(directory / "init.npy", payload.arrays(options.megabytes, 1, 10_000)[0])
    sys.path.insert(0, str(directory))
    os.chdir(directory)
    from bench_aggregator import TimedAggregator
    from nvflare.app_common.np.recipes import NumpyFedAvgRecipe
    from nvflare.recipe import SimEnv

    recipe = NumpyFedAvgRecipe(
        name="bench",
        initial_ckpt=str(directory / "init.npy"),
        min_clients=1,
        num_rounds=options.repeats + 1,  # the last one only ends the one before
        train_script="bench_client.py",
        train_args=str(options.megabytes),
        aggregator=TimedAggregator(),
    )
    with (directory / "nvflare.log").open("wb") as log:
        keep = os.dup(1)
        os.dup2(log.fileno(), 1)
        try:
            if options.poc:
                run_poc(recipe, directory)
            else:
                recipe.execute(SimEnv(num_clients=1, workspace_root=str(directory / "workspace")))
        finally:
            os.dup2(keep, 1)
    correct = True
    for repeat in range(options.repeats):
        sent, merged, again = (
            json.loads((directory / f"{name}-{repeat}.json").read_text())
            for name in ("sent", "merged", "again")
        )
        correct = correct and merged["correct"]
        seconds = {
            "serialise": 0.0,  # inside of the send
            "upload": 0.0,  # not to be told apart from `visible`
            "visible": merged["accepting"] - sent["began"],
            "aggregate": merged["accepted"] - merged["accepting"] + merged["aggregate"],
            "as_shipped": again["got"] - sent["began"],
        }
        payload.report(repeat=repeat, seconds=seconds)
    payload.report(version=version("nvflare"), correct=correct)


if __name__ == "__main__":
    main()
