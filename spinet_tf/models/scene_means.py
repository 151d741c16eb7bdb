"""SPInet on a tile of a scene, with the means that TEFA and TERN take over the whole scene."""

from keras import ops

from spinet_tf.models.spinet import SPInet


def has_means(model):
    """Whether `call_with_means` knows how a model takes its means: a `SPInet` with at least one TEFA block."""
    return isinstance(model, SPInet) and model.tefa_blocks > 0


def call_with_means(model, inputs, block_means, frame_means):
    """What a SPInet answers at inference if the means behind its gates and filters come from elsewhere.

    TEFA's gates and TERN's filters come from means over all that the network sees. With those of a scene, its tiles
    are answered as the scene is.

    Args:
        model: one of which `has_means` is true.
        inputs: {"images", "frame_mask"}, as the model takes them.
        block_means: (batch, tefa_blocks, filters) float32, of every TEFA; NaN for those of the input itself.
        frame_means: (batch, time, filters) float32, TERN's for every frame; NaN likewise.

    Returns:
        What the model returns, float32; and the input's own means, shaped as those given.

    Example:
        _, blocks, frames = call_with_means(model, scene, nan_blocks, nan_frames)
        logits, _, _ = call_with_means(model, tile, blocks, frames)
    """
    layer, mask = model.get_layer, inputs["frame_mask"]
    x = layer("normalization")(inputs["images"], mask=mask)
    head = x = layer("head")(x, mask=mask)
    own_means = []
    for block in range(model.tefa_blocks):
        x, own = layer(f"tefa_{block + 1}").call_with_mean(x, mask, block_means[:, block])
        own_means.append(own)
    x = layer("mid_activation")(layer("mid")(x, mask=mask))
    x = layer("long_skip")([x, head])
    x, own_frame_means = layer("tern").call_with_means(x, mask, frame_means)
    x = layer("temporal_mean")(x, mask=mask)
    x = layer("pixel_shuffle")(layer("upsampling")(x))
    logits = layer("fusion")(x, mask=ops.any(mask, axis=1))
    if model.uncertainty:
        logits = layer("logit_normal")(logits)
    return logits, ops.stack(own_means, axis=1), own_frame_means
