"""Model files load, or say what is wrong with them."""

import keras
import numpy as np
import pytest

from spinet_tf.errors import SpinetError
from spinet_tf.inference import load_model


def test_loaded_model_answers_as_the_saved_one(tiny_spinet, tmp_path):
    tiny_spinet.save(tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")
    images = np.random.default_rng(0).uniform(0, 0.5, (1, 2, 5, 4, 12)).astype(np.float32)
    inputs = {"images": images, "frame_mask": np.ones((1, 2), bool)}
    np.testing.assert_array_equal(loaded(inputs), tiny_spinet(inputs))


def test_missing_file_and_folder_are_refused(tmp_path):
    with pytest.raises(SpinetError, match="which is not there"):
        load_model(tmp_path / "none.keras")
    with pytest.raises(SpinetError, match="which is a folder"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"), [("map.tif", b"II*\x00"), ("model.keras", b"not a zip"), ("e.keras", b"")]
)
def test_other_files_are_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SpinetError, match=r"Expected a \.keras model file.*is not one"):
        load_model(tmp_path / name)


def test_truncated_and_damaged_archives_are_refused(tiny_spinet, tmp_path):
    path = tmp_path / "model.keras"
    tiny_spinet.save(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(SpinetError, match="is not one"):
        load_model(path)
    # The directory at the end is whole, what it points to is not.
    path.write_bytes(content.replace(b'"class_name": "SPInet"', b'"class_name": "Nobody"'))
    with pytest.raises(SpinetError, match="Cannot load the model"):
        load_model(path)


def test_code_in_a_model_file_is_not_run(tmp_path):
    model = keras.Sequential([keras.layers.Input((1,)), keras.layers.Lambda(lambda x: x)])
    model.save(tmp_path / "lambda.keras")
    with pytest.raises(SpinetError, match="Cannot load the model"):
        load_model(tmp_path / "lambda.keras")
