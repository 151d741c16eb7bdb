"""A configuration that cannot be used says which key is wrong and what would be right."""

from pathlib import Path

import pytest

from spinet_tf.errors import SpinetError
from training.config import Config, ModelConfig, load_config, save_config

# Those of comparisons and of ablations are other commands'.
OTHERS = ("compare", "ablations")
FOLDER = Path(__file__).parents[2] / "training" / "configs"
CONFIGS = [path for path in sorted(FOLDER.glob("*.yaml")) if not path.name.startswith(OTHERS)]


@pytest.fixture
def load(tmp_path):
    def load(text):
        path = tmp_path / "config.yaml"
        path.write_text(text)
        return load_config(path)

    return load


def test_settings_left_out_have_their_defaults(load):
    assert load("") == Config()
    assert load("patch: 16\nmodel: {filters: 8}") == Config(patch=16, model=ModelConfig(filters=8))


def test_values_are_read(load):
    config = load(
        "bands: [B04, B08]\nlearning_rate: 1e-3\nmax_cloud: 1\nvalidation_scenes: [a, b]\nframes: all\naugment: false\n"
        "model: {configuration: paper, fusion: plain}"
    )
    assert config.bands == ("B04", "B08")
    assert config.learning_rate == 0.001
    assert type(config.max_cloud) is float
    assert config.validation_scenes == ("a", "b")
    assert config.model.overrides() == {"fusion": "plain"}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_the_projects_own_configurations(path, tmp_path):
    config = load_config(path)
    save_config(config, tmp_path / "again.yaml")
    assert load_config(tmp_path / "again.yaml") == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pach: 16", "config.yaml: unknown key 'pach'. Did you mean 'patch'?"),
        ("learning-rate: 1", "unknown key 'learning-rate'. Did you mean 'learning_rate'?"),
        ("7: 1", "unknown key 7. Did you mean"),
        ("model: {filter: 3}", "config.yaml: model: unknown key 'filter'. Did you mean 'filters'? Known keys: config"),
        ("model: small", "model: expected keys and values. Received: 'small' (text)"),
        ("- patch", "expected keys and values. Received: ['patch'] (a list)"),
        ("patch: big", "patch: expected a whole number of 2 or more. Received: 'big' (text)"),
        ("patch: 1", "expected a whole number of 2 or more. Received: 1"),
        ("patch: 16.0", "expected a whole number of 2 or more. Received: 16.0"),
        ("frame_dropout: [0.5, 0.2]", "expected a number from 0 to 0.95, or two in a list, the lower first"),
        ("frame_dropout: [0.5]", "expected a number from 0 to 0.95, or two in a list, the lower first"),
        ("frame_dropout: [0, 1]", "expected a number from 0 to 0.95. Received: [0, 1]"),
        ("steps: true", "expected a whole number of 1 or more. Received: True (true or false)"),
        ("epochs:", "expected a whole number of 1 or more. Received: None (nothing)"),
        ("learning_rate: 0", "expected a number above 0. Received: 0"),
        ("learning_rate: .nan", "expected a number above 0. Received: nan"),
        ("learning_rate: fast", "expected a number above 0. Received: 'fast' (text)"),
        ("max_cloud: 25", "expected a number from 0 to 1. Received: 25"),
        ("frames: randon", "expected one of all, clearest, random (did you mean 'random'?). Received: 'randon'"),
        ("weights: 3", "expected one of uniform, ai4eo, scene. Received: 3"),
        ("augment: 1", "expected true or false. Received: 1"),
        ("start: 3", "expected the name of a preset such as tiny-simulated, or a .keras file. Received: 3"),
        ("bands: B04", "expected a list of different band names such as [B02, B03, B04]. Received: 'B04' (text)"),
        ("bands: [B04, B04]", "expected a list of different band names"),
        ("validation_scenes: 0", "expected a whole number of 1 or more, or a list of names of scenes. Received: 0"),
        ("model: {fusion: fancy}", "model: fusion: expected one of"),
        ("patch: [", "config.yaml is not YAML"),
    ],
)
def test_errors(load, text, message):
    with pytest.raises(SpinetError) as error:
        load(text)
    assert message in str(error.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(SpinetError, match="Cannot read the configuration"):
        load_config(tmp_path / "nothing.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(SpinetError, match="Cannot read the configuration"):
        load_config(tmp_path / "binary.yaml")
