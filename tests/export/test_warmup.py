"""The warm-up requests are what TensorFlow Serving reads, and each is answered."""

import numpy as np
import pytest

from export.warmup import FILE, write_warmup
from spinet_tf.errors import SpinetError
from tests.export.conftest import warmup_requests


def test_every_request_of_the_file_is_answered(version, session):
    answers = [(name, inputs, session.run(inputs, name)) for name, inputs in warmup_requests(version)]
    assert {name for name, _, _ in answers} == set(session.signatures) - {"__saved_model_init_op"}
    for name, inputs, outputs in answers:
        if "probabilities" in outputs:
            batch, _, height, width, _ = inputs["images"].shape
            assert outputs["probabilities"].shape == (batch, 4 * height, 4 * width, 1), name
    assert ["probabilities" in outputs for _, _, outputs in answers] == [True] * 5 + [False, True, False]


def test_every_length_meets_every_size_and_every_frame_counts(tmp_path):
    assert write_warmup(tmp_path, 12, lengths=[2, 20], sizes=[8, 16]) == 6
    records = list(warmup_requests(tmp_path))
    shapes = [inputs["images"].shape for name, inputs in records if name == "serving_default"]
    assert shapes == [(1, 20, 16, 16, 12), (1, 20, 8, 8, 12), (1, 2, 16, 16, 12), (1, 2, 8, 8, 12)]
    for _, inputs in records[:-1]:
        assert inputs["images"].dtype == np.uint16
        assert inputs["num_frames"].dtype == np.int32
        assert inputs["num_frames"].tolist() == [inputs["images"].shape[1]]
        np.testing.assert_array_equal(inputs["images"], 1500)
    assert [name for name, _ in records[4:]] == ["uint8", "describe"]


def test_the_file_is_small_and_always_the_same(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write_warmup(tmp_path / folder, 12, lengths=range(1, 41), sizes=[32, 64, 128])
    first, second = ((tmp_path / folder / FILE).read_bytes() for folder in ("a", "b"))
    assert first == second
    assert len(first) < 30_000


@pytest.mark.parametrize(
    ("lengths", "sizes", "message"),
    [
        ([], [32], r"lengths of 1 or more. Received: \[\]"),
        ([0, 5], [32], r"lengths of 1 or more. Received: \[0, 5\]"),
        ([5], [32, -1], r"sizes of 1 or more. Received: \[32, -1\]"),
        (range(1, 334), [8, 16, 24], "at most 1000 warm-up requests.*Received: 1001"),
    ],
)
def test_requests_that_make_no_sense_are_refused(tmp_path, lengths, sizes, message):
    with pytest.raises(SpinetError, match=message):
        write_warmup(tmp_path, 12, lengths, sizes)
    assert not (tmp_path / FILE).exists()
