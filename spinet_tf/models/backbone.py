"""What SPInet and PIUnet share: everything before the registration of the frames."""

import keras

from spinet_tf.bands import BANDS
from spinet_tf.errors import SpinetError
from spinet_tf.layers import TEFA, EquivariantUnit, ReflectanceNormalization
from spinet_tf.layers.frames import NEGATIVE_SLOPE


def frames_input(bands):
    """The inputs of every model here: ragged series as padded images and a mask of the real frames."""
    return {
        "images": keras.Input((None, None, None, bands), dtype="float32", name="images"),
        "frame_mask": keras.Input((None,), dtype="bool", name="frame_mask"),
    }


def equivariant_backbone(inputs, filters, tefa_blocks, bottleneck, heads, mean, std, dtype):
    """Normalisation, head unit, TEFA blocks, mid unit with its activation, long skip.

    Args:
        inputs: the dictionary of `frames_input`.
        filters: see `SPInet`, as for the other arguments.
        tefa_blocks: number of TEFA blocks.
        bottleneck: features inside TEFA's gate.
        heads: attention heads.
        mean: per-band means for the normalisation, or None.
        std: per-band standard deviations, or None.
        dtype: dtype policy of the layers.

    Returns:
        Features (batch, time, height, width, filters), equivariant to the order of the frames.
    """
    mask = inputs["frame_mask"]
    x = ReflectanceNormalization(mean, std, name="normalization")(inputs["images"], mask=mask)
    # No activation after the head: it goes as it is into the first TEFA and into the long skip.
    head = x = EquivariantUnit(filters, heads, dtype=dtype, name="head")(x, mask=mask)
    for block in range(1, tefa_blocks + 1):
        x = TEFA(filters, bottleneck, heads, dtype=dtype, name=f"tefa_{block}")(x, mask=mask)
    x = EquivariantUnit(filters, heads, dtype=dtype, name="mid")(x, mask=mask)
    x = keras.layers.LeakyReLU(NEGATIVE_SLOPE, dtype=dtype, name="mid_activation")(x)
    return keras.layers.Add(dtype=dtype, name="long_skip")([x, head])


def rematerialize(model):
    """Let a model train in half the memory and a tenth more time: much of the backbone is computed twice in a step.

    What the model computes, learns and saves stays the same. To be called before the first step.

    Args:
        model: a `SPInet` or a `PIUnet`.

    Raises:
        SpinetError: if the model has no `EquivariantUnit`: no other part is computed twice.

    Example:
        model = SPInet()
        rematerialize(model)
        model.fit(batches)

    Reference: Chen et al., https://arxiv.org/abs/1604.06174.
    """
    parts = [part for layer in model.layers for part in (layer, *vars(layer).values())]
    units = [part for part in parts if isinstance(part, EquivariantUnit)]
    if not units:
        raise SpinetError(f"Expected a SPInet or a PIUnet to rematerialize. Received: {type(model).__name__}")
    for unit in units:
        unit.remat = True


def listed(values):
    """What a config keeps of an argument per band: a list of names or floats; None or a number of bands as it is."""
    if values is None or isinstance(values, int):
        return values
    return [value if isinstance(value, str) else float(value) for value in values]


def count_bands(bands):
    """How many bands the `bands` argument of a model stands for."""
    return bands if isinstance(bands, int) else len(bands)


def band_names(bands):
    """The names behind the `bands` argument of a model; None for a number other than 12."""
    if isinstance(bands, int):
        return BANDS if bands == len(BANDS) else None
    if isinstance(bands, str) or len(set(bands)) != len(bands):
        raise ValueError(f"Expected distinct band names in a list, or their number. Received: {bands!r}")
    return tuple(bands)
