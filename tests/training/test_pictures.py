"""Pictures show what they say."""

import numpy as np
from PIL import Image

from tests.labelled import labelled_scene
from training.pictures import true_colour, write_picture
from training.scores import SceneScores, Score


def test_true_colour_is_the_clearest_frame_in_red_green_and_blue():
    scene = labelled_scene(bands=("B02", "B03", "B04"))
    scene["valid"][[0, 3], 0, 0] = False
    scene["valid"][2] = True
    image, date = true_colour(scene)
    assert date == "2019-03-19"
    expected = scene["bands"].values[2][::-1].transpose(1, 2, 0)
    inside = (image > 0) & (image < 1)
    assert inside.mean() > 0.95
    slope, offset = np.polyfit(expected[inside], image[inside], 1)
    np.testing.assert_allclose(image[inside], slope * expected[inside] + offset, atol=1e-5)


def test_without_those_bands_or_dates_it_is_grey():
    image, name = true_colour(labelled_scene().drop_vars("time"))
    np.testing.assert_array_equal(image[..., 0], image[..., 2])
    assert name == "frame 3"


def test_a_picture_has_six_panels(tmp_path):
    scene = labelled_scene()
    shape = scene["label"].shape
    probability = np.full(shape, 0.5)
    probability[:5] = np.nan
    scores = SceneScores("made", Score(0.5, 0.4), Score(0.3, 0.2))
    path = tmp_path / "made.png"
    write_picture(path, scene, scores, np.zeros(shape), np.ones(shape, bool), probability, np.zeros(shape, bool))
    picture = np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3)
    cultivated, other, middle = (0xB5, 0x65, 0x1D), (0xD9, 0xE2, 0xD0), (33, 145, 140)
    pixels = {
        colour: np.all(np.abs(picture.astype(int) - colour) <= 2, axis=1).sum()
        for colour in (cultivated, other, middle)
    }
    # The baseline's panel and half of the truth; the model's panel and half of the truth; the probability.
    assert pixels[cultivated] > 1.3 * pixels[middle] > 10000
    assert pixels[other] > 1.3 * pixels[middle]
