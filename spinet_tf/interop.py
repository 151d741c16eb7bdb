"""Published weights, into Keras variables."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import keras
import numpy as np

from spinet_tf.errors import SpinetError
from spinet_tf.layers import TEFA, TERN, EquivariantUnit, TemporalAttention
from spinet_tf.models import RAMS, HighResNet, PIUnet

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
    if not layer_or_model.built:
        raise SpinetError(f"Expected a built layer. {layer_or_model.name!r} is not: call it once first.")
    _load(layer_or_model.name, piunet_variables(layer_or_model), state_dict, to_keras)


def load_highresnet_weights(model: HighResNet, state_dict):
    """Copy weights of the published HighRes-net code into a `HighResNet`.

    Args:
        model: the model to fill, of as many bands, filters and blocks, and of the same scale.
        state_dict: as for `load_piunet_weights`.

    Raises:
        SpinetError: as `load_piunet_weights` does.

    Reference:
        https://github.com/ServiceNow/HighRes-net, src/DeepNetworks/HRNet.py.
    """
    _load(model.name, _highresnet(model), state_dict, to_keras)


def load_rams_weights(model: RAMS, state_dict):
    """Copy weights of the published RAMS code into a `RAMS`.

    Args:
        model: the model to fill, of as many bands, filters, blocks and frames, and of the same scale.
        state_dict: a mapping of names by role to arrays, or the path of an .npz file of them. Each weight-normalised
            convolution has three: NAME.v (height, width, [time,] in, out), NAME.g and NAME.bias (out). The convolutions
            are head, body, up, global.up and reduceK.conv, and the blocks rfabK, reduceK and global have conv0, conv1,
            squeeze and excite, as in rfab0.conv0.

    Raises:
        SpinetError: as `load_piunet_weights` does.

    Reference:
        https://github.com/EscVM/RAMS, utils/network.py.
    """
    _load(model.name, _rams(model), state_dict, _time_first)


def _load(
    owner: str,
    targets: Iterable[tuple[str, keras.Variable]],
    state_dict,
    to_layout: Callable[[np.ndarray], np.ndarray],
):
    """Assign every array of `state_dict`, in Keras' layout, to the variable of its name; all of them or none."""
    state = state_dict if isinstance(state_dict, Mapping) else _read(Path(state_dict))
    state = {name: np.asarray(array) for name, array in state.items() if not name.endswith(IGNORED)}
    variables = dict(targets)
    problems = [f"missing: {name}" for name in variables.keys() - state.keys()]
    problems += [f"unknown: {name}" for name in state.keys() - variables.keys()]
    values = {}
    for name in variables.keys() & state.keys():
        value, expected = to_layout(state[name]), tuple(variables[name].shape)
        # One slope for all features is an array of one number, whatever its rank.
        values[name] = value.reshape(expected) if value.size == np.prod(expected) == 1 else value
        if values[name].shape != expected:
            problems.append(f"misshapen: {name}, expected {expected} in Keras' layout, received {value.shape}")
    if problems:
        listed = "\n  ".join(sorted(problems))
        raise SpinetError(f"These weights do not fit {owner!r}:\n  {listed}")
    for name, value in values.items():
        variables[name].assign(value)


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


def _time_first(array: np.ndarray) -> np.ndarray:
    """A kernel (height, width, time, in, out) as (time, height, width, in, out); anything else as it is."""
    return np.moveaxis(array, 2, 0) if array.ndim == 5 else array


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


def _slope(prefix, layer):
    yield f"{prefix}.weight", layer.alpha


def _residual(prefix, block):
    for n, (convolution, activation) in enumerate(zip(block.convolutions, block.activations, strict=True)):
        yield from _dense(f"{prefix}.block.{2 * n}", convolution)
        yield from _slope(f"{prefix}.block.{2 * n + 1}", activation)


def _highresnet(model):
    encoder, fusion = model.get_layer("encoder"), model.get_layer("fusion")
    yield from _dense("encode.init_layer.0", encoder.first)
    yield from _slope("encode.init_layer.1", encoder.first_activation)
    for n, block in enumerate(encoder.residuals):
        yield from _residual(f"encode.res_layers.{n}", block)
    yield from _dense("encode.final.0", encoder.last)
    yield from _residual("fuse.fuse.0", fusion.residual)
    yield from _dense("fuse.fuse.1", fusion.convolution)
    yield from _slope("fuse.fuse.2", fusion.activation)
    yield from _dense("decode.deconv.0", model.get_layer("upsampling"))
    yield from _slope("decode.deconv.1", model.get_layer("upsampling_activation"))
    yield from _dense("decode.final", model.get_layer("projection"))


def _weight_norm(prefix, layer):
    yield f"{prefix}.v", layer.direction
    yield f"{prefix}.g", layer.length
    yield f"{prefix}.bias", layer.bias


def _feature_attention(prefix, block):
    yield from _weight_norm(f"{prefix}.conv0", block.convolution_1)
    yield from _weight_norm(f"{prefix}.conv1", block.convolution_2)
    yield from _weight_norm(f"{prefix}.squeeze", block.gate_1)
    yield from _weight_norm(f"{prefix}.excite", block.gate_2)


def _rams(model):
    for name, layer in (("head", "head"), ("body", "body"), ("up", "up"), ("global.up", "global_up")):
        yield from _weight_norm(name, model.get_layer(layer))
    for n in range(model.blocks):
        yield from _feature_attention(f"rfab{n}", model.get_layer(f"rfab_{n}"))
    for n in range((model.frames - 1) // 2 - 1):
        yield from _feature_attention(f"reduce{n}", model.get_layer(f"reduce_{n}_rfab"))
        yield from _weight_norm(f"reduce{n}.conv", model.get_layer(f"reduce_{n}"))
    yield from _feature_attention("global", model.get_layer("global_rtab"))
