"""The benchmarks run; what they measure is in README.md beside them."""

import pytest

from tests.benchmarks import pipeline


@pytest.mark.slow
def test_the_pipeline_is_measured(capsys):
    assert pipeline.main(["--scenes=1", "--size=32", "--dates=4", "--batch=2", "--batches=2", "--runs=2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith(("| clearest |", "| random |", "| all |")) for line in lines) == 6
    assert "bucketed" in lines[-1]
