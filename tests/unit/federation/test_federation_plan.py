import json
from pathlib import Path

import pytest
from federation_builders import a_layout
from pydantic import ValidationError

from letheon.errors import BadConfig, UnknownPlugin
from letheon.federation.aggregation.fedbuff import FedBuff
from letheon.federation.plan import Plan, PlanDraft, load_plan

SHORT = """
name = "pneumonia"
classes = 2
model = { plugin = "small_cnn" }
image = { channels = 1, height = 28, width = 28 }
"""

FULL = """
name = "blood cells"
classes = 3
class_names = ["basophil", "eosinophil", "plättchen"]
encoding = "float16"
max_delta_norm = 50

[model]
plugin = "small_cnn"
arguments = { width = 16 }

[image]
channels = 3
height = 28
width = 28

[training]
local_steps = 8
batch_size = 64
learning_rate = 0.1
momentum = 0
clip_norm = 1.0
weight_decay = 1e-4

[strategy]
plugin = "fedbuff"
arguments = { buffer_size = 3, staleness = "hinge", staleness_arguments = { grace = 2 } }

[serving]
advance_every = 10
policy = "serve-fallback"

[gate]
every = 4
answer_timeout_seconds = 30

[erasure]
patch_cap_ratio = 0.1
"""

LAYOUT = a_layout((4, 3), (2,))
DIGEST_OF_SHORT = "37fb2166aa55055f1841af19e4c319491e7f5afe4c953616729b3933e9445b6c"


def loaded(tmp_path: Path, text: str) -> PlanDraft:
    path = tmp_path / "plan.toml"
    path.write_text(text, encoding="utf-8")
    return load_plan(path)


def test_a_short_plan_takes_every_default(tmp_path: Path) -> None:
    draft = loaded(tmp_path, SHORT)
    assert draft.training.local_steps == 16
    assert draft.encoding == "float32"
    assert draft.strategy.plugin == "fedasync"
    assert draft.serving.policy == "serve-old"
    assert draft.gate.every == 8
    assert draft.erasure.deadline_days == 30
    assert draft.max_delta_norm is None


def test_a_full_plan_is_read_as_written(tmp_path: Path) -> None:
    draft = loaded(tmp_path, FULL)
    assert draft.class_names[2] == "plättchen"
    assert draft.model.arguments == {"width": 16}
    assert draft.max_delta_norm == 50
    strategy = draft.build_strategy()
    assert isinstance(strategy, FedBuff)
    assert strategy.buffer_size == 3


def test_a_plan_survives_its_canonical_json(tmp_path: Path) -> None:
    for text in (SHORT, FULL):
        plan = loaded(tmp_path, text).with_layout(LAYOUT)
        again = Plan.from_canonical(plan.canonical_json())
        assert again == plan
        assert again.digest == plan.digest
        assert again.parameters == LAYOUT
        assert again.canonical_json() == plan.canonical_json()


def test_canonical_json_is_sorted_and_without_spaces(tmp_path: Path) -> None:
    text = loaded(tmp_path, FULL).with_layout(LAYOUT).canonical_json().decode()
    content = json.loads(text)
    expected = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert text == expected
    assert content["training"]["momentum"] == 0.0


def test_the_digest_changes_with_the_plan_and_with_the_layout(tmp_path: Path) -> None:
    plans = [
        loaded(tmp_path, SHORT).with_layout(LAYOUT),
        loaded(tmp_path, SHORT).with_layout(a_layout((4, 3), (3,))),
        loaded(tmp_path, SHORT + "training = { momentum = 0.5 }\n").with_layout(LAYOUT),
    ]
    assert len({plan.digest for plan in plans}) == 3


def test_keys_that_came_later_leave_the_digests_of_earlier_plans_as_they_were(
    tmp_path: Path,
) -> None:
    plan = loaded(tmp_path, SHORT).with_layout(LAYOUT)
    assert "also_accepts" not in plan.canonical_json().decode()
    assert plan.digest == "37fb2166aa55055f1841af19e4c319491e7f5afe4c953616729b3933e9445b6c"
    chosen = loaded(tmp_path, SHORT + "also_accepts = ['int8']\n").with_layout(LAYOUT)
    assert chosen.digest != plan.digest
    assert Plan.from_canonical(chosen.canonical_json()) == chosen


def test_deltas_may_travel_by_what_the_plan_accepts_and_patches_travel_whole(
    tmp_path: Path,
) -> None:
    plan = loaded(
        tmp_path, SHORT + "encoding = 'topk+zstd'\nalso_accepts = ['float32', 'topk+zstd']"
    )
    assert plan.delta_encodings == ("topk+zstd", "float32")
    assert plan.patch_encoding == "float32"
    assert loaded(tmp_path, FULL).patch_encoding == "float16"


def test_a_plan_from_before_tasks_keeps_its_digest(tmp_path: Path) -> None:
    # Printed by the release that knew images of two dimensions and classification alone.
    plan = loaded(tmp_path, SHORT).with_layout(LAYOUT)
    assert plan.digest == DIGEST_OF_SHORT
    told = loaded(tmp_path, 'task = "classification"' + SHORT).with_layout(LAYOUT)
    assert told.digest == plan.digest
    assert b'"task"' not in plan.canonical_json()


@pytest.mark.parametrize(
    ("image", "shape"),
    [
        ("{ channels = 1, height = 28, width = 30 }", (1, 28, 30)),
        ("{ channels = 1, depth = 8, height = 28, width = 30 }", (1, 8, 28, 30)),
        ("{ features = 13 }", (13,)),
    ],
)
def test_a_record_is_an_image_a_volume_or_a_row(
    tmp_path: Path, image: str, shape: tuple[int, ...]
) -> None:
    text = SHORT.replace("{ channels = 1, height = 28, width = 28 }", image)
    draft = loaded(tmp_path, text + 'task = { plugin = "multi_label" }\n')
    assert draft.image.shape == shape
    plan = draft.with_layout(LAYOUT)
    assert Plan.from_canonical(plan.canonical_json()) == plan
    assert b"null" not in plan.canonical_json().split(b'"image"')[1].split(b"}")[0]


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        ("{ channels = 1, height = 28 }", "give channels, height and width"),
        ("{ features = 13, height = 28 }", "it stands alone"),
    ],
)
def test_an_image_of_no_shape_is_refused(tmp_path: Path, image: str, sentence: str) -> None:
    with pytest.raises(BadConfig, match=sentence):
        loaded(tmp_path, SHORT.replace("{ channels = 1, height = 28, width = 28 }", image))


def test_a_plan_is_frozen(tmp_path: Path) -> None:
    plan = loaded(tmp_path, SHORT).with_layout(LAYOUT)
    with pytest.raises(ValidationError):
        plan.name = "other"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (SHORT + "optimiser = 1", "unknown key 'optimiser'; valid here: also_accepts, class_names"),
        (SHORT + "gate = { often = 1 }", "unknown key 'gate.often'; valid here: answer_timeout"),
        (SHORT + "training = { momentum = 1.0 }", "training.momentum"),
        (SHORT + "training = { batch_size = '32' }", "training.batch_size"),
        (SHORT + "training = { batch_size = true }", "training.batch_size"),
        (SHORT + "training = { learning_rate = nan }", "training.learning_rate"),
        (SHORT + "serving = { policy = 'serve-new' }", "serve-fallback"),
        (SHORT + "encoding = 'int4'", "encoding: .*no encoding 'int4'; there are: float32"),
        (SHORT + "also_accepts = ['int8', 'zip']", "also_accepts: .*no encoding 'zip'"),
        (SHORT + "top_share = 1.5", "top_share"),
        (SHORT + "class_names = ['a']", "each of the 2 classes"),
        (SHORT + "class_names = ['a', 'a']", "each of the 2 classes"),
        (SHORT + "strategy = { plugin = 'fedasync', arguments = { rate = 1 } }", "rate"),
        (
            SHORT + "strategy = { plugin = 'fedbuff', arguments = { buffer_size = 0 } }",
            "buffer_size must be",
        ),
        (SHORT + "layout = []", "unknown key 'layout'"),
        (SHORT.replace("small_cnn' }", "x"), "image"),
        ("name = ", "no TOML"),
        ("", "name: Field required"),
    ],
)
def test_a_wrong_plan_is_refused_with_the_key_and_what_is_valid(
    tmp_path: Path, text: str, sentence: str
) -> None:
    if sentence == "image":
        text = SHORT.replace("height = 28", "height = 0")
    with pytest.raises(BadConfig, match=sentence.replace("(", r"\(")):
        loaded(tmp_path, text)


def test_an_unknown_strategy_names_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(UnknownPlugin, match="fedasync, fedavg, fedbuff"):
        loaded(tmp_path, SHORT + "strategy = { plugin = 'median' }")


def test_a_missing_plan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="cannot be read"):
        load_plan(tmp_path / "none.toml")


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"{}", b'{"name": 1}'])
def test_bytes_that_are_no_plan_are_refused(content: bytes) -> None:
    with pytest.raises(BadConfig):
        Plan.from_canonical(content)


def test_a_plan_whose_layout_is_no_layout_is_refused(tmp_path: Path) -> None:
    content = json.loads(loaded(tmp_path, SHORT).with_layout(LAYOUT).canonical_json())
    content["layout"] = [{"name": "a", "shape": [0]}]
    with pytest.raises(BadConfig, match="layout"):
        Plan.from_canonical(json.dumps(content).encode())


def test_a_later_field_at_its_default_leaves_the_digest_of_a_plan_as_it_was(tmp_path: Path) -> None:
    plan = loaded(tmp_path, SHORT).with_layout(LAYOUT)
    assert b"epoch_share" not in plan.canonical_json()
    told = loaded(tmp_path, SHORT + "\n[erasure]\nepoch_share = 0.1\n").with_layout(LAYOUT)
    assert told.digest == plan.digest
    other = loaded(tmp_path, SHORT + "\n[erasure]\nepoch_share = 0.05\n").with_layout(LAYOUT)
    assert other.digest != plan.digest
    assert Plan.from_canonical(other.canonical_json()).erasure.epoch_share == 0.05


def test_lists_without_end_are_no_plan(tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    path.write_text("x = " + "[" * 3000)
    with pytest.raises(BadConfig, match="is no TOML"):
        load_plan(path)


@pytest.mark.parametrize("value", [b'"\\ud800"', b"NaN", b"Infinity"])
def test_a_plan_with_a_value_that_cannot_be_digested_is_refused(
    tmp_path: Path, value: bytes
) -> None:
    path = tmp_path / "plan.toml"
    path.write_text(SHORT)
    content = load_plan(path).with_layout(LAYOUT).canonical_json()
    changed = content.replace(b'"arguments":{}', b'"arguments":{"odd":' + value + b"}", 1)
    assert changed != content
    with pytest.raises(BadConfig):
        Plan.from_canonical(changed)
