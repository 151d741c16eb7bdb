"""Bands are measured where ground was seen, and on what trains only."""

import numpy as np
import pytest

from spinet_tf.data.scene import find_scenes, open_scene
from spinet_tf.errors import SpinetError
from tests.labelled import labelled_scene
from training.config import Config
from training.split import Split, split_scenes
from training.survey import survey_scenes


def test_statistics_of_the_valid_pixels_that_train(scenes):
    survey = survey_scenes(split_scenes(find_scenes(scenes)), Config())
    values = []
    for name in ("eopatch-0", "eopatch-1"):
        scene = open_scene(scenes / name)
        values.append(scene["bands"].values.transpose(0, 2, 3, 1)[scene["valid"].values])
    values = np.concatenate(values) / 10000
    np.testing.assert_allclose(survey.mean, values.mean(axis=0), rtol=1e-10)
    np.testing.assert_allclose(survey.std, values.std(axis=0), rtol=1e-8)
    assert (len(survey.bands), survey.scale, survey.smallest) == (12, 4, 16)


def test_the_lower_half_cannot_be_told_from_what_training_knows(scenes, monkeypatch):
    """Whatever the lower half holds, nothing that training computes changes."""
    from training import split as module

    split = split_scenes([scenes / "eopatch-0"], "rows")
    config = Config(weights="ai4eo")
    before = survey_scenes(split, config)
    opened = open_scene(scenes / "eopatch-0")
    rng = np.random.default_rng(0)
    opened["bands"][:, :, 8:] = rng.integers(0, 65535, opened["bands"][:, :, 8:].shape)
    opened["label"][32:] = rng.integers(0, 2, opened["label"][32:].shape)
    opened["valid"][:, 8:] = rng.random(opened["valid"][:, 8:].shape) < 0.5
    monkeypatch.setattr(module, "open_scene", lambda path: opened)
    assert survey_scenes(split, config) == before


def test_bands_are_those_asked_for(scenes):
    split = split_scenes(find_scenes(scenes))
    everything = survey_scenes(split, Config())
    survey = survey_scenes(split, Config(bands=("B08", "B04")))
    assert survey.bands == ("B08", "B04")
    assert survey.mean == [everything.mean[7], everything.mean[3]]


def test_a_band_that_does_not_vary_is_not_divided_by_zero():
    scene = labelled_scene()
    scene["bands"][:, 1] = 0
    survey = survey_scenes(Split([Source(scene)], [Source(scene)]), Config())
    assert survey.std[1] == 1e-4
    assert survey.mean[1] == 0


class Source:
    """A part that is open already."""

    def __init__(self, scene):
        self.scene = scene
        self.path = type("Path", (), {"stem": scene.attrs["name"]})

    def __call__(self):
        return self.scene


@pytest.mark.parametrize(
    ("other", "config", "message"),
    [
        (labelled_scene().drop_vars("label"), Config(), "no label"),
        (labelled_scene(scale=2), Config(), "labels 4 times finer than images, as in made. made: 2 times"),
        (labelled_scene(bands=("B02", "B04")), Config(), "lacks B08"),
        (labelled_scene(), Config(bands=("B04", "B12")), "lacks B12; it has B02, B04, B08"),
        (labelled_scene().assign(valid=labelled_scene()["valid"] & False), Config(), "no valid frame"),
        (labelled_scene(), Config(weights="scene"), "scenes with a variable `weight`"),
    ],
)
def test_scenes_that_cannot_be_used(other, config, message):
    with pytest.raises(SpinetError, match=message):
        survey_scenes(Split([Source(labelled_scene())], [Source(other)]), config)
