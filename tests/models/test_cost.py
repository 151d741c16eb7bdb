"""The formulas of cost, against multiply-accumulates counted in the network's graph, and as ratios."""

import pytest

from spinet_tf import SPInet
from spinet_tf.models.cost import Workload, peak_bytes
from spinet_tf.models.folded import folded
from training.cost import count_macs


@pytest.mark.parametrize(("heads", "batch", "frames", "size"), [(1, 1, 7, 16), (2, 2, 3, 24)])
def test_arithmetic_is_what_the_graph_has(heads, batch, frames, size):
    model = SPInet(bands=5, filters=16, tefa_blocks=2, bottleneck=2, heads=heads)
    load = Workload(batch, frames, size**2, filters=16, blocks=2, heads=heads, bands=5)
    # Gates, means and bilinear resampling are left out of the formula.
    assert load.macs == pytest.approx(count_macs(folded(model), batch, frames, size), rel=0.03)


def test_the_papers_network():
    load = Workload(batch=1, frames=20, pixels=32 * 32)
    assert load.units == 35
    assert load.macs == pytest.approx(21.9e9, rel=0.01)


def test_cost_is_linear_in_pixels_and_patches_and_more_in_frames():
    one = Workload(batch=1, frames=10, pixels=1000)
    for more in (one._replace(batch=3), one._replace(pixels=3000)):
        assert more.macs == pytest.approx(3 * one.macs)
        assert (more.features, more.attention, more.fine) == (3 * one.features, 3 * one.attention, 3 * one.fine)
    longer = one._replace(frames=30)
    assert (longer.features, longer.attention, longer.fine) == (3 * one.features, 9 * one.attention, one.fine)
    # One array of each, by hand.
    assert (one.features, one.attention) == (4 * 1000 * 10 * 48, 4 * 1000 * 10 * 10)
    assert one.fine == 4 * 1000 * 16 * 48


@pytest.mark.parametrize("training", [False, True])
def test_memory_has_a_part_that_is_always_there(training):
    nothing = peak_bytes(Workload(batch=0, frames=20, pixels=1024), training)
    one, two, four = (peak_bytes(Workload(n, frames=20, pixels=1024), training) for n in (1, 2, 4))
    assert two - one == pytest.approx(one - nothing)
    assert four - two == pytest.approx(2 * (two - one))
    assert 0.5e9 < nothing < one


def test_training_keeps_what_every_unit_gave():
    few, many = (Workload(4, frames=20, pixels=1024, blocks=blocks) for blocks in (2, 16))
    assert peak_bytes(many, training=True) > 2 * peak_bytes(few, training=True)
    assert peak_bytes(many) < 1.1 * peak_bytes(few)
