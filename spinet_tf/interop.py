"""Weights published for PyTorch, into Keras variables."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import keras
import numpy as np

from spinet_tf.errors import SpinetError
from spinet_tf.layers import TEFA, TERN, EquivariantUnit, TemporalAttention
from spinet_tf.models import PIUnet

# A counter that PyTorch keeps in every BN layer and nothing here needs.
IGNORED = "num_batches_tracked"


def load_piunet_weights(layer_or_model, state_dict):
    """Copy weights of the published PIUnet code into a built PIUnet, TEFA, TERN or TemporalAttention.

    Args:
        layer_or_model: the built layer or model to fill.
        state_dict: a mapping of the published names to arrays, or the path of an .npz file, or of a .pt file, which
            needs torch and is read with weights-only loading.

    Raises:
        SpinetError: if names are missing, unknown or of another shape (all are listed and nothing is copied), or the
            file cannot be read.
        TypeError: for another kind of layer.

    Example:
        >>> model = PIUnet(filters=42, tefa_blocks=16, bottleneck=5)
        >>> load_piunet_weights(model, "piunet.pt")

    Reference:
        https://github.com/diegovalsesia/piunet, Code/piunet/model.py.
    """
    state = state_dict if isinstance(state_dict, Mapping) else _read(Path(state_dict))
    state = {name: np.asarray(array) for name, array in state.items() if not name.endswith(IGNORED)}
    if not layer_or_model.built:
        raise SpinetError(
            f"Expected a built layer. {layer_or_model.name!r} is not: call it once before loading weights."
        )
    targets = dict(piunet_variables(layer_or_model))

    problems = [f"missing: {name}" for name in targets.keys() - state.keys()]
    problems += [f"unknown: {name}" for name in state.keys() - targets.keys()]
    values = {}
    for name in targets.keys() & state.keys():
        values[name] = to_keras(state[name])
        if values[name].shape != tuple(targets[name].shape):
            problems.append(
                f"misshapen: {name}, expected {targets[name].shape} in Keras' layout, received {values[name].shape}"
            )
    if problems:
        listed = "\n  ".join(sorted(problems))
        raise SpinetError(f"These weights do not fit {layer_or_model.name!r}:\n  {listed}")
    for name, value in values.items():
        targets[name].assign(value)


def piunet_variables(layer_or_model) -> Iterator[tuple[str, keras.Variable]]:
    """Pairs of a published name and our variable.

    Raises:
        TypeError: if the layer is none of PIUnet's.
    """
    if isinstance(layer_or_model, TemporalAttention):
        yield from _attention("", layer_or_model)
    elif isinstance(layer_or_model, TEFA):
        yield from _tefa("", layer_or_model)
    elif isinstance(layer_or_model, TERN):
        yield from _tern("", layer_or_model)
    elif isinstance(layer_or_model, PIUnet):
        yield from _piunet(layer_or_model)
    else:
        raise TypeError(
            f"Expected a PIUnet, TEFA, TERN or TemporalAttention. Received: {type(layer_or_model).__name__}"
        )


def to_keras(array: np.ndarray) -> np.ndarray:
    """A PyTorch weight (out, in, ...) in Keras' layout (..., in, out)."""
    if array.ndim == 5:  # A 3D kernel of temporal size 1 is a 2D one shared by the frames.
        array = array[:, :, 0]
    if array.ndim == 3:  # A 1D convolution of size 1 along time is a dense layer per frame.
        array = array[:, :, 0]
    return np.moveaxis(array, (0, 1), (-1, -2)) if array.ndim > 1 else array


def _read(path: Path) -> Mapping:
    if not path.is_file():
        raise SpinetError(f"Expected a file of weights at {path}. There is none.")
    try:
        if path.suffix == ".npz":
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                return dict(arrays)
        if path.suffix in (".pt", ".pth"):
            import torch

            return {name: tensor.numpy() for name, tensor in torch.load(path, "cpu", weights_only=True).items()}
    except ImportError as error:
        raise SpinetError(f"Reading {path} needs torch. Install it, or convert the weights to .npz.") from error
    except Exception as error:
        raise SpinetError(f"Expected weights in {path}. It cannot be read: {error}") from error
    raise SpinetError(f"Expected an .npz, .pt or .pth file. Received: {path}")


def _dense(prefix, layer):
    yield f"{prefix}.weight", layer.kernel
    yield f"{prefix}.bias", layer.bias


def _norm(prefix, layer):
    yield f"{prefix}.weight", layer.gamma
    yield f"{prefix}.bias", layer.beta
    yield f"{prefix}.running_mean", layer.moving_mean
    yield f"{prefix}.running_var", layer.moving_variance


def _attention(prefix, layer):
    yield f"{prefix}in_proj_weight", layer.query_key_value.kernel
    yield f"{prefix}in_proj_bias", layer.query_key_value.bias
    yield from _dense(f"{prefix}out_proj", layer.projection)


def _unit(unit: EquivariantUnit, convolution, norm_in, attention, norm_out):
    yield from _dense(convolution, unit.convolution)
    yield from _norm(norm_in, unit.norm_in)
    yield from _attention(f"{attention}.", unit.attention)
    yield from _norm(norm_out, unit.norm_out)


def _tefa(prefix, layer):
    # The numbers in the published names are not in order of use: norm00 precedes norm0.
    yield from _unit(layer.unit_1, *(prefix + name for name in ("conv0", "norm00", "tran0", "norm0")))
    yield from _unit(layer.unit_2, *(prefix + name for name in ("conv1", "norm11", "tran1", "norm1")))
    yield from _dense(f"{prefix}lin0", layer.squeeze)
    yield from _dense(f"{prefix}lin1", layer.excite)


def _tern(prefix, layer):
    yield from _unit(layer.unit, *(prefix + name for name in ("conv0", "norm00", "tran0", "norm0")))
    yield from _dense(f"{prefix}conv1", layer.proposal)


def _piunet(model):
    yield from _unit(model.get_layer("head"), "conv_in", "norm00", "tran_in", "norm0")
    for block in range(model.tefa_blocks):
        yield from _tefa(f"res.{block}.", model.get_layer(f"tefa_{block + 1}"))
    yield from _unit(model.get_layer("mid"), "conv_mid", "norm11", "tran_mid", "norm1")
    yield from _tern("regnet.", model.get_layer("tern"))
    yield from _dense("conv_d2s_mu", model.get_layer("mean_convolution"))
    yield from _dense("conv_d2s_sigma", model.get_layer("scale_convolution"))
    yield from _norm("norm_sigma", model.get_layer("scale_norm"))
    yield from _dense("conv_out_sigma", model.get_layer("log_scale"))
