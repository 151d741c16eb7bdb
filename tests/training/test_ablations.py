"""Ablations leave out what they say and nothing else, and their tables hold what was counted."""

import json
import re
import statistics
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from sklearn.metrics import matthews_corrcoef

from spinet_tf import SPInet
from spinet_tf.bands import BANDS
from spinet_tf.data.patches import labelled
from spinet_tf.data.scene import clear_fraction, open_scene
from spinet_tf.inference.model import load_model
from tests.helpers import assert_close, padded, randomize
from tests.labelled import labelled_scene
from training import ablation_runs
from training.ablation_config import load_ablations
from training.ablation_networks import MEAN_ATTENTION, WITHOUT_TERN, MeanInsteadOfAttention, WithoutTERN, ablated
from training.ablation_report import Findings
from training.ablation_runs import Run
from training.ablation_scenes import drawn, misregistered, shift_frame, shuffled
from training.ablations import main
from training.config import Config, ModelConfig
from training.systems import build_system, require_settings

SIZES = {"bands": ["B04", "B08"], "filters": 4, "tefa_blocks": 0, "bottleneck": 4}
TOY = """
data: {training: SCENES, test: SCENES/eopatch-0}
steps: 1
batch: 2
seeds: [1]
fewer_seeds: [1]
training:
  {model: {filters: 2, tefa_blocks: 0, bottleneck: 2}, patch: 16, epochs: 1, frames: random, frame_count: [1, 3],
   max_cloud: 0.6, checkpoint_minutes: 1000}
rival: {HighRes-net: {system: highresnet, filters: 2, blocks: 1}}
bands: {2 bands: [B04, B08]}
frames: [1, 3]
ordered_frames: 3
misregistration: [0.5]
"""


@pytest.fixture(scope="module")
def networks():
    """Each with random weights, the attention's as they were made."""
    keras.utils.set_random_seed(3)
    config = Config(ModelConfig(filters=4, tefa_blocks=0), frames="random")
    networks = {}
    for system, cls in ((MEAN_ATTENTION, MeanInsteadOfAttention), (WITHOUT_TERN, WithoutTERN)):
        model = ablated(config, system).model
        # What the configuration named says of the small network, but for what is given.
        assert model.overrides() == {"filters": 4, "tefa_blocks": 0, "bottleneck": 4}
        require_settings(model.system, model.overrides(), ["bands"])
        networks[cls] = build_system(model.system, model.overrides(), bands=SIZES["bands"])
    attention = networks[MeanInsteadOfAttention].get_layer("mid").attention.query_key_value
    made = attention.get_weights()
    for network in networks.values():
        randomize(network)
    attention.set_weights(made)
    return networks


@pytest.mark.parametrize("cls", [MeanInsteadOfAttention, WithoutTERN])
def test_rules_still_hold(networks, cls, rng, tmp_path):
    network = networks[cls]
    samples = [rng.uniform(0, 0.5, (time, 6, 5, 2)).astype("float32") for time in (4, 2)]
    logits = np.asarray(network(padded(samples, 5, np.nan, rng)))
    again = np.asarray(network(padded([sample[::-1] for sample in samples], 4, 1e3, rng)))
    assert_close(again, logits)
    # Frames are seen, and none alone decides.
    fewer = np.asarray(network(padded([sample[:1] for sample in samples], 1, 0, rng)))
    assert np.abs(fewer - logits).max() > 0.01 * logits.std()

    network.save(tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")
    assert type(loaded) is cls
    assert (loaded.band_names, loaded.scale) == (("B04", "B08"), 4)
    assert_close(loaded(padded(samples, 4, 0, rng)), logits)


def test_a_mean_instead_of_attention(networks, rng):
    unit = networks[MeanInsteadOfAttention].get_layer("mid")
    attention, features = unit.attention, unit.filters
    mask = np.array([[True, True, True], [True, False, True]])
    x = rng.normal(size=(2, 3, 2, 2, features)).astype("float32")
    joint, bias = (np.asarray(weight) for weight in attention.query_key_value.weights)
    value = x @ joint[:, 2 * features :] + bias[2 * features :]
    mean = np.stack([value[0].mean(0), value[1, [0, 2]].mean(0)])[:, None].repeat(3, axis=1)
    kernel, bias = (np.asarray(weight) for weight in attention.projection.weights)
    with tf.GradientTape() as tape:
        attended = unit.attention(x, mask=mask)
        loss = tf.reduce_sum(tf.square(attended))
    assert_close(attended, mean @ kernel + bias)
    # What a mean has learns, and attention stays a mean.
    for gradient in tape.gradient(loss, [weight.value for weight in attention.query_key_value.weights]):
        assert not gradient[..., : 2 * features].numpy().any()
        assert np.abs(gradient[..., 2 * features :]).min() > 0


def test_without_tern(networks, rng):
    network, whole = networks[WithoutTERN], SPInet(**SIZES)
    tern = whole.get_layer("tern")
    weights = {weight.path: weight for weight in network.weights}
    assert {weight.path for weight in whole.weights} - weights.keys() == {weight.path for weight in tern.weights}
    for weight in whole.weights:
        if weight.path in weights:
            weight.assign(weights[weight.path])
    # Filters that leave every frame as it is.
    tern.proposal.set_weights([np.zeros(tern.proposal.kernel.shape), np.eye(25)[12]])
    inputs = padded([rng.uniform(0, 0.5, (time, 5, 6, 2)).astype("float32") for time in (3, 1)], 3, 0, rng)
    assert_close(network(inputs), whole(inputs))


def test_shifts_of_a_known_amount():
    y, x = np.mgrid[:20, :24].astype("float64")

    def land(y, x):
        return 3000 + 1000 * np.sin(y / 3) + 800 * np.cos(x / 4)

    frame = np.rint([land(y, x), land(y, x) / 2]).astype("uint16")
    inside = (slice(None), slice(3, -3), slice(3, -3))
    moved = shift_frame(frame, 0.4, -1.3)
    expected = np.array([land(y - 0.4, x + 1.3), land(y - 0.4, x + 1.3) / 2])
    assert np.abs(moved.astype("float64") - expected)[inside].max() < 4
    np.testing.assert_array_equal(shift_frame(frame, 2, 0)[:, 2:], frame[:, :-2])
    # No data stays no data, and is nowhere else.
    frame[:, :, :8] = 0
    gone = shift_frame(frame, 0, 1.0) == 0
    assert gone[..., :9].all()
    assert not gone[..., 9:].any()


def test_scenes_out_of_place_grow_with_the_deviation():
    scene = labelled_scene(time=4)
    label = scene["label"].copy()
    none, little, much = (misregistered(scene, sigma, seed=1) for sigma in (0.0, 1e-6, 8.0))
    for same in (none, little):
        np.testing.assert_array_equal(same["bands"], scene["bands"])
        np.testing.assert_array_equal(same["valid"], scene["valid"])
    assert (much["bands"] != scene["bands"]).mean() > 0.5
    # Every band and the mask of a frame move together, each frame on its own way, and again the same.
    shifts = 8.0 * np.random.default_rng(1).standard_normal((4, 2))
    np.testing.assert_array_equal(much["bands"][3], shift_frame(scene["bands"].to_numpy()[3], *shifts[3]))
    assert not much["valid"].equals(scene["valid"])
    assert much["label"].equals(label)


def test_frames_in_another_order_and_fewer():
    scene = labelled_scene(time=4)
    times = shuffled(scene, seed=0)["time"].to_numpy()
    np.testing.assert_array_equal(np.sort(times), scene["time"])
    assert (times != scene["time"].to_numpy()).any()
    assert shuffled(scene.isel(time=[0, 1]), seed=0)["time"].to_numpy()[0] == scene["time"][1]
    # Frame 1 is cloudy.
    np.testing.assert_array_equal(drawn(scene, 3, 3, seed=0)["time"], scene["time"][[0, 2, 3]])
    for seed in range(5):
        one, two = (drawn(scene, count, 3, seed)["time"].to_numpy() for count in (1, 2))
        assert set(one) < set(two) < set(scene["time"][[0, 2, 3]].to_numpy())
        assert two[0] < two[1]
    assert len({drawn(scene, 1, 3, seed)["time"].item() for seed in range(9)}) == 3
    others = [scene.assign_attrs(name=f"scene {number}") for number in range(9)]
    assert len({drawn(other, 1, 3, seed=0)["time"].item() for other in others}) == 3


def run(network, seed, **views):
    scores = {view.replace("_", " "): {"x": a, "y": b} for view, (a, b) in views.items()}
    return Run(network, seed, scores, {"x": seed / 100, "y": 0.0})


def test_differences_are_those_of_common_seeds_scene_by_scene():
    found = Findings(
        [
            run("SPInet", 1, clear_frames=(0.5, 0.9)),
            run("SPInet", 2, clear_frames=(0.7, 0.9)),
            run("4 bands", 1, clear_frames=(0.4, 0.6)),
        ]
    )
    assert found.of_seeds("SPInet", "clear frames") == pytest.approx({1: 0.7, 2: 0.8})
    assert found.of_scenes("SPInet", "clear frames", [1, 2]) == pytest.approx([0.6, 0.9])
    gain, error = found.difference("4 bands", "clear frames", "SPInet", "clear frames")
    assert gain == pytest.approx(-0.2)
    assert error == pytest.approx(statistics.stdev([-0.1, -0.3]) / 2**0.5)
    assert found.change("SPInet") == 0.02
    scenes = f"{statistics.stdev([0.6, 0.9]):.3f}"
    assert found.cells("SPInet", "clear frames") == ["2", f"0.750 ± {0.1 / 2**0.5:.3f}", scenes, "-"]
    assert found.cells("4 bands", "clear frames")[3] == f"-0.200 ± {error:.3f}"


@pytest.fixture
def write(tmp_path, scenes):
    def write(text):
        path = tmp_path / "toy.yaml"
        path.write_text(text.replace("SCENES", str(scenes)))
        return path

    return write


class Answers:
    """An engine that says how bright the mean frame is, or, if it is the rival, the first."""

    scale = 4

    def __init__(self, config):
        self.band_names = config.bands or BANDS
        self.first = config.model.system == "highresnet"

    def predict(self, images, num_frames):
        frames = [image[: 1 if self.first else number] for image, number in zip(images, num_frames, strict=True)]
        bright = np.stack([frame.mean(axis=(0, -1)) for frame in frames]) / 5000
        return bright.repeat(4, axis=1).repeat(4, axis=2)[..., None].astype("float32").clip(0, 1)


def test_the_command(write, tmp_path, monkeypatch, capsys):
    arguments = ["--config", str(write(TOY)), "--output", str(tmp_path / "out")]
    monkeypatch.setattr(ablation_runs, "KerasEngine", Answers)
    done = []

    def cut_off(config, data, folder):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(folder)
        return config

    with monkeypatch.context() as context:
        context.setattr(ablation_runs, "trained", cut_off)
        assert main(arguments) == 130
    monkeypatch.setattr(ablation_runs, "trained", lambda config, data, folder: config)
    capsys.readouterr()
    assert main(arguments) == 0
    assert capsys.readouterr().out.count("Kept") == 2
    content = json.loads((tmp_path / "out" / "results.json").read_text())
    names = ["SPInet", "without TERN", "mean instead of attention", "2 bands", "with cloudy frames", "HighRes-net"]
    assert [run["network"] for run in content["runs"]] == names
    views = {run["network"]: list(run["scores"]) for run in content["runs"]}
    shown = ["clear frames", "all frames", "1 frames", "3 frames", "ordered", "shuffled", "shifted 0.5"]
    assert views["SPInet"] == shown
    assert views["without TERN"] == ["clear frames", "shifted 0.5"]
    assert views["with cloudy frames"] == ["all frames"]
    assert views["HighRes-net"] == ["ordered", "shuffled"]
    change = {run["network"]: run["change"] for run in content["runs"] if run["change"]}
    assert change["SPInet"]["eopatch-0"] < 1e-5 < 1e-3 < change["HighRes-net"]["eopatch-0"]
    Image.open(tmp_path / "out" / "ablations.png").verify()

    # Each view is what it says it is.
    scores = {view: scores["eopatch-0"] for view, scores in content["runs"][0]["scores"].items()}
    scene = labelled(open_scene(Path(write(TOY).read_text().split("test: ")[1].split("}")[0])))
    clear = clear_fraction(scene)
    truth = scene["label"].to_numpy().ravel()
    kept = {
        "clear frames": clear >= 0.4,
        "all frames": clear > 0,
        "3 frames": np.isin(np.arange(len(clear)), np.argsort(-clear, kind="stable")[:3]),
    }
    for view, frames in kept.items():
        bright = scene["bands"].to_numpy()[frames].mean(axis=(0, 1)) / 5000
        called = bright.repeat(4, axis=0).repeat(4, axis=1).ravel() > 0.5
        known = truth != 255
        assert scores[view] == pytest.approx(matthews_corrcoef(truth[known], called[known]), abs=1e-6)
    assert scores["ordered"] == scores["shuffled"] == scores["3 frames"]

    # Everything is there already.
    table = (tmp_path / "out" / "table.md").read_text()
    monkeypatch.setattr(ablation_runs, "trained", None)
    assert main(arguments) == 0
    assert capsys.readouterr().out.count("Kept") == 6
    assert (tmp_path / "out" / "table.md").read_text() == table
    assert main(["--config", str(write(TOY.replace("steps: 1", "steps: 2"))), "--output", str(tmp_path / "out")]) == 1
    assert "holds a run of other settings" in capsys.readouterr().err


def test_the_projects_own_ablations():
    ablations = load_ablations(Path(__file__).parents[2] / "training" / "configs" / "ablations_cpu.yaml")
    base = ablations.networks["SPInet"]
    sizes = {"filters": 16, "tefa_blocks": 2, "bottleneck": 4}
    for name, config in ablations.networks.items():
        assert (config.steps, config.epochs, config.batch) == (base.steps, base.epochs, base.batch)
        assert config.model.overrides() == (sizes if name in ("without TERN", "mean instead of attention") else {}) or (
            name == ablations.rival
        )
    assert len(ablations.networks["4 bands"].bands) == 4
    assert ablations.networks["with cloudy frames"].max_cloud == 1
    assert ablations.frames == (1, 2, 4, 8, 16, 24, 40)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("steps: 1\n", "", "no steps"),
        ("steps: 1\n", "steps: 0\n", "steps: expected whole numbers above 0. Received: \\[0\\]"),
        ("frames: [1, 3]", "frames: [1, 2.5]", "frames: expected whole numbers above 0"),
        ("[0.5]", "0.5", "misregistration: expected numbers above 0. Received: 0.5"),
        ("[B04, B08]", "[B04, B04]", "bands: bands: expected a list of different band names"),
        ("{2 bands: [B04, B08]}", "[B04]", "bands: expected keys and values"),
        ("{HighRes-net:", "{other: {}, HighRes-net:", "rival: expected one network"),
        ("system: highresnet, filters: 2, blocks: 1", "system: rams, frames: 3", "any number of frames"),
        ("{HighRes-net:", "{SPInet:", "names of networks that all differ"),
        ("model: {", "model: {uncertainty: true, ", "expected a new SPInet"),
        ("frames: [1, 3]\nordered", "frames: [1, 30]\nordered", "at least 30 frames .* eopatch-0"),
    ],
)
def test_errors(write, tmp_path, capsys, before, after, message):
    assert before in TOY
    assert main(["--config", str(write(TOY.replace(before, after))), "--output", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert re.search(message, error)
    assert len(error.strip().splitlines()) == 1
