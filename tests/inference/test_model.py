"""Model files load, or say what is wrong with them."""

import json
import re
import zipfile

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


@pytest.mark.parametrize(
    ("name", "size"),
    [("filters", 65536), ("filters", 2**31 - 1), ("tefa_blocks", 60_000), ("bands", 2**31), ("scale", 1e308)],
)
def test_networks_larger_than_their_weights_are_refused_at_once(tiny_spinet, tmp_path, name, size):
    tiny_spinet.save(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        content = {member: archive.read(member) for member in archive.namelist()}
    config = json.loads(content["config.json"])
    config["config"][name] = size
    content["config.json"] = json.dumps(config)
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
        for member, data in content.items():
            archive.writestr(member, data)
    with pytest.raises(SpinetError, match=rf"sizes fit its weights.* {name} {re.escape(f'{size:g}')}.*another copy"):
        load_model(tmp_path / "model.keras")


def test_what_a_backend_runs_out_of_is_told(tiny_spinet, tmp_path, monkeypatch):
    def load(path, compile):
        raise MemoryError

    tiny_spinet.save(tmp_path / "model.keras")
    monkeypatch.setattr("keras.models.load_model", load)
    with pytest.raises(SpinetError, match=r"Cannot load the model .*model\.keras: MemoryError"):
        load_model(tmp_path / "model.keras")


def test_code_in_a_model_file_is_not_run(tmp_path):
    model = keras.Sequential([keras.layers.Input((1,)), keras.layers.Lambda(lambda x: x)])
    model.save(tmp_path / "lambda.keras")
    with pytest.raises(SpinetError, match="Cannot load the model"):
        load_model(tmp_path / "lambda.keras")
