"""What is found of a map's uncertainty reaches tables, figures, JSON and pictures."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, brier_score_loss

from spinet_tf.inference.assembly import entropy
from tests.labelled import BANDS, labelled_scene
from training.report import write_report
from training.results import Evaluation
from training.scoring import Scorer
from training.tables import markdown_table, score_tables
from training.uncertainty_scores import LEVELS


class Part:
    """A scene as the scorer opens it."""

    def __init__(self, seed):
        self.seed = seed

    def __call__(self):
        return labelled_scene(time=5, seed=self.seed, name=f"scene {self.seed}")


class NoisyEngine:
    """Probability from the first band of the first frame; the fewer frames, the more uncertain."""

    band_names = BANDS
    scale = 4
    gives_uncertainty = True

    def predict(self, images, num_frames, uncertainty=False):
        p = (images[:, 0, :, :, :1] / 10000).astype("float32")
        p = p.repeat(4, axis=1).repeat(4, axis=2)
        own = np.broadcast_to((p[..., :1] * 0 + 0.5) / num_frames[:, None, None, None], p.shape)
        return np.concatenate([p, own], axis=-1).astype("float32") if uncertainty else p


@pytest.fixture(scope="module")
def scored():
    scorer = Scorer(NoisyEngine(), None, 0.5, True, "Noisy", 0.5, uncertainty=True)
    return [scorer.score(Part(seed)) for seed in (1, 2)]


@pytest.fixture(scope="module")
def evaluation(scored):
    return Evaluation(
        model="Noisy",
        model_file="noisy.keras",
        data="scenes",
        split="none",
        max_cloud=0.5,
        chosen=None,
        chosen_on="",
        ndvi=None,
        ndvi_origin="none.",
        scenes=[result for result, _ in scored],
    )


def known_pixels():
    """Probability and truth of both scenes; the cloudy frame 1 is not seen."""
    scenes = [labelled_scene(time=5, seed=seed) for seed in (1, 2)]
    p = np.concatenate([np.kron(scene["bands"].values[0, 0] / 10000, np.ones((4, 4))) for scene in scenes])
    label = np.concatenate([scene["label"].values for scene in scenes])
    return p[label != 255].astype("float32"), label[label != 255] == 1


def test_json_holds_the_figures(evaluation):
    found = evaluation.summary()["uncertainty"]
    p, cultivated = known_pixels()
    wrong = (p > 0.5) != cultivated
    everywhere = found["entropy"]["all"]
    assert everywhere["pixels"] == p.size
    assert everywhere["brier"] == pytest.approx(brier_score_loss(cultivated, p), rel=1e-5)
    detection = average_precision_score(wrong, np.searchsorted(LEVELS, entropy(p)))
    assert everywhere["error_detection"] == pytest.approx(detection, rel=1e-3)
    assert everywhere["uncertainty"] == pytest.approx(entropy(p).mean())
    # The engine's own uncertainty is 0.5 over the number of frames: 4, or fewer where fewer were to be used.
    assert found["own"]["all"]["uncertainty"] == pytest.approx(0.5 / 4)
    assert {step: trust["uncertainty"] for step, trust in found["own"]["by_frames"].items()} == pytest.approx(
        {1: 0.5, 2: 0.25, 3: 0.5 / 3, 4: 0.125}
    )
    assert found["own"]["all"]["error_detection"] == pytest.approx(wrong.mean())
    assert {group["from"] for group in found["entropy"]["by_clear_frames"]} == {3}
    # A label of noise is boundary everywhere.
    assert found["entropy"]["near_boundary"] == everywhere
    assert "elsewhere" not in found["entropy"]


def test_tables_show_them(evaluation):
    trust, frames = score_tables(evaluation)[-2:]
    together = evaluation.summary()["uncertainty"]
    rows = {(row[0], row[1]): row[2:] for row in [*trust.rows, *trust.summary]}
    names = ("ece", "brier", "nll", "error_rate", "aurc", "excess_aurc", "error_detection")
    for way, key in (("entropy", "entropy"), ("own uncertainty", "own")):
        shown = rows["together", f"all pixels, by {way}"]
        assert shown == [f"{together[key]['all'][name]:.4f}" for name in names]
        assert ("scene 2", f"all pixels, by {way}") in rows
    assert frames.header[-1] == "mean own uncertainty"
    assert [row[1] for row in frames.rows] == ["1", "2", "3", "4", "3 to 4"]
    assert [row[-1] for row in frames.rows] == ["0.5000", "0.2500", "0.1667", "0.1250", "0.1250"]
    assert "| together | within 2 px, by entropy |" in markdown_table(trust)


def test_pictures_and_figures(scored, evaluation, tmp_path):
    _, pictures = scored[0]
    assert pictures[-1].title == "Uncertainty: standard deviation of the probability"
    assert [picture.title.split(",")[0] for picture in pictures[-2:-1]] == ["Errors"]
    write_report(tmp_path / "report.html", evaluation, [[], []])
    html = (tmp_path / "report.html").read_text()
    for text in ("Reliability of the probability", "Risk against coverage", "Uncertainty:", "by own uncertainty"):
        assert text in html


def test_nothing_of_it_where_it_is_not_asked_for():
    result, pictures = Scorer(NoisyEngine(), None, 0.5, False, "Noisy", 0.5).score(Part(1))
    assert not result.uncertainties
    assert not any("Uncertainty" in picture.title for picture in pictures)
