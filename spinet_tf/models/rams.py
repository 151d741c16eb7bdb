"""RAMS: residual feature attention over space, time and features at once."""

import keras
from keras import ops

from spinet_tf.layers import PixelShuffle, ReflectanceNormalization
from spinet_tf.models.backbone import band_names, count_bands, listed


@keras.saving.register_keras_serializable(package="spinet_tf")
class RAMS(keras.Model):
    """Super-resolves a fixed number of frames with 3D convolutions that reduce time to one step at the end.

    The result depends on the order of the frames.

    Where the paper leaves it open, for more than one band: the main path takes them as input features, and the global
    path takes every band of every frame as a channel.

    Args:
        bands: the names of the bands in order, or their number; see `SPInet`.
        scale: how many times finer the output is.
        filters: features of the main path.
        blocks: residual feature-attention blocks.
        squeeze: by how much the features are divided inside a gate.
        frames: frames of a series, odd and at least 3.
        mean: per-band mean of the training data; None for 0.
        std: per-band standard deviation of the training data; None for 1.
        dtype: dtype policy of the layers; None for Keras' global one.

    Call arguments:
        A dictionary of "images", float32 (batch, frames, height, width, bands), height and width at least 2, and
        "frame_mask", bool (batch, frames), true for real frames; the others are taken as zeros.

    Returns:
        float32 (batch, scale * height, scale * width, 1): logits, or an image in normalised units.

    Raises:
        ValueError: if `frames` is even or below 3.

    Example:
        >>> model = RAMS(bands=12, scale=4, filters=16, blocks=2)
        >>> inputs = {"images": np.zeros((1, 9, 8, 8, 12), "float32"), "frame_mask": np.ones((1, 9), bool)}
        >>> model.predict(inputs, verbose=0).shape
        (1, 32, 32, 1)

    Reference:
        Salvetti et al., https://doi.org/10.3390/rs12142207; https://github.com/EscVM/RAMS.
    """

    def __init__(
        self,
        bands=12,
        scale=4,
        filters=32,
        blocks=12,
        squeeze=8,
        frames=9,
        mean=None,
        std=None,
        dtype=None,
        name="rams",
    ):
        if frames < 3 or frames % 2 == 0:
            raise ValueError(f"Expected an odd number of frames, at least 3. Received: {frames}")
        names = band_names(bands)
        dtype = keras.dtype_policies.get(dtype).name
        count = count_bands(bands)

        # === Functional model ===
        inputs = {
            "images": keras.Input((frames, None, None, count), dtype="float32", name="images"),
            "frame_mask": keras.Input((frames,), dtype="bool", name="frame_mask"),
        }
        x = normalized = ReflectanceNormalization(mean, std, name="normalization")(
            inputs["images"], mask=inputs["frame_mask"]
        )
        x = ReflectPadding(dtype=dtype, name="head_padding")(x)
        head = x = WeightNormConvolution(filters, (3, 3, 3), "same", dtype=dtype, name="head")(x)
        for block in range(blocks):
            x = FeatureAttention(filters, squeeze, rank=3, dtype=dtype, name=f"rfab_{block}")(x)
        x = WeightNormConvolution(filters, (3, 3, 3), "same", dtype=dtype, name="body")(x)
        x = keras.layers.Add(dtype=dtype, name="long_skip")([x, head])
        # Each reduction takes two frames away; the last convolution takes the last two.
        for reduction in range((frames - 1) // 2 - 1):
            x = ReflectPadding(dtype=dtype, name=f"reduce_{reduction}_padding")(x)
            x = FeatureAttention(filters, squeeze, rank=3, dtype=dtype, name=f"reduce_{reduction}_rfab")(x)
            x = WeightNormConvolution(filters, (3, 3, 3), "valid", "relu", dtype=dtype, name=f"reduce_{reduction}")(x)
        x = WeightNormConvolution(scale**2, (3, 3, 3), "valid", dtype=dtype, name="up")(x)
        x = TimeToFeatures(dtype=dtype, name="last_frame")(x)
        x = PixelShuffle(scale, dtype="float32", name="pixel_shuffle")(x)

        y = TimeToFeatures(dtype=dtype, name="global_input")(normalized)
        y = ReflectPadding(dtype=dtype, name="global_padding")(y)
        y = FeatureAttention(frames * count, squeeze, rank=2, dtype=dtype, name="global_rtab")(y)
        y = WeightNormConvolution(scale**2, (3, 3), "valid", dtype=dtype, name="global_up")(y)
        y = PixelShuffle(scale, dtype="float32", name="global_pixel_shuffle")(y)
        outputs = keras.layers.Add(dtype="float32", name="sum")([x, y])
        super().__init__(inputs=inputs, outputs=outputs, name=name)

        # === Config ===
        self.bands = listed(bands)
        self.scale = scale
        self.filters = filters
        self.blocks = blocks
        self.squeeze = squeeze
        self.frames = frames
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
            "squeeze": self.squeeze,
            "frames": self.frames,
            "mean": listed(self.mean),
            "std": listed(self.std),
            "dtype": self.policy,
            "name": self.name,
        }


@keras.saving.register_keras_serializable(package="spinet_tf")
class WeightNormConvolution(keras.layers.Layer):
    """A convolution whose kernel is a direction times a length per filter.

    Args:
        filters: output features.
        kernel_size: two or three sides, (time,) height and width.
        padding: "same" or "valid".
        activation: name of an activation, or None.

    Call arguments:
        x: (batch, height, width, features) or (batch, time, height, width, features).

    Reference:
        Salimans & Kingma, https://arxiv.org/abs/1602.07868.
    """

    def __init__(self, filters, kernel_size, padding="same", activation=None, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.kernel_size = tuple(kernel_size)
        self.padding = padding
        self.activation = activation

    def build(self, x_shape):
        shape = (*self.kernel_size, x_shape[-1], self.filters)
        self.direction = self.add_weight(name="direction", shape=shape, initializer="he_normal")
        self.length = self.add_weight(name="length", shape=(self.filters,), initializer="ones")
        self.bias = self.add_weight(name="bias", shape=(self.filters,), initializer="zeros")

    def call(self, x):
        # The norm in float32: a sum of thousands of squares.
        direction = ops.cast(self.direction, "float32")
        norm = ops.sqrt(ops.sum(ops.square(direction), axis=tuple(range(len(self.kernel_size) + 1))))
        kernel = ops.cast(direction * (ops.cast(self.length, "float32") / norm), x.dtype)
        y = ops.conv(x, kernel, padding=self.padding) + self.bias
        return keras.activations.get(self.activation)(y)

    def get_config(self):
        config = {"filters": self.filters, "kernel_size": list(self.kernel_size)}
        return {**super().get_config(), **config, "padding": self.padding, "activation": self.activation}


@keras.saving.register_keras_serializable(package="spinet_tf")
class FeatureAttention(keras.layers.Layer):
    """Two convolutions, a gate per feature from their mean, and a residual.

    Args:
        filters: features, equal to the input's.
        squeeze: by how much they are divided inside the gate.
        rank: 3 with a time axis (RFAB of the paper), 2 without (RTAB, whose features are the frames).

    Call arguments:
        x: (batch, [time,] height, width, filters).
    """

    def __init__(self, filters, squeeze, rank, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.squeeze = squeeze
        self.rank = rank
        policy, sides, ones = self.dtype_policy, (3,) * rank, (1,) * rank
        hidden = max(filters // squeeze, 1)
        self.convolution_1 = WeightNormConvolution(filters, sides, "same", "relu", dtype=policy, name="convolution_1")
        self.convolution_2 = WeightNormConvolution(filters, sides, "same", dtype=policy, name="convolution_2")
        self.gate_1 = WeightNormConvolution(hidden, ones, "same", "relu", dtype=policy, name="gate_1")
        self.gate_2 = WeightNormConvolution(filters, ones, "same", "sigmoid", dtype=policy, name="gate_2")

    def build(self, x_shape):
        self.convolution_1.build(x_shape)
        self.convolution_2.build(x_shape)
        self.gate_1.build(x_shape)
        self.gate_2.build((*x_shape[:-1], self.gate_1.filters))

    def call(self, x):
        y = self.convolution_2(self.convolution_1(x))
        axes = tuple(range(1, self.rank + 1))
        pooled = ops.cast(ops.mean(ops.cast(y, "float32"), axis=axes, keepdims=True), y.dtype)
        return x + y * self.gate_2(self.gate_1(pooled))

    def get_config(self):
        config = {"filters": self.filters, "squeeze": self.squeeze, "rank": self.rank}
        return {**super().get_config(), **config}


@keras.saving.register_keras_serializable(package="spinet_tf")
class ReflectPadding(keras.layers.Layer):
    """One pixel of reflection around height and width.

    Call arguments:
        x: (batch, [time,] height, width, features), height and width at least 2.
    """

    def call(self, x):
        widths = [(0, 0)] * (len(x.shape) - 3) + [(1, 1), (1, 1), (0, 0)]
        return ops.pad(x, widths, mode="reflect")


@keras.saving.register_keras_serializable(package="spinet_tf")
class TimeToFeatures(keras.layers.Layer):
    """Every feature of every frame as a feature of one image, frame by frame.

    Call arguments:
        x: (batch, time, height, width, features), time static.
    """

    def call(self, x):
        batch, time, height, width, features = ops.shape(x)
        return ops.reshape(ops.transpose(x, (0, 2, 3, 1, 4)), (batch, height, width, time * features))
