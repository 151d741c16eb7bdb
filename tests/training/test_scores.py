"""Scores equal scikit-learn's, and tables show them under the right names."""

import numpy as np
import pytest
from sklearn.metrics import matthews_corrcoef

from spinet_tf.data.ai4eo import weight_map
from spinet_tf.errors import SpinetError
from training.scores import SceneScores, Score, markdown_table, mean_scores, score_map, table_rows


def test_scores_equal_scikit_learns(rng):
    label = (rng.random((40, 30)) < 0.4).astype("uint8")
    label[5:12, 3:20] = 255
    predicted = (rng.random(label.shape) < 0.3) | (label == 1)
    score = score_map(label, predicted)
    known = label != 255
    assert score.mcc == pytest.approx(matthews_corrcoef(label[known], predicted[known]))
    weights = weight_map(label == 1, ~known)
    expected = matthews_corrcoef((label == 1).ravel(), predicted.ravel(), sample_weight=weights.ravel())
    assert score.weighted_mcc == pytest.approx(expected)
    assert abs(score.mcc - score.weighted_mcc) > 1e-3


def test_scores_equal_the_challenges(goldens):
    cases = goldens("ai4eo_weight_map")
    for number in range(3):
        case = {name: cases[f"{number}/{name}"] for name in ("cultivated", "not_declared", "prediction")}
        label = np.where(case["not_declared"], 255, case["cultivated"]).astype("uint8")
        expected = float(cases[f"{number}/weighted_mcc"])
        # Where a parcel is half undeclared, the label cannot tell the other half.
        if not np.any(case["cultivated"] & case["not_declared"]):
            assert score_map(label, case["prediction"]).weighted_mcc == pytest.approx(expected, abs=1e-6)


def test_a_map_of_another_size():
    with pytest.raises(SpinetError, match=r"map's shape \(8, 8\). Received: \(4, 8\)"):
        score_map(np.zeros((4, 8), "uint8"), np.zeros((8, 8), bool))


def test_table():
    scores = [
        SceneScores("first", Score(0.8, 0.7), Score(0.5, 0.4)),
        SceneScores("second", Score(0.6, 0.5), Score(0.25, 0.2)),
    ]
    assert mean_scores(scores).model.mcc == pytest.approx(0.7)
    assert markdown_table(table_rows(scores)).splitlines() == [
        "| scene | SPInet MCC | NDVI MCC | SPInet weighted MCC | NDVI weighted MCC |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| first | 0.800 | 0.500 | 0.700 | 0.400 |",
        "| second | 0.600 | 0.250 | 0.500 | 0.200 |",
        "| mean | 0.700 | 0.375 | 0.600 | 0.300 |",
    ]
