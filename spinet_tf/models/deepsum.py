"""DeepSUM: each frame registered to the first by a filter that the network predicts, then fused in time."""

import keras
from keras import ops

from spinet_tf.layers import BicubicUpsampling, ReflectanceNormalization, TemporalMean
from spinet_tf.layers.frames import FrameLayer, per_frame
from spinet_tf.layers.tern import apply_kernels
from spinet_tf.models.backbone import band_names, count_bands, listed
from spinet_tf.models.rams import TimeToFeatures

# Side of the filters that move a frame, in pixels of the output: shifts of up to 4 of them.
FILTER_SIDE = 9

# TensorFlow's slope, which the published code leaves as it is.
_SLOPE = 0.2


@keras.saving.register_keras_serializable(package="spinet_tf")
class DeepSUM(keras.Model):
    """Super-resolves a fixed number of frames: upsampled first, then registered to the first frame, then fused.

    The result depends on the order of the frames, above all on which is the first. Frames are upsampled bicubically;
    a network shared by them finds features; another predicts from each frame's and the first one's features one filter
    of 9x9 weights that add up to 1, which moves both the features and the upsampled frame; 3D convolutions reduce time
    to one step; the mean of the moved frames is added.

    Where the paper leaves it open, for segmentation: the mean of the moved frames, of which the published network is a
    residual, is no logit, so a 1x1 convolution makes one of its bands. The published code fills pixels that a mask
    denies from the first other frame that shows them; here whole frames are real or padding, and padding frames are
    filled with the first real one after registration. The three steps are trained as one, not one after the other.

    Args:
        bands: the names of the bands in order, or their number; see `SPInet`.
        scale: how many times finer the output is.
        filters: features; 64 in the published settings.
        layers: convolutions of the network that finds features.
        frames: frames of a series, odd and at least 3.
        mean: per-band mean of the training data; None for 0.
        std: per-band standard deviation of the training data; None for 1.
        dtype: dtype policy of the layers; None for Keras' global one.

    Call arguments:
        A dictionary of "images", float32 (batch, frames, height, width, bands), at least 5 output pixels high and wide,
        and "frame_mask", bool (batch, frames), true for real frames, the first ones. Padding frames may hold anything.

    Returns:
        float32 (batch, scale * height, scale * width, 1): logits, or an image in normalised units.

    Raises:
        ValueError: if `frames` is even or below 3.

    Example:
        >>> model = DeepSUM(bands=12, scale=4, filters=16)
        >>> inputs = {"images": np.zeros((1, 9, 8, 8, 12), "float32"), "frame_mask": np.ones((1, 9), bool)}
        >>> model.predict(inputs, verbose=0).shape
        (1, 32, 32, 1)

    Reference:
        Molini et al., https://arxiv.org/abs/1907.06490; https://github.com/diegovalsesia/deepsum.
    """

    def __init__(
        self,
        bands=12,
        scale=4,
        filters=64,
        layers=8,
        frames=9,
        mean=None,
        std=None,
        dtype=None,
        name="deepsum",
    ):
        if frames < 3 or frames % 2 == 0:
            raise ValueError(f"Expected an odd number of frames, at least 3. Received: {frames}")
        names = band_names(bands)
        dtype = keras.dtype_policies.get(dtype).name

        # === Functional model ===
        inputs = {
            "images": keras.Input((frames, None, None, count_bands(bands)), dtype="float32", name="images"),
            "frame_mask": keras.Input((frames,), dtype="bool", name="frame_mask"),
        }
        mask = inputs["frame_mask"]
        x = ReflectanceNormalization(mean, std, name="normalization")(inputs["images"], mask=mask)
        upsampled = UpsampledFrames(scale, dtype="float32", name="upsampling")(x)
        x = upsampled
        for number in range(layers):
            x = ReflectConvolution(filters, dtype=dtype, name=f"feature_{number}")(x)
        kernels = RegistrationFilters(filters, dtype=dtype, name="registration")(x)
        x = RegisteredFrames(dtype=dtype, name="registered_features")(x, kernels, mask=mask)
        registered = RegisteredFrames(dtype="float32", name="registered_frames")(upsampled, kernels, mask=mask)
        for number in range((frames - 1) // 2):
            x = ReflectConvolution(filters, taps=3, dtype=dtype, name=f"fusion_{number}")(x)
        x = TimeToFeatures(dtype="float32", name="fused")(x)
        residual = keras.layers.Conv2D(1, 1, dtype="float32", name="projection")(x)
        mean_frame = TemporalMean(dtype="float32", name="mean_frame")(registered)
        mean_logit = keras.layers.Conv2D(1, 1, use_bias=False, dtype="float32", name="mean_projection")(mean_frame)
        outputs = keras.layers.Add(dtype="float32", name="sum")([residual, mean_logit])
        super().__init__(inputs=inputs, outputs=outputs, name=name)

        # === Config ===
        self.bands = listed(bands)
        self.scale = scale
        self.filters = filters
        # `layers` is taken: by Keras, for the layers.
        self.feature_layers = layers
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
            "layers": self.feature_layers,
            "frames": self.frames,
            "mean": listed(self.mean),
            "std": listed(self.std),
            "dtype": self.policy,
            "name": self.name,
        }


@keras.saving.register_keras_serializable(package="spinet_tf")
class UpsampledFrames(FrameLayer):
    """Every frame upsampled bicubically.

    Args:
        scale: how many times finer the frames become.

    Call arguments:
        x: (batch, time, height, width, bands).
    """

    def __init__(self, scale, **kwargs):
        super().__init__(**kwargs)
        self.scale = scale
        self.upsampling = BicubicUpsampling(scale, dtype=self.dtype_policy, name="upsampling")

    def call(self, x):
        return per_frame(self.upsampling, x)

    def get_config(self):
        return {**super().get_config(), "scale": self.scale}


@keras.saving.register_keras_serializable(package="spinet_tf")
class ReflectConvolution(FrameLayer):
    """A 3x3 convolution of frames reflected at their edges, instance norm over space, leaky ReLU.

    Args:
        filters: output features.
        taps: 1 for a convolution that all frames share, 3 for one over time too, which leaves out the first and the
            last frame.
        normalized: whether each feature of each frame is normalised over its pixels.
        activated: whether a leaky ReLU follows.

    Call arguments:
        x: (batch, time, height, width, features).
    """

    def __init__(self, filters, taps=1, normalized=True, activated=True, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.taps = taps
        self.normalized = normalized
        self.activated = activated
        settings = {"kernel_initializer": "glorot_normal", "name": "convolution"}
        # Of one time step, a 2D convolution over frames is the faster one.
        if taps == 1:
            self.convolution = keras.layers.Conv2D(filters, 3, dtype=self.dtype_policy, **settings)
        else:
            # TensorFlow 2.21 on CPUs with AMX: the gradients of an unpadded 3D convolution of bfloat16 from at most 16
            # features to as many are wrong for large images, or end the process.
            policy = "float32" if filters <= 16 else self.dtype_policy
            self.convolution = keras.layers.Conv3D(filters, 3, dtype=policy, **settings)
        # As many groups as features: instance norm. Its epsilon of 1e-3 is the published one.
        self.norm = keras.layers.GroupNormalization(-1, dtype=self.dtype_policy, name="norm") if normalized else None

    def build(self, x_shape):
        features = x_shape[-1]
        self.convolution.build((None, None, None, features) if self.taps == 1 else (None, None, None, None, features))
        if self.norm:
            self.norm.build((None, None, None, self.filters))

    def call(self, x):
        x = ops.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
        x = per_frame(self.convolution, x) if self.taps == 1 else self.convolution(x)
        if self.norm:
            x = per_frame(self.norm, x)
        return ops.leaky_relu(x, _SLOPE) if self.activated else x

    def get_config(self):
        config = {"filters": self.filters, "taps": self.taps}
        return {**super().get_config(), **config, "normalized": self.normalized, "activated": self.activated}


@keras.saving.register_keras_serializable(package="spinet_tf")
class RegistrationFilters(FrameLayer):
    """Predicts for every frame the filter that moves it onto the first one; the first one's own leaves it as it is.

    Args:
        filters: features of all convolutions but the first, which has twice as many, and the last, which has 81.

    Call arguments:
        x: (batch, time, height, width, features).

    Returns:
        float32 (batch, time, 81): weights of 9x9 pixels, row by row, that add up to 1.
    """

    def __init__(self, filters, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        widths = (2 * filters, filters, filters, filters)
        self.convolutions = [
            ReflectConvolution(width, normalized=False, dtype=self.dtype_policy, name=f"convolution_{n}")
            for n, width in enumerate(widths)
        ]
        self.proposal = ReflectConvolution(
            FILTER_SIDE**2, normalized=False, activated=False, dtype=self.dtype_policy, name="proposal"
        )

    def build(self, x_shape):
        features = 2 * x_shape[-1]
        for layer in (*self.convolutions, self.proposal):
            layer.build((None, None, None, None, features))
            features = layer.filters

    def call(self, x):
        return ops.softmax(self.propose(x), axis=-1)

    def propose(self, x):
        """The logarithms of the weights, up to a constant for each frame."""
        others = x[:, 1:]
        y = ops.concatenate([others, ops.broadcast_to(x[:, :1], ops.shape(others))], axis=-1)
        for convolution in self.convolutions:
            y = convolution(y)
        proposed = ops.mean(ops.cast(self.proposal(y), "float32"), axis=(2, 3))
        # A weight of 1 in the middle of the filter.
        still = ops.where(ops.arange(FILTER_SIDE**2) == FILTER_SIDE**2 // 2, 0.0, -1e9)
        still = ops.broadcast_to(ops.cast(still, "float32"), ops.shape(proposed[:, :1]))
        return ops.concatenate([still, proposed], axis=1)

    def compute_output_shape(self, x_shape):
        return (*x_shape[:2], FILTER_SIDE**2)

    def get_config(self):
        return {**super().get_config(), "filters": self.filters}


@keras.saving.register_keras_serializable(package="spinet_tf")
class RegisteredFrames(FrameLayer):
    """Moves every frame by its filter; padding frames become the first real one, moved.

    Call arguments:
        x: (batch, time, height, width, features).
        kernels: (batch, time, 81), one filter per frame, row by row.
        mask: (batch, time) bool, true for real frames.

    Returns:
        A tensor like `x`.
    """

    def call(self, x, kernels, mask=None):
        side = FILTER_SIDE // 2
        x = ops.pad(x, ((0, 0), (0, 0), (side, side), (side, side), (0, 0)), mode="reflect")
        x = apply_kernels(x, ops.cast(kernels, x.dtype))[:, :, side:-side, side:-side]
        if mask is None:
            return x
        first = ops.argmax(ops.cast(mask, "int32"), axis=1)
        first = ops.take_along_axis(x, first[:, None, None, None, None], axis=1)
        return ops.where(mask[:, :, None, None, None], x, first)

    def compute_output_shape(self, x_shape, kernels_shape):
        return x_shape
