"""SPInet without one of its parts: what the ablations train beside it. Importing this adds them to `SYSTEMS`."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from spinet_tf import SPInet
from spinet_tf.layers import EquivariantUnit
from spinet_tf.models.spinet import CONFIGURATIONS
from training.config import Config
from training.systems import SYSTEMS


def _as_spinet(init: Callable[..., None]) -> Callable[..., None]:
    """Say that the arguments are those of SPInet, against which the settings of a configuration are checked."""
    return functools.wraps(SPInet.__init__, assigned=(), updated=())(init)


@keras.saving.register_keras_serializable(package="spinet_tf_training")
class MeanInsteadOfAttention(SPInet):
    """`SPInet` whose every frame attends to all real frames alike, to itself too: attention is a mean over the frames.

    Query and key are zero at first, and stay so: each one's gradient is a product with the other. Nor does the decay of
    weights change a zero. Value and output projections learn as ever.

    Args: those of `SPInet`.
    """

    @_as_spinet
    def __init__(self, **settings: Any):
        super().__init__(**settings)
        parts = [part for layer in self.layers for part in (layer, *vars(layer).values())]
        for unit in (part for part in parts if isinstance(part, EquivariantUnit)):
            joint = unit.attention.query_key_value
            for weight in (joint.kernel, joint.bias):
                query_key_value = np.array(ops.convert_to_numpy(weight))
                query_key_value[..., : 2 * query_key_value.shape[-1] // 3] = 0
                weight.assign(query_key_value)


@keras.saving.register_keras_serializable(package="spinet_tf_training")
class WithoutTERN(keras.Model):
    """`SPInet` whose frames go from the backbone to the temporal mean as they are, registered by nothing.

    Args: those of `SPInet`.
    """

    @_as_spinet
    def __init__(self, **settings: Any):
        whole = SPInet(**settings)
        mask = whole.input["frame_mask"]
        x = whole.get_layer("temporal_mean")(whole.get_layer("long_skip").output, mask=mask)
        x = whole.get_layer("pixel_shuffle")(whole.get_layer("upsampling")(x))
        logits = whole.get_layer("fusion")(x, mask=ops.any(mask, axis=1))
        super().__init__(inputs=whole.input, outputs=logits, name=whole.name)
        self._settings = whole.get_config()
        self.band_names = whole.band_names
        self.scale = whole.scale

    def get_config(self) -> dict[str, Any]:
        return dict(self._settings)


MEAN_ATTENTION, WITHOUT_TERN = "spinet_mean_attention", "spinet_without_tern"
SYSTEMS.update({MEAN_ATTENTION: MeanInsteadOfAttention, WITHOUT_TERN: WithoutTERN})


def ablated(config: Config, system: str) -> Config:
    """The configuration of a `SPInet` with one of the networks above in its place, of the same sizes."""
    sizes = {**CONFIGURATIONS[config.model.configuration], **config.model.overrides()}
    return dataclasses.replace(config, model=dataclasses.replace(config.model, system=system, **sizes))
