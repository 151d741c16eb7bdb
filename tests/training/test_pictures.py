"""Pictures show what they say."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from tests.labelled import labelled_scene
from training.pictures import (
    CLASS_COLOURS,
    ERROR_COLOURS,
    class_picture,
    data_uri,
    error_classes,
    photo,
    probability_picture,
    scene_pictures,
    true_colour,
)


def rgb(colour):
    return tuple(bytes.fromhex(colour[1:]))


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


def test_errors_have_the_colours_of_the_legend():
    label = np.array([[0, 0, 1, 1, 255, 255]], "uint8")
    called = np.array([[False, True, True, False, True, False]])
    names = list(ERROR_COLOURS)
    assert [names[number] for number in error_classes(label, called)[0]] == [
        "rightly not cultivated",
        "wrongly cultivated (false positive)",
        "rightly cultivated",
        "missed (false negative)",
        "unknown",
        "unknown",
    ]
    assert len({rgb(colour) for colour in list(ERROR_COLOURS.values())}) == 5


def test_the_pictures_of_a_scene():
    scene = labelled_scene()
    label = scene["label"].values
    probability = np.full(label.shape, 0.4)
    probability[10:] = 0.6
    probability[-1] = np.nan
    ndvi_map = np.arange(label.size).reshape(label.shape) % 3 == 0
    pictures = scene_pictures(scene, probability, 0.5, ndvi_map, "SPInet")
    assert [picture.title for picture in pictures] == [
        "True colour, 2019-03-28",
        "Truth",
        "Map, NDVI thresholds",
        "Probability, SPInet",
        "Map, SPInet at 0.5",
        "Errors, SPInet at 0.5",
    ]
    colours = [np.asarray(picture.image.convert("RGB")) for picture in pictures]
    classes = np.array([rgb(colour) for colour in CLASS_COLOURS.values()])
    np.testing.assert_array_equal(colours[1], classes[np.where(label == 255, 2, label)])
    np.testing.assert_array_equal(colours[2], classes[ndvi_map.astype(int)])
    np.testing.assert_array_equal(colours[4], classes[(probability > 0.5).astype(int)])
    # Of no data there is no probability, and the map says not cultivated.
    assert (colours[3][-1] == 255).all()
    assert len(np.unique(colours[3].reshape(-1, 3), axis=0)) == 3
    missed = np.all(colours[5] == rgb(ERROR_COLOURS["missed (false negative)"]), axis=-1)
    np.testing.assert_array_equal(missed, (label == 1) & ~(probability > 0.5))
    assert [picture.title for picture in scene_pictures(scene, probability, 0.5, None, "SPInet")] == [
        picture.title for picture in pictures if "NDVI" not in picture.title
    ]


@pytest.mark.parametrize(("shape", "size"), [((2000, 1500), (500, 667)), ((701, 1200), (600, 351)), ((9, 7), (7, 9))])
def test_large_pictures_are_thinned_out_by_whole_pixels(shape, size):
    classes = np.arange(np.prod(shape)).reshape(shape) % 3
    image = class_picture(classes, CLASS_COLOURS)
    assert image.size == size
    step = -(-shape[0] // size[1])
    np.testing.assert_array_equal(np.asarray(image), classes[::step, ::step])


def test_the_longer_side_of_photos():
    assert photo(np.zeros((2000, 1000, 3))).size == (250, 500)
    assert probability_picture(np.zeros((2000, 1000))).size == (250, 500)


@pytest.mark.parametrize(("image", "kind"), [("classes", "PNG"), ("photo", "JPEG"), ("small photo", "PNG")])
def test_pictures_inside_a_page(image, kind, rng):
    if image == "classes":
        image = class_picture(rng.integers(0, 3, (300, 200)), CLASS_COLOURS)
    else:
        image = photo(np.linspace(0, 1, 3 * (90 if image == "small photo" else 200) * 50).reshape(-1, 50, 3))
    head, body = data_uri(image).split(",")
    assert head == f"data:image/{kind.lower()};base64"
    read = Image.open(io.BytesIO(base64.b64decode(body)))
    assert read.format == kind
    difference = np.asarray(read.convert("RGB")).astype(int) - np.asarray(image.convert("RGB"))
    assert np.abs(difference).mean() < (2 if kind == "JPEG" else 1e-9)
