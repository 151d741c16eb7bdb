"""The NDVI baseline against its definition and a search through all thresholds."""

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import matthews_corrcoef

from spinet_tf.errors import SpinetError
from spinet_tf.models.ndvi import NDVIThresholds, mean_ndvi


@pytest.fixture
def scene(rng):
    red, nir = rng.integers(200, 4000, (2, 6, 7, 5), "uint16")
    return red, nir, np.ones((6, 7, 5), bool)


def by_the_definition(red, nir, frames, scale):
    red, nir = red[frames].astype("float64"), nir[frames].astype("float64")
    mean = np.mean((nir - red) / (nir + red), axis=0)
    size = (scale * mean.shape[1], scale * mean.shape[0])
    return np.asarray(Image.fromarray(mean.astype("float32")).resize(size, Image.Resampling.BICUBIC))


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_mean_of_the_clear_frames_upsampled_bicubically(scene, scale):
    red, nir, valid = scene
    valid[1, :, 0] = False
    # 2 of 35 pixels are more than 5 %, 1 is less.
    valid[3, 0, :2] = valid[4, 0, 0] = False
    expected = by_the_definition(red, nir, [0, 2, 4, 5], scale)
    ndvi = mean_ndvi(red, nir, valid, scale)
    assert ndvi.dtype == np.float32
    np.testing.assert_allclose(ndvi, np.clip(expected, -1, 1), atol=1e-6)


def test_reflectance_gives_what_digital_numbers_give(scene):
    red, nir, valid = scene
    np.testing.assert_allclose(mean_ndvi(red / 10000, nir / 10000, valid), mean_ndvi(red, nir, valid), atol=1e-6)


def test_pixels_without_data_count_in_no_frame(scene):
    red, nir, valid = scene
    expected = by_the_definition(red, nir, [0, 1, 3, 4, 5], scale=1)[3, 3]
    red[2, 3, 3] = nir[2, 3, 3] = 0
    red[:, 0, 0] = nir[:, 0, 0] = 0
    ndvi = mean_ndvi(red, nir, valid, scale=1)
    np.testing.assert_allclose(ndvi[3, 3], expected, atol=1e-6)
    assert ndvi[0, 0] == 0


def test_without_a_clear_frame_the_valid_pixels_of_the_clearest_count(scene):
    red, nir, valid = scene
    valid[:, 6] = False
    valid[0, 1:] = False
    red[0] = 60000
    with pytest.warns(UserWarning, match="No frame has more than 95% valid pixels.*5 clearest, 86% to 86% valid"):
        ndvi = mean_ndvi(red, nir, valid, scale=1)
    np.testing.assert_allclose(ndvi[:6], by_the_definition(red, nir, [1, 2, 3, 4, 5], 1)[:6], atol=1e-6)
    assert not ndvi[6].any()


def test_prediction_lies_above_the_lower_and_not_above_the_upper_threshold():
    ndvi = np.array([[0.375, 0.5, 0.625, 0.75]])
    red, nir = (1 - ndvi)[None], (1 + ndvi)[None]
    baseline = NDVIThresholds(0.375, 0.625, scale=1)
    np.testing.assert_array_equal(baseline.predict(red, nir, np.ones((1, 1, 4), bool)), [[False, True, True, False]])


def test_the_challenges_thresholds_are_the_default():
    assert (NDVIThresholds().low, NDVIThresholds().high, NDVIThresholds().scale) == (0.4, 0.6, 4)


def test_fit_finds_the_best_of_all_thresholds(rng):
    """Two scenes, whose NDVI are multiples of 0.1, against every pair of thresholds between them."""
    scenes, ndvi, truth = [], [], []
    for shape in ((5, 8), (9, 4)):
        index = rng.integers(0, 10, shape) / 10
        label = np.where(rng.random(shape) < np.where(np.abs(index - 0.5) < 0.25, 0.8, 0.2), 1, 0).astype("uint8")
        label[0, 0] = 255
        scenes.append(((1 - index)[None], (1 + index)[None], np.ones((1, *shape), bool), label))
        ndvi.append(index[label != 255])
        truth.append(label[label != 255])
    ndvi, truth = np.concatenate(ndvi), np.concatenate(truth)
    cuts = np.arange(-0.05, 1, 0.1)
    best = max(
        matthews_corrcoef(truth, (ndvi > low) & (ndvi <= high)) for low in cuts for high in cuts if low < high - 0.01
    )

    baseline = NDVIThresholds(scale=1).fit(scenes)

    predictions = [baseline.predict(*arrays)[label != 255] for *arrays, label in scenes]
    assert matthews_corrcoef(truth, np.concatenate(predictions)) == pytest.approx(best, abs=1e-9)
    assert best > 0.4


def test_fit_and_predict_agree_about_values_on_a_threshold():
    ndvi = np.array([[0.499, 0.5, 0.501, 0.502]])
    label = np.array([[0, 1, 1, 0]], "uint8")
    arrays = (1 - ndvi)[None], (1 + ndvi)[None], np.ones((1, 1, 4), bool)
    baseline = NDVIThresholds(scale=1).fit([(*arrays, label)])
    assert (baseline.low, baseline.high) == (0.499, 0.501)
    np.testing.assert_array_equal(baseline.predict(*arrays), label)


def test_fit_leaves_out_unknown_pixels(scene):
    red, nir, valid = scene
    label = (mean_ndvi(red, nir, valid) > 0.1).astype("uint8")
    # Were they counted, these would make the thresholds worse.
    label[:14] = 255
    baseline = NDVIThresholds().fit([(red, nir, valid, label)])
    np.testing.assert_array_equal(baseline.predict(red, nir, valid)[14:], label[14:])
    assert baseline.low == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda red, nir, valid: mean_ndvi(red, nir, valid & False), "6 frames without any"),
        (lambda red, nir, valid: mean_ndvi(red, nir[1:], valid), r"Received: \(6, 7, 5\), \(5, 7, 5\)"),
        (lambda red, nir, valid: NDVIThresholds(0.6, 0.4), "Received: 0.6 and 0.4"),
        (lambda *arrays: NDVIThresholds().fit([(*arrays, np.ones((28, 20)))]), "cultivated and other land"),
        (lambda *arrays: NDVIThresholds().fit([]), "cultivated and other land"),
        (lambda *arrays: NDVIThresholds().fit([(*arrays, np.ones((7, 5)))]), r"label of shape \(28, 20\)"),
    ],
)
def test_errors(scene, call, message):
    with pytest.raises(SpinetError, match=message):
        call(*scene)


def test_on_real_farmland(scene_data):
    """The thresholds best on the answer itself reach about 0.49 with the clear frames of March to August."""
    from spinet_tf.data.scene import open_scene

    scene = open_scene(scene_data / "eopatches" / "eolearn-2021" / "eopatch-A")
    scene = scene.isel(time=scene["time"].dt.month.isin(range(3, 9)))
    red, nir = scene["bands"].sel(band=["B04", "B08"]).transpose("band", ...).values
    baseline = NDVIThresholds().fit([(red, nir, scene["valid"].values, scene["label"].values)])
    predicted = baseline.predict(red, nir, scene["valid"].values)
    score = matthews_corrcoef(scene["label"].values.ravel(), predicted.ravel())
    assert 0.48 < score < 0.56
    np.testing.assert_allclose([baseline.low, baseline.high], [0.51, 0.72], atol=0.03)
