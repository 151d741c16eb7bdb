"""HighRes-net: pairs of frames fused recursively, half of them at a time."""

import math

import keras
from keras import ops

from spinet_tf.layers import ReflectanceNormalization
from spinet_tf.layers.frames import FrameLayer, mask_frames, per_frame
from spinet_tf.models.backbone import band_names, count_bands, frames_input, listed

# The reference is the median of the first frames only, as in the published code.
REFERENCE_FRAMES = 9


@keras.saving.register_keras_serializable(package="spinet_tf")
class HighResNet(keras.Model):
    """Super-resolves a series by encoding each frame beside a reference, and fusing the frames two by two.

    The result depends on the order of the frames, and on how many there are with the padding, which decides who meets
    whom. Padding frames have to be the last ones. They weigh nothing in the fusion, as published, nor in the reference,
    where the published code counts them.

    Args:
        bands: the names of the bands in order, or their number; see `SPInet`.
        scale: how many times finer the output is.
        filters: features throughout the network; 64 in the published settings.
        blocks: residual blocks of the encoder.
        max_frames: longest series that is fused down to one; the published code takes up to 32 frames.
        mean: per-band mean of the training data; None for 0.
        std: per-band standard deviation of the training data; None for 1.
        dtype: dtype policy of the layers; None for Keras' global one.

    Call arguments:
        A dictionary of "images", float32 (batch, time, height, width, bands), and "frame_mask", bool (batch, time),
        true for real frames.

    Returns:
        float32 (batch, scale * height, scale * width, 1): logits, or an image in normalised units.

    Example:
        >>> model = HighResNet(bands=12, scale=4, filters=16)
        >>> inputs = {"images": np.zeros((1, 5, 8, 8, 12), "float32"), "frame_mask": np.ones((1, 5), bool)}
        >>> model.predict(inputs, verbose=0).shape
        (1, 32, 32, 1)

    Reference:
        Deudon et al., https://arxiv.org/abs/2002.06460; https://github.com/ServiceNow/HighRes-net.
    """

    def __init__(
        self,
        bands=12,
        scale=4,
        filters=64,
        blocks=2,
        max_frames=32,
        mean=None,
        std=None,
        dtype=None,
        name="highresnet",
    ):
        names = band_names(bands)
        dtype = keras.dtype_policies.get(dtype).name

        # === Functional model ===
        inputs = frames_input(count_bands(bands))
        mask = inputs["frame_mask"]
        x = ReflectanceNormalization(mean, std, name="normalization")(inputs["images"], mask=mask)
        x = PairedEncoder(filters, blocks, dtype=dtype, name="encoder")(x, mask=mask)
        x = RecursiveFusion(filters, max_frames, dtype=dtype, name="fusion")(x, mask=mask)
        x = keras.layers.Conv2DTranspose(filters, scale, strides=scale, dtype=dtype, name="upsampling")(x)
        x = prelu(dtype, "upsampling_activation")(x)
        outputs = keras.layers.Conv2D(1, 1, dtype="float32", name="projection")(x)
        super().__init__(inputs=inputs, outputs=outputs, name=name)

        # === Config ===
        self.bands = listed(bands)
        self.scale = scale
        self.filters = filters
        self.blocks = blocks
        self.max_frames = max_frames
        self.mean = mean
        self.std = std
        self.policy = dtype
        self.band_names = names

    def get_config(self):
        return {
            "bands": listed(self.bands),
            "scale": self.scale,
            "filters": self.filters,
            "blocks": self.blocks,
            "max_frames": self.max_frames,
            "mean": listed(self.mean),
            "std": listed(self.std),
            "dtype": self.policy,
            "name": self.name,
        }


def prelu(dtype, name):
    """PReLU with one slope for all features, 0.25 at first, as in PyTorch."""
    initializer = keras.initializers.Constant(0.25)
    return keras.layers.PReLU(initializer, shared_axes=[1, 2, 3], dtype=dtype, name=name)


@keras.saving.register_keras_serializable(package="spinet_tf")
class ResidualBlock(keras.layers.Layer):
    """Convolution, PReLU, convolution, PReLU, and the input added.

    Args:
        filters: features, equal to the input's.

    Call arguments:
        x: (batch, height, width, filters).
    """

    def __init__(self, filters, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        policy = self.dtype_policy
        self.convolutions = [
            keras.layers.Conv2D(filters, 3, padding="same", dtype=policy, name=f"convolution_{n}") for n in (1, 2)
        ]
        self.activations = [prelu(policy, f"activation_{n}") for n in (1, 2)]

    def build(self, x_shape):
        for layer in (*self.convolutions, *self.activations):
            layer.build((None, None, None, self.filters))

    def call(self, x):
        y = x
        for convolution, activation in zip(self.convolutions, self.activations, strict=True):
            y = activation(convolution(y))
        return x + y

    def get_config(self):
        return {**super().get_config(), "filters": self.filters}


@keras.saving.register_keras_serializable(package="spinet_tf")
class PairedEncoder(FrameLayer):
    """Encodes every frame together with the reference: the median of the real ones of the first nine, at each pixel.

    Args:
        filters: features.
        blocks: residual blocks.

    Call arguments:
        x: (batch, time, height, width, bands).
        mask: (batch, time) bool, or None.

    Returns:
        (batch, time, height, width, filters).
    """

    def __init__(self, filters, blocks, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.blocks = blocks
        policy = self.dtype_policy
        self.first = keras.layers.Conv2D(filters, 3, padding="same", dtype=policy, name="first")
        self.first_activation = prelu(policy, "first_activation")
        self.residuals = [ResidualBlock(filters, dtype=policy, name=f"residual_{n}") for n in range(blocks)]
        self.last = keras.layers.Conv2D(filters, 3, padding="same", dtype=policy, name="last")

    def build(self, x_shape):
        self.first.build((None, None, None, 2 * x_shape[-1]))
        for layer in (self.first_activation, *self.residuals, self.last):
            layer.build((None, None, None, self.filters))

    def call(self, x, mask=None):
        x = mask_frames(x, mask)
        reference = ops.broadcast_to(self._reference(x, mask), ops.shape(x))
        return per_frame(self._encode, ops.concatenate([x, reference], axis=-1))

    def _reference(self, x, mask):
        first = x[:, :REFERENCE_FRAMES]
        real = ops.ones(ops.shape(first)[:2], "bool") if mask is None else mask[:, :REFERENCE_FRAMES]
        real = real[:, :, None, None, None]
        # Padding last, so that the real frames are counted from the front.
        ascending = ops.sort(ops.where(real, first, 1e30), axis=1)
        count = ops.sum(ops.cast(real, "int32"), axis=1, keepdims=True)
        # The lower of the two middle ones where their number is even, as torch.median takes it.
        middle = ops.broadcast_to((ops.maximum(count, 1) - 1) // 2, ops.shape(first[:, :1]))
        median = ops.take_along_axis(ascending, middle, axis=1)
        return ops.where(count > 0, median, 0)

    def _encode(self, pairs):
        y = self.first_activation(self.first(pairs))
        for block in self.residuals:
            y = block(y)
        return self.last(y)

    def get_config(self):
        return {**super().get_config(), "filters": self.filters, "blocks": self.blocks}


@keras.saving.register_keras_serializable(package="spinet_tf")
class RecursiveFusion(FrameLayer):
    """Fuses the second half of the frames, in reverse, into the first half, until one frame is left.

    What a pair yields is added to its first frame if its second one is real (the alpha residual of the paper). The
    last frame of an odd number is dropped. The mean is taken over what is left.

    Args:
        filters: features, equal to the input's.
        max_frames: the longest series that is fused down to one frame.

    Call arguments:
        x: (batch, time, height, width, filters).
        mask: (batch, time) bool, true for real frames, or None when all are.

    Returns:
        (batch, height, width, filters).
    """

    def __init__(self, filters, max_frames=32, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.max_frames = max_frames
        policy = self.dtype_policy
        self.residual = ResidualBlock(2 * filters, dtype=policy, name="residual")
        self.convolution = keras.layers.Conv2D(filters, 3, padding="same", dtype=policy, name="convolution")
        self.activation = prelu(policy, "activation")

    def build(self, x_shape):
        self.residual.build((None, None, None, 2 * self.filters))
        self.convolution.build((None, None, None, 2 * self.filters))
        self.activation.build((None, None, None, self.filters))

    def call(self, x, mask=None):
        x = mask_frames(x, mask)
        alphas = ops.ones(ops.shape(x)[:2], x.dtype) if mask is None else ops.cast(mask, x.dtype)
        # As many steps as the longest series needs: the length may be unknown. A single frame stays as it is.
        frames = self.max_frames if x.shape[1] is None else x.shape[1]
        for _ in range(math.floor(math.log2(frames))):
            length = ops.shape(x)[1]
            half = length // 2
            # JAX cuts by numbers that it knows, TensorFlow by tensors too.
            count = max(half, 1) if isinstance(half, int) else ops.maximum(half, 1)
            first, second = x[:, :count], ops.flip(x[:, half : half + count], axis=1)
            weight = ops.flip(alphas[:, half : half + count], axis=1) * ops.cast(half > 0, x.dtype)
            fused = per_frame(self._fuse, ops.concatenate([first, second], axis=-1))
            x = first + weight[:, :, None, None, None] * fused
            alphas = alphas[:, :count]
        return ops.mean(x, axis=1)

    def _fuse(self, pairs):
        return self.activation(self.convolution(self.residual(pairs)))

    def compute_output_shape(self, x_shape):
        # Or JAX would trace the loop with an unknown number of frames, which has no logarithm.
        return (x_shape[0], *x_shape[2:])

    def get_config(self):
        return {**super().get_config(), "filters": self.filters, "max_frames": self.max_frames}
