"""Weights under the published names: what fits is copied, what does not is listed."""

import sys

import numpy as np
import pytest

from spinet_tf import PIUnet, SpinetError
from spinet_tf.interop import load_piunet_weights, piunet_variables, to_keras
from spinet_tf.layers import TEFA, TERN, PixelShuffle, TemporalAttention
from tests.helpers import randomize


def to_torch(name, array):
    """The inverse of `to_keras`, with the axes of size 1 that the published layers have."""
    if array.ndim > 1:
        array = np.moveaxis(array, (-1, -2), (0, 1))
    if array.ndim == 4 and ("conv0" in name or "conv1" in name or "conv_in" in name or "conv_mid" in name):
        array = array[:, :, None]
    if name.endswith("conv1.weight") and array.ndim == 2:
        array = array[:, :, None]
    return np.ascontiguousarray(array)


def state_of(layer):
    return {name: to_torch(name, np.array(variable)) for name, variable in piunet_variables(layer)}


def built(make):
    layer = make()
    if not layer.built:
        layer.build((None, None, None, None, 6))
    return layer


LAYERS = {
    "attention": lambda: TemporalAttention(),
    "tefa": lambda: TEFA(6, 2),
    "tern": lambda: TERN(6),
    "piunet": lambda: PIUnet(filters=6, tefa_blocks=2, bottleneck=2),
}


@pytest.mark.parametrize("name", LAYERS)
def test_every_weight_of_a_layer_is_set(name, tmp_path):
    source, target = randomize(built(LAYERS[name]), 1), randomize(built(LAYERS[name]), 2)
    state = {**state_of(source), "norm0.num_batches_tracked": np.array(7)}
    np.savez(tmp_path / "weights.npz", **state)
    load_piunet_weights(target, tmp_path / "weights.npz")
    skipped = ("normalization",)
    for a, b in zip(source.weights, target.weights, strict=True):
        if not any(name in a.path for name in skipped):
            np.testing.assert_array_equal(a, b, err_msg=a.path)


def test_layouts():
    kernel = np.arange(2 * 3 * 1 * 5 * 5).reshape(2, 3, 1, 5, 5)
    assert to_keras(kernel)[4, 1, 2, 0] == kernel[0, 2, 0, 4, 1]
    dense = np.arange(6).reshape(2, 3, 1)
    np.testing.assert_array_equal(to_keras(dense), dense[..., 0].T)


def test_all_that_does_not_fit_is_listed_and_nothing_is_copied():
    layer = randomize(built(LAYERS["tefa"]))
    before = layer.get_weights()
    state = {name: array + 1 for name, array in state_of(layer).items()}
    state["surplus.weight"] = np.zeros(3)
    del state["lin0.bias"]
    state["lin1.weight"] = np.zeros((6, 3))
    with pytest.raises(SpinetError) as error:
        load_piunet_weights(layer, state)
    for line in ("missing: lin0.bias", "unknown: surplus.weight", "misshapen: lin1.weight"):
        assert line in str(error.value)
    for a, b in zip(before, layer.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_layers_that_have_no_published_weights_are_refused():
    with pytest.raises(TypeError, match="Received: PixelShuffle"):
        load_piunet_weights(built(lambda: PixelShuffle(1)), {})


def test_layers_that_are_not_built_are_refused():
    with pytest.raises(SpinetError, match="Expected a built layer"):
        load_piunet_weights(TEFA(6, 2), {})


def test_files_that_cannot_be_read_are_named(tmp_path, monkeypatch):
    layer = built(LAYERS["attention"])
    with pytest.raises(SpinetError, match="There is none"):
        load_piunet_weights(layer, tmp_path / "absent.npz")
    for name in ("weights.npz", "weights.txt"):
        (tmp_path / name).write_bytes(b"PK\x03\x04 this is cut off")
        with pytest.raises(SpinetError, match=name):
            load_piunet_weights(layer, tmp_path / name)
    np.savez(tmp_path / "objects.npz", in_proj_weight=np.array([{}], dtype=object))
    with pytest.raises(SpinetError, match="cannot be read"):
        load_piunet_weights(layer, tmp_path / "objects.npz")
    (tmp_path / "weights.pt").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(SpinetError, match="needs torch"):
        load_piunet_weights(layer, tmp_path / "weights.pt")


def test_pytorch_files_are_read_with_weights_only(tmp_path):
    torch = pytest.importorskip("torch", reason="torch is in the bench extra")
    source, target = randomize(built(LAYERS["tern"]), 1), randomize(built(LAYERS["tern"]), 2)
    torch.save({name: torch.from_numpy(array) for name, array in state_of(source).items()}, tmp_path / "weights.pt")
    load_piunet_weights(target, tmp_path / "weights.pt")
    for a, b in zip(source.weights, target.weights, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=a.path)

    class Hostile:
        def __reduce__(self):
            return (print, ("run",))

    torch.save({"conv0.weight": Hostile()}, tmp_path / "hostile.pt")
    with pytest.raises(SpinetError, match="cannot be read"):
        load_piunet_weights(target, tmp_path / "hostile.pt")
