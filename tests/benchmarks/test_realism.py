"""The comparison of simulated with real scenes computes what it says, on scenes made by hand."""

import numpy as np
import pytest

from spinet_tf.data.simulate import synthesize
from tests.benchmarks import realism


def made(days, red, nir, label=None, metres=10.0, **kinds):
    """A scene of two bands, whose values by date are the same in all pixels but for a slope."""
    slope = np.linspace(0.9, 1.1, 36, dtype="float32").reshape(6, 6)
    bands = {name: np.array(values, "float32")[:, None, None] * slope for name, values in (("B04", red), ("B08", nir))}
    return realism.Scene("made", bands, np.array(days), np.array([1, 0.5, 0, 1]), kinds, label, metres)


def test_curves_are_medians_by_month():
    crops = np.zeros((6, 6), bool)
    crops[:3] = True
    scene = made([61, 70, 130], [0.1, 0.1, 0.05], [0.3, 0.5, 0.45], crops=crops)
    curve = realism.curve(scene, "crops")
    np.testing.assert_allclose(curve[[0, 2]], [(0.5 + 2 / 3) / 2, 0.8], atol=1e-4)  # 2 and 11 March, 10 May
    assert np.isnan(curve[[1, 3, 4, 5]]).all()
    assert np.isnan(realism.curve(scene, "grass")).all()
    assert np.isnan(realism.curve(scene, "crops", "red-edge NDVI")).all()  # no such bands


def test_correlation_of_dates():
    """Two dates alike, and one a month later whose map is the other way round."""
    scene = made([100, 105, 130], [0.1, 0.1, 0.1], [0.3, 0.3, 0.3])
    red = scene.bands["B04"]
    red[:] = np.linspace(0.05, 0.1, 36).reshape(6, 6)
    red[2] = red[2, ::-1, ::-1]
    found = realism.correlation_by_lag(scene)
    assert found[1, 10] > 0.9
    assert found[20, 40] < -0.9
    assert set(found) == {(1, 10), (20, 40)}


def test_labels_and_clouds():
    """Two fields of 4 and 12 pixels of 50 m: 1 and 3 ha."""
    label = np.zeros((6, 6), "uint8")
    label[:2, :2] = 1
    label[3:6, 2:6] = 1
    found = realism.describe(made([100, 110, 120], [0.1] * 3, [0.3] * 3, label, 50.0))
    assert found["cultivated, part"] == pytest.approx(16 / 36)
    assert found["cultivated: half of it in pieces below, ha"] == 3
    # Sides within the scene: 4 of the small field, 7 of the large one.
    assert found["border of cultivated land, m/ha of scene"] == pytest.approx(11 * 50 / 9)
    assert found["dates at least 95 % clear, part"] == 0.5
    assert found["dates 5 to 95 % clear, part"] == 0.25
    assert found["B04: 50 %"] == pytest.approx(0.1, abs=0.002)
    assert "B11: 50 %" not in found


def test_spectral_correlation_is_numpys(rng):
    scene = made([100, 110], [0.1, 0.2], [0.4, 0.3])
    matrix = realism.spectral_correlation(scene)
    red, nir = (realism.BANDS.index(name) for name in ("B04", "B08"))
    expected = np.corrcoef(scene.bands["B04"].ravel(), scene.bands["B08"].ravel())[0, 1]
    assert matrix[red, nir] == pytest.approx(expected)
    assert np.isfinite(matrix).sum() == 4


def test_the_table_counts_what_lies_within():
    simulated = [{"a": value, "b": 0.0} for value in np.linspace(0, 1, 101)]
    real = {"one": {"a": 0.5, "b": 1.0}, "two": {"a": 0.99}, "three": {"c": 1.0}}
    lines = realism.table(simulated, real).splitlines()
    assert lines[2] == "| a | 0.5, 0.05 to 0.95 | 0.5 | 0.99 |  | 1/2 |"
    assert lines[3] == "| b | 0, 0 to 0 | 1 |  |  | 0/1 |"
    assert lines[4].endswith("**1/3** |")
    assert len(lines) == 5


def test_the_command(tmp_path, capsys):
    synthesize(tmp_path / "scenes", 3, 20, 10)
    scenes = [str(tmp_path / f"scenes/eopatch-00{number}") for number in (1, 2, 3)]
    realism.main([*scenes[:2], "--real", scenes[2], "-o", str(tmp_path / "out")])
    printed = capsys.readouterr().out
    assert (tmp_path / "out/realism.md").read_text() in printed
    assert (tmp_path / "out/realism.png").stat().st_size > 10_000
    assert "| cultivated, part |" in printed
    realism.main(
        [*scenes[:2], "--real", scenes[2], "--unlabelled", "eopatch-003", "-o", str(tmp_path / "out"), "--overwrite"]
    )
    assert "cultivated" not in capsys.readouterr().out
    assert realism.main([*scenes[:2], "--real", scenes[2], "-o", str(tmp_path / "out")]) == 1
    assert "pass --overwrite" in capsys.readouterr().err
