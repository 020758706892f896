"""`letheon rehearse`: tries a site's own training code out, without a federation."""

from __future__ import annotations

import sys
import time
import tomllib
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from letheon.cli.screen import Format, FormatOption, print_document, say
from letheon.errors import BadConfig, LetheonError, MalformedUpdate, TrainingCodeFailed
from letheon.federation.plan import Plan, PlanDraft, load_plan

if TYPE_CHECKING:
    from letheon.site.code import TrainingCode
    from letheon.site.job import Job, Sent


def rehearse(
    config: Annotated[Path, typer.Option(help="The agent.toml: its [data] and [training].")],
    plan: Annotated[Path, typer.Option(help="The plan: a draft in TOML, or plan.json.")],
    code: Annotated[
        str | None, typer.Option(help="FILE.py or FILE.py:NAME instead of the configured code.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the first weights and the task.")] = 0,
    output: FormatOption = Format.TABLE,
) -> None:
    """Run the site's own training code twice from one base, and say whether it agrees.

    All records are used, from fresh weights, and nothing is sent. Exit code 0: both runs gave
    the same weights; 1: they did not; 78: the code failed, with its full text on standard error.
    """
    table, told = _read(config), _read_plan(plan)
    jobs = [_job(table, told, seed) for _ in range(2)]
    ready = _load(table, code)
    began = time.monotonic()
    first = _run(ready, jobs[0])
    seconds = time.monotonic() - began
    second = _run(ready, jobs[1])
    _tell(first, second, jobs[0], seconds, output)


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            table = tomllib.load(file)
    except OSError as error:
        raise BadConfig(f"the configuration {path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadConfig(f"the configuration {path} is no TOML: {error}") from error
    if "plugin" not in table.get("data", {}):
        raise BadConfig(f"{path} names no data source: [data] plugin")
    return table


def _read_plan(path: Path) -> PlanDraft:
    if path.suffix != ".json":
        return load_plan(path)
    try:
        return Plan.from_canonical(path.read_bytes())
    except OSError as error:
        raise BadConfig(f"the plan {path} cannot be read: {error.strerror}") from error


def _load(table: dict[str, Any], code: str | None) -> TrainingCode:
    from letheon.site.code import load_code

    chosen = code or table.get("training", {}).get("code")
    if chosen is None:
        raise BadConfig("no code is named: give --code, or [training] code in the configuration")
    return load_code(chosen)


def _job(table: dict[str, Any], plan: PlanDraft, seed: int) -> Job:
    import torch

    from letheon import registry
    from letheon.imaging.models.model import spec_of
    from letheon.imaging.models.weights import initialise
    from letheon.imaging.tasks.task import build_task, check_network
    from letheon.site.prepare import make_job

    training = table.get("training", {})
    torch.set_num_threads(training.get("threads", 1))
    data, shape = table["data"], plan.image.shape
    records = registry.build(registry.SOURCES, data["plugin"], data.get("arguments", {})).load()
    task = build_task(plan.task.plugin, plan.task.arguments)
    task.check_fit(records, shape=shape, classes=plan.classes, class_names=plan.class_names or None)
    model = plan.model
    module = initialise(model.plugin, model.arguments, spec_of(shape), plan.classes, seed)
    check_network(module, task, shape, plan.classes)
    return make_job(
        plan,
        task,
        module,
        records,
        learning_rate=plan.training.learning_rate,
        seed=seed,
        should_stop=lambda: False,
        arguments=training.get("code_arguments", {}),
    )


def _run(code: TrainingCode, job: Job) -> Sent:
    from letheon.site.code import run_code

    try:
        return run_code(code, job)
    except MalformedUpdate as error:
        raise TrainingCodeFailed(error.message, **error.facts) from error
    except LetheonError as error:
        # At the site's own terminal the full text helps, and goes nowhere else.
        if error.__cause__ is not None:
            sys.stderr.write("".join(traceback.format_exception(error.__cause__)))
        raise


def _tell(first: Sent, second: Sent, job: Job, seconds: float, output: Format) -> None:
    import numpy as np

    differences = {name: values - job.base[name] for name, values in first.weights.items()}
    norm = float(np.sqrt(sum(float(np.square(each).sum()) for each in differences.values())))
    odd = [n for n, v in first.weights.items() if not np.array_equal(v, second.weights[n])]
    if output is Format.JSON:
        print_document(
            {
                "repeatable": not odd,
                "differs_first_in": odd[0] if odd else None,
                "delta_norm": norm,
                "num_examples": first.num_examples,
                "metrics": dict(first.metrics),
                "seconds": seconds,
            }
        )
    else:
        told = ", ".join(f"{name} {value:.4g}" for name, value in first.metrics.items())
        say(
            f"{len(differences)} tensors, a delta of norm {norm:.4g}, {first.num_examples} of "
            f"{len(job.records)} records, {told or 'no metrics'}, in {seconds:.1f} s."
        )
        if odd:
            say(
                f"Not repeatable: a second run differs, first in tensor {odd[0]}. Is something "
                "drawn from a generator that is not seeded with config.seed?"
            )
        else:
            say("Repeatable: a second run gave the same weights, bit for bit.")
    if odd:
        raise typer.Exit(1)
