"""The benchmark of growth: its formula finds constants that it was made with, and the command runs."""

import json

import numpy as np
import pytest

from spinet_tf.models.cost import memory_terms
from tests.benchmarks import scale
from tests.benchmarks.scale import Fit, Point, specs, time_terms


def made_up(seconds, memory, task="forward"):
    """Points as they would be if the formula were true."""
    points = [
        Point(curve, spec, 1.0, 1.0, 1) for curve, spec in specs(task, "float32", "paper", list(scale.CURVES), None)
    ]
    return [
        point._replace(
            cpu_seconds=float(np.dot(seconds, time_terms(point.workload))),
            peak_bytes=float(np.dot(memory, memory_terms(point.workload, training=task == "step"))),
        )
        for point in points
    ]


@pytest.mark.parametrize("task", ["forward", "step"])
def test_constants_are_found_again(task):
    points = made_up([5e-12, 2e-10, 3e-10, 0.01], [2.0, 3.0, 12.0, 1e6, 9e8], task)
    fit = Fit.to(points)
    for point in points:
        assert fit.cpu_seconds(point) == pytest.approx(point.cpu_seconds, rel=1e-6)
        assert fit.peak_bytes(point) == pytest.approx(point.peak_bytes, rel=1e-6)
    np.testing.assert_allclose(fit.memory, [2.0, 3.0, 12.0, 1e6, 9e8], rtol=1e-4)


def test_shared_points_are_measured_once_and_the_command_writes_all(tmp_path, monkeypatch, capsys):
    true = {point.spec: point for point in made_up([5e-12, 0, 0, 0.01], [2, 3, 12, 0, 9e8])}
    asked = []

    class Race:
        def __init__(self, spec):
            asked.append(spec)
            self.seconds, self.cpu_seconds, self.failure = [2.0, 4.0, 3.0], [true[spec].cpu_seconds], ""
            self.peak_bytes = true[spec].peak_bytes

    monkeypatch.setattr(scale, "race", lambda contenders, rounds, together: [Race(contenders[0].timing.spec)])
    monkeypatch.setattr(scale, "set_up", lambda threads: None)
    name = tmp_path / "scale"
    arguments = ["--output", str(name), "--tasks", "forward", "--curves", "size", "batch", "--most", "64"]
    assert scale.main(arguments) == 0
    # 32 pixels and 1 patch are the same.
    assert [(spec.size, spec.batch) for spec in asked] == [
        (16, 1),
        (32, 1),
        (64, 1),
        (32, 2),
        (32, 4),
        (32, 8),
        (32, 16),
    ]
    rows = name.with_suffix(".md").read_text().splitlines()[2:]
    assert len(rows) == 8
    assert rows[0].startswith("| forward | side of the images | 16 | 3.000 |")
    point = true[asked[0]]
    assert f"| {point.cpu_seconds:.3f} | {point.cpu_seconds:.3f} | {point.peak_bytes / 1e9:.2f} GB" in rows[0]
    content = json.loads(name.with_suffix(".json").read_text())
    assert [point["spec"]["size"] for point in content["points"][:3]] == [16, 32, 64]
    assert name.with_suffix(".png").stat().st_size > 1000
    assert f"Wrote {name.with_suffix('.png')}" in capsys.readouterr().out


def test_a_point_that_fails_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(scale, "set_up", lambda threads: None)

    def race(contenders, rounds, together):
        contenders[0].timing.failure = "no memory"
        return [contenders[0].timing]

    monkeypatch.setattr(scale, "race", race)
    assert scale.main(["--output", str(tmp_path / "scale"), "--curves", "frames"]) == 1
    assert "A forward with 4 frames failed: no memory" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
