"""A scene becomes a map on the right grid, from the right bands and frames."""

import keras
import numpy as np
import pytest
import rasterio
from affine import Affine

from spinet_tf import BANDS, SPInet
from spinet_tf.data import open_scene
from spinet_tf.errors import SpinetError
from spinet_tf.inference import predict_scene
from spinet_tf.inference.engine import KerasEngine
from spinet_tf.models.answers import probability
from spinet_tf.tiling import tiles
from tests.inference.scenes import CLOUDY, CRS, MeanEngine, make_scene


def test_probability_is_the_engines_answer_on_the_clear_frames():
    scene, engine = make_scene(), MeanEngine()
    result = predict_scene(engine, scene, tile=8, overlap=2)
    clear = [0, 2, 3]
    assert result.attrs["frames"] == clear
    np.testing.assert_allclose(result["probability"], expected_means(scene, clear), rtol=0, atol=6e-8)
    assert result["probability"].dtype == np.float32
    assert all(images.dtype == np.uint16 and set(num_frames) == {3} for images, num_frames in engine.asked)
    assert all(num_frames.dtype == np.int32 for _, num_frames in engine.asked)


def expected_means(scene, frames):
    """What MeanEngine answers to those frames, on the fine grid."""
    means = scene["bands"].values[frames].mean(axis=(0, 1)) / 10000
    return means.repeat(4, axis=0).repeat(4, axis=1)


def test_grid_divides_the_scenes_pixels_by_four():
    result = predict_scene(MeanEngine(), make_scene())
    assert result.sizes == {"y": 84, "x": 68}
    assert result.rio.crs == CRS
    assert result.rio.transform() == Affine(2.5, 0, 500000.5, 0, -2.5, 5100000.25)
    assert result.rio.transform(recalc=True) == result.rio.transform()
    np.testing.assert_array_equal(result["x"][:5], [500001.75, 500004.25, 500006.75, 500009.25, 500011.75])
    np.testing.assert_array_equal(result["y"][:2], [5099999.0, 5099996.5])


def test_a_scene_without_georeference_gives_a_map_without():
    result = predict_scene(MeanEngine(), make_scene(georeferenced=False))
    assert result.sizes == {"y": 84, "x": 68}
    assert result.rio.crs is None
    assert "x" not in result.coords


def test_bands_are_matched_by_name():
    scene = make_scene(bands=("B08", "B02", "B04", "B03"))
    engine = MeanEngine(band_names=("B04", "B08"))
    predict_scene(engine, scene)
    (images, _), *_ = engine.asked
    np.testing.assert_array_equal(images[0, 0, :, :, 0], scene["bands"].sel(band="B04").values[0])
    np.testing.assert_array_equal(images[0, 0, :, :, 1], scene["bands"].sel(band="B08").values[0])


def test_frames_by_the_clearest_and_by_the_cloud_accepted():
    scene = make_scene()
    scene["valid"][2, :10] = False  # 10 of 21 rows
    assert predict_scene(MeanEngine(), scene).attrs["frames"] == [0, 3]
    assert predict_scene(MeanEngine(), scene, max_cloud=0.5).attrs["frames"] == [0, 2, 3]
    assert predict_scene(MeanEngine(), scene, frames="clearest", count=1).attrs["frames"] == [3]


def test_only_pixels_without_data_in_every_chosen_frame_are_nan():
    scene = make_scene()
    scene["bands"][:, :, 3, 4] = 0
    scene["bands"][CLOUDY, :, 3, 4] = 5  # not chosen: does not count
    scene["bands"][:2, :, 10, 10] = 0  # the others hold data
    scene["bands"][:, :3, 12, 12] = 0  # other bands hold data
    missing = np.isnan(predict_scene(MeanEngine(), scene)["probability"].values)
    assert missing.sum() == 16
    assert missing[12:16, 16:20].all()


def test_a_keras_model_sees_reflectance_and_answers_with_probability(tiny_spinet):
    scene = make_scene(height=9, width=7)
    result = predict_scene(tiny_spinet, scene)
    images = scene["bands"].values[[0, 2, 3]].transpose(0, 2, 3, 1)[None]
    inputs = {"images": images / np.float32(10000), "frame_mask": np.ones((1, 3), bool)}
    logits = keras.ops.convert_to_numpy(tiny_spinet(inputs, training=False))[0, :, :, 0]
    np.testing.assert_allclose(result["probability"], 1 / (1 + np.exp(-logits.astype(np.float64))), rtol=0, atol=1e-6)


def test_padding_frames_of_a_batch_do_not_count(tiny_spinet):
    images = np.random.default_rng(0).integers(1, 9000, (2, 3, 5, 6, 12), np.uint16)
    engine = KerasEngine(tiny_spinet)
    both = engine.predict(images, np.array([3, 1], np.int32))
    assert both.shape == (2, 20, 24, 1)
    alone = engine.predict(images[1:, :1], np.array([1], np.int32))
    np.testing.assert_allclose(both[1:], alone, rtol=0, atol=1e-6)


def test_predicting_leaves_the_model_as_it_was(tiny_spinet):
    before = (tiny_spinet.compiled, tiny_spinet._jit_compile, tiny_spinet.predict_function)
    predict_scene(tiny_spinet, make_scene(height=5, width=5))
    assert (tiny_spinet.compiled, tiny_spinet._jit_compile, tiny_spinet.predict_function) == before


def test_the_map_of_a_real_scene_covers_its_ground_exactly(scene_data):
    scene = open_scene(scene_data / "scenes" / "be_lpis_2018_A.nc")
    result = predict_scene(MeanEngine(band_names=("B04", "B08")), scene, max_cloud=0.01)
    assert result.rio.crs == scene.rio.crs
    assert result.rio.bounds() == scene.rio.bounds()
    assert result.rio.resolution() == (2.5, -2.5)
    assert result.sizes == {"y": 256, "x": 256}
    clear = scene["valid"].mean(("y", "x")).values >= 0.99
    np.testing.assert_array_equal(result.attrs["frames"], np.flatnonzero(clear))
    mean = scene["bands"].sel(band=["B04", "B08"])[clear].astype(np.float64).mean(("time", "band")).values / 10000
    np.testing.assert_allclose(result["probability"][::4, ::4], mean, rtol=1e-5)


# === What is refused ===


def test_a_missing_band_is_named():
    with pytest.raises(SpinetError, match="B12"):
        predict_scene(MeanEngine(), make_scene(bands=BANDS[:-1]))


def test_a_scene_without_valid_frame_is_refused():
    scene = make_scene()
    scene["valid"][:] = False
    with pytest.raises(SpinetError, match="valid"):
        predict_scene(MeanEngine(), scene)


def test_a_model_that_does_not_name_its_bands_is_refused():
    model = SPInet(bands=4, filters=4, tefa_blocks=1, bottleneck=2)
    with pytest.raises(SpinetError, match="does not name its bands"):
        predict_scene(model, make_scene())


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="graphs of TensorFlow")
def test_one_graph_serves_tiles_of_all_sizes(monkeypatch):
    made = []
    monkeypatch.setattr(
        "spinet_tf.inference.engine.probability", lambda logits: made.append(logits.shape) or probability(logits)
    )
    small = KerasEngine(SPInet(bands=4, filters=4, tefa_blocks=1, bottleneck=2))
    for batch, time, size in ((1, 2, 8), (1, 3, 8), (2, 3, 8), (3, 1, 9)):
        images = np.ones((batch, time, size, size + 1, 4), np.uint16)
        num_frames = np.full(batch, time, np.int32)
        answers = small.predict(images, num_frames)
        assert answers.shape == (batch, 4 * size, 4 * size + 4, 1)
        shared = small.predict_with_means(images, num_frames, small.find_means(images, num_frames))
        np.testing.assert_allclose(shared, answers, atol=1e-6)
    # With and without means.
    assert made == 2 * [(None, None, None, 1)]


def test_another_kind_of_model_is_refused():
    model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(1)])
    with pytest.raises(SpinetError, match=r"Received: Sequential without the attribute band_names and scale"):
        predict_scene(model, make_scene())


def test_a_scene_of_reflectance_or_codes_is_refused():
    scene = make_scene()
    with pytest.raises(SpinetError, match=r"bands of uint16\. Received: bands of float64"):
        predict_scene(MeanEngine(), scene.assign(bands=scene["bands"] / 10000))
    with pytest.raises(SpinetError, match=r"valid of bool\. Received: valid of uint8"):
        predict_scene(MeanEngine(), scene.assign(valid=scene["valid"].astype("uint8")))
    with pytest.raises(SpinetError, match="Received: none named valid"):
        predict_scene(MeanEngine(), scene.drop_vars("valid"))


def test_the_order_of_axes_does_not_matter():
    scene = make_scene()
    turned = scene.transpose("y", "x", "band", "time")
    np.testing.assert_array_equal(
        predict_scene(MeanEngine(), turned)["probability"], predict_scene(MeanEngine(), scene)["probability"]
    )


def test_layers_and_facts(monkeypatch):
    monkeypatch.setattr(tiles, "SURROUNDINGS", 0)
    scene = make_scene(30, 30)
    scene["valid"][0, :, :10] = False
    result = predict_scene(MeanEngine(), scene, tile=16, overlap=0, uncertainty=True, valid_frames=True, threshold=0.45)
    p = result["probability"].values.astype(float)
    np.testing.assert_allclose(result["uncertainty"], -p * np.log2(p) - (1 - p) * np.log2(1 - p), rtol=1e-5)
    np.testing.assert_array_equal(result["class"], p > 0.45)
    assert 0.1 < result["class"].values.mean() < 0.9
    # The left tiles have frame 0 not, which is cloudy in two thirds of them.
    expected = np.where(np.arange(30) < 14, 2, 3)
    np.testing.assert_array_equal(result["valid_frames"], np.tile(expected, (30, 1)))
    np.testing.assert_array_equal(result["y_scene"], scene["y"])
    assert result.attrs == {
        "name": "hand-made",
        "engine": "MeanEngine",
        "frames": [0, 2, 3],
        "dates": ["2019-03-01", "2019-03-21", "2019-03-31"],
        "frames_per_tile": [2, 3],
        "tiles": 4,
        "tile": [16, 16],
        "means": "tile",
        "blocks": 1,
        "resumed": 0,
    }


class UncertainEngine(MeanEngine):
    """A standard deviation of a tenth of the probability."""

    gives_uncertainty = True

    def predict(self, images, num_frames, uncertainty=False):
        p = super().predict(images, num_frames)
        return np.concatenate([p, p / 10], axis=-1) if uncertainty else p


def test_the_models_own_uncertainty_is_blended_and_named(tmp_path):
    scene = make_scene()
    options = {"tile": 16, "overlap": 4, "uncertainty": True}
    in_memory = predict_scene(UncertainEngine(), scene, **options)
    np.testing.assert_allclose(in_memory["uncertainty"], in_memory["probability"] / 10, rtol=1e-5, atol=1e-8)
    assert in_memory["uncertainty"].attrs == {"long_name": "standard deviation of the probability", "units": "1"}
    on_disk = predict_scene(UncertainEngine(), scene, tmp_path / "map.tif", **options)
    np.testing.assert_array_equal(on_disk["uncertainty"], in_memory["uncertainty"])
    plain = predict_scene(MeanEngine(), scene, tmp_path / "plain.tif", **options)
    assert plain["uncertainty"].attrs["units"] == "bit"
    for name, meaning in (("map", "standard deviation of the probability"), ("plain", "binary entropy of the")):
        with rasterio.open(tmp_path / f"{name}_uncertainty.tif") as file:
            assert file.tags()["UNCERTAINTY"].startswith(meaning)
