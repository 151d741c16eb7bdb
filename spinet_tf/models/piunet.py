"""PIUnet: image super-resolution with the same backbone, and how sure it is of each pixel."""

import keras

from spinet_tf.layers import TERN, BilinearUpsampling, MaskedBatchNormalization, PixelShuffle, TemporalMean
from spinet_tf.layers.frames import NEGATIVE_SLOPE
from spinet_tf.models.backbone import equivariant_backbone, frames_input


@keras.saving.register_keras_serializable(package="spinet_tf")
class PIUnet(keras.Model):
    """Super-resolves an unordered series of images of one band; gives the mean and the log of the Laplace scale.

    The mean is a residual on the frame-mean of the bilinearly upsampled input. Input and output are in normalised
    units, as the published code has them: (x - 7433.6436) / 2353.0723 for Proba-V images, for example.

    Args:
        scale: how many times finer the output is.
        filters: features throughout the network; the published code uses 42, SPInet 48.
        tefa_blocks: number of TEFA blocks.
        bottleneck: features inside TEFA's gate. The published code's `R_bneck` is a divisor of the filters instead.
        heads: attention heads.
        dtype: dtype policy of the layers; None for Keras' global one.

    Call arguments:
        A dictionary of "images", float32 (batch, time, height, width, 1), and "frame_mask", bool (batch, time), true
        for real frames. Padding frames may hold anything.

    Returns:
        float32 (batch, scale * height, scale * width, 2): mean, and log scale. `spinet_tf.losses.RegisteredLaplace`
        takes it as it is.

    Example:
        >>> model = PIUnet(filters=8, tefa_blocks=1, bottleneck=2)
        >>> inputs = {"images": np.zeros((1, 9, 16, 16, 1), "float32"), "frame_mask": np.ones((1, 9), bool)}
        >>> model.predict(inputs, verbose=0).shape
        (1, 48, 48, 2)

    Reference:
        Valsesia & Magli, "Permutation invariance and uncertainty in multitemporal image super-resolution",
        https://arxiv.org/abs/2105.12409.
    """

    def __init__(self, scale=3, filters=42, tefa_blocks=16, bottleneck=5, heads=1, dtype=None, name="piunet"):
        dtype = keras.dtype_policies.get(dtype).name

        # === Functional model ===
        inputs = frames_input(bands=1)
        mask = inputs["frame_mask"]
        x = equivariant_backbone(inputs, filters, tefa_blocks, bottleneck, heads, None, None, dtype=dtype)
        x = TERN(filters, heads=heads, dtype=dtype, name="tern")(x, mask=mask)
        x = TemporalMean(dtype=dtype, name="temporal_mean")(x, mask=mask)

        # Mean: a residual on the mean of the upsampled frames. Averaging first gives the same, both being linear.
        baseline = TemporalMean(dtype="float32", name="input_mean")(inputs["images"], mask=mask)
        baseline = BilinearUpsampling(scale, dtype="float32", name="upsampled_input_mean")(baseline)
        residual = keras.layers.Conv2D(scale**2, 3, padding="same", dtype=dtype, name="mean_convolution")(x)
        residual = PixelShuffle(scale, dtype="float32", name="mean_pixel_shuffle")(residual)
        mean = keras.layers.Add(dtype="float32", name="mean")([baseline, residual])

        # Log scale: features are upsampled before they are convolved.
        s = BilinearUpsampling(scale, dtype=dtype, name="scale_upsampling")(x)
        s = keras.layers.Conv2D(filters, 3, padding="same", dtype=dtype, name="scale_convolution")(s)
        s = MaskedBatchNormalization(dtype=dtype, name="scale_norm")(s, mask=keras.ops.any(mask, axis=1))
        s = keras.layers.LeakyReLU(NEGATIVE_SLOPE, dtype=dtype, name="scale_activation")(s)
        # A scale of 1 until a loss trains it: after an L1 loss, a random one made the first Laplace losses huge.
        log_scale = keras.layers.Conv2D(1, 1, kernel_initializer="zeros", dtype="float32", name="log_scale")(s)

        outputs = keras.layers.Concatenate(dtype="float32", name="mean_and_log_scale")([mean, log_scale])
        super().__init__(inputs=inputs, outputs=outputs, name=name)

        # === Config ===
        self.scale = scale
        self.filters = filters
        self.tefa_blocks = tefa_blocks
        self.bottleneck = bottleneck
        self.heads = heads
        self.policy = dtype

    def get_config(self):
        return {
            "scale": self.scale,
            "filters": self.filters,
            "tefa_blocks": self.tefa_blocks,
            "bottleneck": self.bottleneck,
            "heads": self.heads,
            "dtype": self.policy,
            "name": self.name,
        }
