"""The study as a file: what is refused, and with which sentence."""

import pytest

from letheon.errors import BadConfig
from letheon.simulation.config import load_study, parse_study

IMAGES = {"name": "small", "file": "small.npz"}
REMOVAL = {"label": "removal", "method": "removal"}


def a_study(**more):
    return {"name": "core", "seeds": [0], "images": [IMAGES], "methods": [REMOVAL], **more}


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"methods": [REMOVAL, REMOVAL]}, "two methods have the same label"),
        ({"methods": [{**REMOVAL, "variant_of": "other"}]}, "'removal' is a variant of 'other'"),
        ({"methods": [{**REMOVAL, "variant_of": "removal"}]}, "no method above it"),
        ({"methods": [{**REMOVAL, "subtracted_share": 0.0}]}, r"methods\.0\.subtracted_share:"),
        ({"images": [IMAGES, IMAGES]}, "two images have the same name"),
        ({"snapshots": [200]}, "a snapshot lies behind the end of a run"),
        ({"sites": 1}, "at least 2 sites"),
        ({"planting": {"disclosed": 0.8, "undisclosed": 0.3}}, "together are at most 1"),
        ({"speed": 3}, "speed: unknown key"),
        ({"seeds": []}, "seeds:"),
        ({"name": "Not A Name"}, "name:"),
        ({"times": {"drop_out": 1.0}}, r"times\.drop_out:"),
        ({"target_share": 1.0}, "target_share:"),
    ],
)
def test_a_study_that_makes_no_sense_is_refused_by_name(more, sentence):
    with pytest.raises(BadConfig, match=rf"^a study: .*{sentence}"):
        parse_study(a_study(**more), origin="a study")


def test_a_study_that_is_missing_or_no_toml_is_named(tmp_path):
    with pytest.raises(BadConfig, match="cannot be read"):
        load_study(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("name = ")
    with pytest.raises(BadConfig, match="is no TOML"):
        load_study(tmp_path / "bad.toml")


def test_the_digest_follows_what_decides_the_numbers_and_not_the_lists():
    study = parse_study(a_study(), origin="a study")
    longer = parse_study(a_study(seeds=[0, 1]), origin="a study")
    other = parse_study(a_study(alpha=0.5), origin="a study")
    (images,) = study.images
    fewer = images.model_copy(update={"most": images.most // 2})
    assert study.digest(images) == longer.digest(images) != other.digest(images)
    assert study.digest(fewer) != study.digest(images)
