"""A site's own training code, each form of it, run as the training process runs it."""

import random
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
import torch
from site_builders import FUNCTION, SCRIPT, a_job, run, written

import letheon
from letheon import registry, site
from letheon.errors import BadConfig, MalformedUpdate, TrainingCodeFailed, UnknownPlugin
from letheon.site.code import load_code, run_code
from letheon.site.job import Sent

ALGO = """
from monai.fl.client.client_algo import ClientAlgo
from monai.fl.utils.constants import WeightType
from monai.fl.utils.exchange_object import ExchangeObject

class Algo(ClientAlgo):
    def initialize(self, extra=None):
        self.model, self.records = extra["letheon_model"], extra["letheon_records"]

    def train(self, data, extra=None):
        assert data.weight_type == WeightType.WEIGHTS
        self.before = data.weights
        self.model.load_state_dict({name: each + 0.5 for name, each in data.weights.items()})

    def get_weights(self, extra=None):
        statistics = {"num-examples": 7, "loss": 0.25, "rounds": "many"}
        if KIND == "difference":
            weights = {n: each - self.before[n] for n, each in self.model.state_dict().items()}
            return ExchangeObject(weights=weights, weight_type=WeightType.WEIGHT_DIFF,
                                  statistics=statistics)
        return ExchangeObject(weights=self.model.state_dict(), weight_type=WeightType.WEIGHTS,
                              statistics=statistics)
"""


def differs(sent: Sent) -> bool:
    base = a_job().base
    return any(not np.array_equal(base[name], sent.weights[name]) for name in base)


def test_a_script_receives_trains_and_sends(tmp_path: Path) -> None:
    sent = run(written(tmp_path, SCRIPT))
    assert differs(sent)
    assert list(sent.weights) == list(a_job().base)
    assert sent.num_examples == 20
    assert sent.loss is not None


def test_a_marked_function_is_found_by_its_file_or_by_its_name(tmp_path: Path) -> None:
    told = written(tmp_path, FUNCTION)
    by_file, by_name = run(told), run(f"{told}:fit")
    assert differs(by_file)
    assert by_file.num_examples == 24
    for name, values in by_file.weights.items():
        np.testing.assert_array_equal(values, by_name.weights[name])


def test_a_function_needs_no_mark_where_it_is_named(tmp_path: Path) -> None:
    told = written(tmp_path, "def fit(model, records, config):\n    model[0].bias.data += 1\n")
    sent = run(f"{told}:fit")
    assert differs(sent)
    assert sent.num_examples == 24  # all records, unless told
    assert sent.loss is None


def test_the_configuration_reaches_the_code(tmp_path: Path) -> None:
    told = written(tmp_path, FUNCTION)
    slow, fast = (run(told, a_job(rate=rate)) for rate in (0.001, 0.1))
    moved = [
        sum(float(np.abs(sent.weights[k] - base).sum()) for k, base in a_job().base.items())
        for sent in (slow, fast)
    ]
    assert moved[0] < moved[1]


@pytest.mark.parametrize("text", [SCRIPT, FUNCTION])
def test_the_same_base_seed_and_records_give_the_same_weights(tmp_path: Path, text: str) -> None:
    code = load_code(written(tmp_path, text))
    first = run_code(code, a_job(seed=5))
    torch.rand(3), random.random(), np.random.random()
    second, other = run_code(code, a_job(seed=5)), run_code(code, a_job(seed=6))
    for name, values in first.weights.items():
        np.testing.assert_array_equal(values, second.weights[name])
    assert any(not np.array_equal(v, other.weights[n]) for n, v in first.weights.items())


def test_every_generator_is_seeded_and_left_as_it_was(tmp_path: Path) -> None:
    text = """
    import random, numpy, torch
    def fit(model, records, config):
        draws = [random.random(), numpy.random.rand(), torch.rand(1).item()]
        return {f"draw-{i}": each for i, each in enumerate(draws)}
    """
    told = f"{written(tmp_path, text)}:fit"
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    draws = [run(told, a_job(seed=2**62 + 1)).metrics for _ in range(2)]
    assert draws[0] == draws[1]
    assert len(set(draws[0].values())) == 3
    assert torch.equal(torch.rand(1), expected)


def test_a_script_keeps_nothing_for_the_next_task(tmp_path: Path) -> None:
    told = written(tmp_path, SCRIPT.replace("num_examples=20", "num_examples=len(SEEN)"))
    text = (
        Path(told).read_text().replace("given =", "SEEN = [1] + globals().get('SEEN', [])\ngiven =")
    )
    Path(told).write_text(text)
    code = load_code(told)
    assert [run_code(code, a_job()).num_examples for _ in range(2)] == [1, 1]


def test_a_script_finds_its_neighbours_and_its_name(tmp_path: Path) -> None:
    written(tmp_path, "FACTOR = 2.0\n", "neighbour_of_train.py")
    told = written(
        tmp_path,
        """
        import sys
        from letheon import site
        from neighbour_of_train import FACTOR
        if __name__ == "__main__":
            state = site.receive().state_dict
            site.send({name: each * FACTOR for name, each in state.items()},
                      metrics={"arguments": len(sys.argv)})
        """,
    )
    sent = run(told)
    assert sent.metrics == {"arguments": 1.0}
    for name, values in a_job().base.items():
        np.testing.assert_array_equal(sent.weights[name], 2 * values)


def test_what_arrays_and_other_floats_hold_is_taken(tmp_path: Path) -> None:
    text = """
    import numpy, torch
    from letheon import site
    state = site.receive().state_dict
    kinds = [numpy.float64, torch.bfloat16, torch.float64, numpy.float16]
    site.send({
        name: each.to(kind) if isinstance(kind, torch.dtype) else each.numpy().astype(kind)
        for (name, each), kind in zip(state.items(), kinds, strict=True)
    })
    """
    sent = run(written(tmp_path, text))
    assert {values.dtype for values in sent.weights.values()} == {np.dtype(np.float32)}


SEND = """
import torch
from letheon import site
given = site.receive()
state = given.state_dict
{line}
site.send(state{extra})
"""


@pytest.mark.parametrize(
    ("line", "rule", "tensor", "words"),
    [
        ("del state['2.bias']", "names", "2.bias", "is missing"),
        ("state['3.bias'] = torch.zeros(2)", "names", "3.bias", "not in the plan's model"),
        ("state['1.running_mean'] = torch.zeros(2)", "names", "1.running_mean", "GroupNorm"),
        (
            "state = {'module.' + name: each for name, each in state.items()}",
            "names",
            "module.0.weight",
            "what wraps it",
        ),
        ("state['2.bias'] = torch.zeros(3)", "shape", "2.bias", r"\[3\], the plan \[2\]"),
        ("state['0.weight'][1, 1] = torch.nan", "finite", "0.weight", "NaN or infinity"),
        ("state['0.bias'] = state['0.bias'].double() + 1e300", "finite", "0.bias", "NaN"),
        ("state['0.bias'] = torch.zeros(4, dtype=torch.int64)", "dtype", "0.bias", "int64"),
    ],
)
def test_weights_that_are_not_the_models_are_refused_by_tensor_and_rule(
    tmp_path: Path, line: str, rule: str, tensor: str, words: str
) -> None:
    with pytest.raises(MalformedUpdate, match=words) as refused:
        run(written(tmp_path, SEND.format(line=line, extra="")))
    assert refused.value.facts == {"rule": rule, "tensor": tensor}
    assert tensor in refused.value.message


@pytest.mark.parametrize(
    ("line", "extra", "words"),
    [
        ("", ", num_examples=25", "num_examples is 25: it counts records, from 1 to the 24"),
        ("", ", num_examples=0", "num_examples is 0"),
        ("", ", metrics={'num-examples': 2.5}", "num_examples is 2.5"),
        ("", ", metrics={'loss': float('nan')}", "loss must be a finite number, not nan"),
        ("", ", metrics={'name': 'a patient'}", "name must be a number, not a str"),
        ("state = given.model", "", "send\\(model.state_dict\\(\\)\\)"),
        ("site.send(state)", "", "twice"),
        ("raise SystemExit(3)", "", "ended with 3"),
        ("raise SystemExit", "", r"without calling letheon.site.send\(\)"),
    ],
)
def test_what_no_delta_can_be_made_of_is_refused(
    tmp_path: Path, line: str, extra: str, words: str
) -> None:
    with pytest.raises(TrainingCodeFailed, match=words):
        run(written(tmp_path, SEND.format(line=line, extra=extra)))


@pytest.mark.parametrize("key", ["num-examples", "num_examples"])
def test_both_spellings_of_the_weight_key_are_understood(tmp_path: Path, key: str) -> None:
    sent = run(written(tmp_path, SEND.format(line="", extra=f", metrics={{'{key}': 9}}")))
    assert sent.num_examples == 9
    assert sent.metrics == {}


def test_an_error_is_told_by_its_place_and_not_by_its_words(tmp_path: Path) -> None:
    text = """
    import torch
    from letheon import site

    def helper(records):
        raise KeyError("scan of Jane Doe")

    helper(site.receive().records)
    """
    with pytest.raises(TrainingCodeFailed) as failed:
        run(written(tmp_path, text))
    assert failed.value.message == (
        "the site's training code raised KeyError at train.py:5 in helper"
    )
    assert failed.value.facts == {"place": "train.py:5 in helper"}
    assert "Jane Doe" in str(failed.value.__cause__)


def test_an_error_inside_a_library_is_told_by_the_line_that_called_it(tmp_path: Path) -> None:
    text = """
    import torch
    def fit(model, records, config):
        model(torch.zeros(3, 99))
    """
    with pytest.raises(TrainingCodeFailed, match=r"RuntimeError at train\.py:3 in fit"):
        run(f"{written(tmp_path, text)}:fit")


def test_want_of_memory_is_no_fault_of_the_code(tmp_path: Path) -> None:
    told = written(
        tmp_path,
        """
        def fit(model, records, config):
            raise RuntimeError("[enforce fail] can't allocate memory: you tried 8 TB")
        """,
    )
    with pytest.raises(MemoryError):
        run(f"{told}:fit")


def test_a_full_disk_is_no_fault_of_the_code(tmp_path: Path) -> None:
    told = written(
        tmp_path,
        """
        import errno
        def fit(model, records, config):
            raise OSError(errno.ENOSPC, "no space left")
        """,
    )
    with pytest.raises(OSError, match="no space left"):
        run(f"{told}:fit")


def test_an_installed_trainer_is_found_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(model: torch.nn.Module, records: object, config: site.Config) -> dict[str, float]:
        return {"num-examples": 5}

    job = a_job()
    point = EntryPoint("hospital_sgd", "hospital.training:fit", "letheon.trainers")
    monkeypatch.setattr(EntryPoint, "load", lambda self: fit)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point])
    assert run("hospital_sgd", job).num_examples == 5


def test_a_function_that_returns_something_else_is_refused(tmp_path: Path) -> None:
    told = written(tmp_path, "def fit(model, records, config):\n    return model\n")
    with pytest.raises(TrainingCodeFailed, match="returned a Sequential"):
        run(f"{told}:fit")


def test_pixels_cannot_be_changed_through_what_the_helpers_give() -> None:
    job = a_job()
    before = job.records.images[:].copy()
    for rows, labels in site.batches(job.records, job.config):
        rows.zero_()
        labels.zero_()
    item, _ = site.dataset(job.records)[3]
    item.zero_()
    np.testing.assert_array_equal(job.records.images, before)


def test_batches_are_drawn_as_the_default_training_draws_them() -> None:
    from letheon.imaging.local_training import batch_rows

    job = a_job()
    given = [labels.numpy() for _, labels in site.batches(job.records, job.config)]
    rows = list(batch_rows(24, 6, 8, 3))
    assert len(given) == 6
    for labels, each in zip(given, rows, strict=True):
        np.testing.assert_array_equal(labels, job.records.labels[each])


@pytest.mark.parametrize(
    ("text", "name", "words"),
    [
        (None, "", "there is no training code"),
        ("def broken(:\n", "", r"SyntaxError at train.py:1"),
        ("x = 1\n", ":fit", "defines no 'fit'"),
        ("fit = 3\n", ":fit", "not a function"),
        ("import no_such_module\n", ":fit", "ModuleNotFoundError at train.py:1"),
        ("def fit():\n    return 1\n", ":fit", "makes no ClientAlgo"),
    ],
)
def test_code_that_cannot_be_loaded_is_told_at_the_start(
    tmp_path: Path, text: str | None, name: str, words: str
) -> None:
    told = str(tmp_path / "train.py") if text is None else written(tmp_path, text)
    with pytest.raises(BadConfig, match=words):
        load_code(f"{told}{name}")


def test_an_unknown_entry_point_is_refused() -> None:
    with pytest.raises(UnknownPlugin, match=r"letheon\.trainers"):
        load_code("nobody-installed-this")


def test_outside_an_agent_there_is_no_task_at_hand() -> None:
    with pytest.raises(TrainingCodeFailed, match="letheon rehearse"):
        site.receive()
    with pytest.raises(TrainingCodeFailed):
        site.should_stop()


def test_the_mark_is_found_in_the_package_itself() -> None:
    assert letheon.train is site.train
    with pytest.raises(AttributeError, match="no attribute 'trane'"):
        letheon.trane  # noqa: B018


@pytest.mark.parametrize("kind", ["weights", "difference"])
@pytest.mark.parametrize("form", ["Algo", "make", "made"])
def test_an_algorithm_of_monai_trains(tmp_path: Path, kind: str, form: str) -> None:
    pytest.importorskip("monai")
    text = f"KIND = {kind!r}\n{ALGO}\ndef make():\n    return Algo()\n\nmade = Algo()\n"
    sent = run(f"{written(tmp_path, text)}:{form}")
    for name, values in a_job().base.items():
        np.testing.assert_allclose(sent.weights[name], values + 0.5, atol=1e-6)
    assert sent.num_examples == 7
    assert sent.metrics == {"loss": 0.25}


def test_an_algorithm_that_gives_no_weights_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("monai")
    text = (
        f"KIND = 'weights'\n{ALGO}\n    def get_weights(self, extra=None):\n        return {{}}\n"
    )
    with pytest.raises(TrainingCodeFailed, match="ExchangeObject"):
        run(f"{written(tmp_path, text)}:Algo")


def test_an_algorithm_is_aborted_when_its_training_became_useless(tmp_path: Path) -> None:
    pytest.importorskip("monai")
    text = f"""
import threading
KIND = "weights"
{ALGO}

class Waiting(Algo):
    def initialize(self, extra=None):
        super().initialize(extra)
        self.told = threading.Event()

    def abort(self, extra=None):
        self.told.set()

    def train(self, data, extra=None):
        assert self.told.wait(20)
        super().train(data, extra)
"""
    assert run(f"{written(tmp_path, text)}:Waiting", a_job(should_stop=lambda: True))
