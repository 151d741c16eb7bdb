"""The inference form of a trained SPInet: what it computes is the same, what is constant is computed once.

- BN is part of the convolution before it, or of the projection before it. Where it ends a unit, its scale is left to
  what follows: s * leaky_relu(x) is leaky_relu(s * x) for positive s.
- The attention's merged projections, which training computes in each step, are constants.
- TERN's filters and the mean over the frames are both linear: frames are mixed first, and shifted after.
- The fusion block projects each scale to one number before it is upsampled, not after.
- Padding is set to zero once, at the input, and is finite from there on; nothing that counts looks at it.
"""

import keras
import numpy as np
from keras import ops

from spinet_tf.layers import LogitNormal, PixelShuffle, ReflectanceNormalization
from spinet_tf.layers.frames import FrameLayer, known_or, leaky_relu, masked_mean, per_frame, spatial_mean
from spinet_tf.layers.multi_resolution_fusion import STRIDES, extend, resample
from spinet_tf.layers.temporal_attention import merged_projections
from spinet_tf.models.backbone import frames_input

# A scale that is nothing beside 1, but that one can divide by.
_SMALL = 1e-6


def folded(model, dtype=None):
    """The exact inference form of a `SPInet`: the same inputs, logits, `band_names` and `scale`, in less time.

    In float32 its logits differ by rounding, by less than 1e-4 of their standard deviation. It is made for this process
    or an exported graph: it can be neither trained nor saved as a `.keras` file.

    Args:
        model: a `SPInet`, whose weights are copied.
        dtype: "float32" or "bfloat16", which halves the time on CPUs that multiply it (AMX, or AVX-512 with BF16); None
            for what `model` computes in.

    Returns:
        A `FoldedSPInet`, which is a keras.Model.

    Raises:
        TypeError: for another kind of model.

    Example:
        >>> fast = folded(model)
        >>> logits = fast({"images": images, "frame_mask": frame_mask})
    """
    # Imported here, so that what `SPInet` builds on may use this module.
    from spinet_tf.models.spinet import SPInet

    if not isinstance(model, SPInet):
        raise TypeError(f"Expected a SPInet. Received: {type(model).__name__}")
    return FoldedSPInet(model, dtype or keras.dtype_policies.get(model.policy).compute_dtype)


class FoldedSPInet(keras.Model):
    """What `folded` makes; its layers bear the names of the network's.

    Args:
        model: a `SPInet`.
        dtype: what is computed in.
    """

    def __init__(self, model, dtype):
        layer = model.get_layer
        inputs = frames_input(layer("normalization").band_mean.shape[0])
        mask = inputs["frame_mask"]
        normalization = ReflectanceNormalization(name="normalization")
        x = normalization(inputs["images"], mask=mask)
        normalization.set_weights(layer("normalization").get_weights())
        head = x = FoldedUnit(layer("head"), dtype=dtype, name="head")(x, mask=mask)
        for block in range(1, model.tefa_blocks + 1):
            x = FoldedTEFA(layer(f"tefa_{block}"), dtype=dtype, name=f"tefa_{block}")(x, mask=mask)
        x = FoldedUnit(layer("mid"), activated=True, dtype=dtype, name="mid")(x, mask=mask)
        x = keras.layers.Add(dtype=dtype, name="long_skip")([x, head])
        x = FoldedTERN(layer("tern"), dtype=dtype, name="tern")(x, mask=mask)
        x = _convolution(*_arrays(layer("upsampling")), dtype=dtype, name="upsampling")(x)
        x = PixelShuffle(model.scale, dtype=dtype, name="pixel_shuffle")(x)
        fusion = FoldedPlainFusion if model.fusion == "plain" else FoldedFusion
        logits = fusion(layer("fusion"), dtype=dtype, name="fusion")(x)
        if model.uncertainty:
            logits = LogitNormal(dtype="float32", name="logit_normal")(logits)
        super().__init__(inputs=inputs, outputs=logits, name=f"{model.name}_folded", trainable=False)
        self.band_names = model.band_names
        self.scale = model.scale
        self.tefa_blocks = model.tefa_blocks
        self.filters = model.filters
        self.uncertainty = model.uncertainty

    def call_with_means(self, inputs, block_means, frame_means):
        """Logits with the means behind TEFA's gates and TERN's filters from elsewhere: of a scene, for its tiles.

        Args:
            inputs: {"images", "frame_mask"}, as for a call.
            block_means: (batch, tefa_blocks, filters) float32, of every TEFA; NaN for those of the input itself.
            frame_means: (batch, time, filters) float32, TERN's for every frame; NaN likewise.

        Returns:
            Logits; and the input's own means, shaped as those given. They are the means that the network itself takes.
        """
        layer, mask = self.get_layer, inputs["frame_mask"]
        head = x = layer("head")(layer("normalization")(inputs["images"], mask=mask), mask=mask)
        own_means = []
        for block in range(self.tefa_blocks):
            x, own = layer(f"tefa_{block + 1}").call_with_mean(x, mask, block_means[:, block])
            own_means.append(own)
        x = layer("long_skip")([layer("mid")(x, mask=mask), head])
        x, own_frame_means = layer("tern").call_with_means(x, mask, frame_means)
        logits = layer("fusion")(layer("pixel_shuffle")(layer("upsampling")(x)))
        if self.uncertainty:
            logits = layer("logit_normal")(logits)
        return logits, ops.stack(own_means, axis=1), own_frame_means


class FoldedUnit(FrameLayer):
    """An `EquivariantUnit` for inference.

    Args:
        unit: the built layer.
        input_scale: what its input has to be multiplied by, per feature; None for 1.
        free: whether the caller multiplies the output by the attribute `output_scale`.
        activated: whether leaky ReLU follows.

    Call arguments:
        x: (batch, time, height, width, features).
        mask: (batch, time) bool.
    """

    def __init__(self, unit, input_scale=None, free=False, activated=False, **kwargs):
        super().__init__(**kwargs)
        self.activated = activated
        dtype = self.dtype_policy
        kernel, bias = _arrays(unit.convolution)
        if input_scale is not None:
            kernel = kernel * input_scale[:, None]
        self.convolution = _convolution(
            *_with_norm(unit.norm_in, kernel, bias), activation=leaky_relu, dtype=dtype, name="convolution"
        )
        attention = unit.attention
        joint, joint_bias = _arrays(attention.query_key_value)
        output, output_bias = _arrays(attention.projection)
        query, output = merged_projections(joint, joint_bias, output, output_bias, attention.heads, numpy=np)
        scale, shift = _coefficients(unit.norm_out)
        if free:
            scale = np.where(np.abs(scale) < _SMALL, _SMALL, scale)
            self.output_scale = scale
            self.residual_scale = None
            output = output[0], output[1] + shift / scale
        else:
            self.residual_scale = self.add_weight(shape=scale.shape, initializer=_given(scale), trainable=False)
            output = output[0] * scale, output[1] * scale + shift
        # Products with matrices as convolutions of one pixel: TensorFlow fuses their biases in bfloat16 too.
        self.query, self.output_projection = (
            _convolution(matrix[None, None], bias, dtype=dtype, name=name)
            for name, (matrix, bias) in (("query", query), ("output", output))
        )

    def call(self, x, mask=None):
        residual = per_frame(self.convolution, x)
        batch, time, height, width, features = ops.shape(residual)
        # Every pixel is a sequence of frames.
        x = ops.transpose(ops.reshape(residual, (batch, time, height * width, features)), (0, 2, 1, 3))
        # Heads lie beside each other in the query's features, and so they do in what is attended.
        query = ops.reshape(self.query(x), (batch, height * width, -1, features))
        scores = ops.matmul(query, ops.swapaxes(x, -1, -2))
        attended = ops.matmul(_softmax(scores, mask), x)
        y = self.output_projection(ops.reshape(attended, (batch, height * width, time, self.query.filters)))
        y = ops.reshape(ops.transpose(y, (0, 2, 1, 3)), (batch, time, height, width, features))
        # Added here and not before the transposition: TensorFlow 2.21 on CPUs fuses a convolution with the sum after
        # it where sizes are fixed, and computes it wrongly.
        y = y + (residual if self.residual_scale is None else residual * self.residual_scale)
        return leaky_relu(y) if self.activated else y

    def compute_output_shape(self, x_shape):
        return (*x_shape[:-1], self.convolution.filters)


class FoldedTEFA(FrameLayer):
    """A `TEFA` for inference; its arguments are those of `FoldedUnit`."""

    def __init__(self, tefa, **kwargs):
        super().__init__(**kwargs)
        dtype = self.dtype_policy
        # The scale of a leaky ReLU's input is that of its output only if it is positive.
        positive = bool(np.all(_coefficients(tefa.unit_1.norm_out)[0] > 0))
        self.unit_1 = FoldedUnit(tefa.unit_1, free=positive, activated=True, dtype=dtype, name="unit_1")
        input_scale = self.unit_1.output_scale if positive else None
        self.unit_2 = FoldedUnit(tefa.unit_2, input_scale, free=True, dtype=dtype, name="unit_2")
        scale = self.unit_2.output_scale
        self.squeeze = _dense(*_arrays(tefa.squeeze), name="squeeze")
        self.excite = _dense(*_arrays(tefa.excite), name="excite")
        self.scale = self.add_weight(shape=scale.shape, initializer=_given(scale), trainable=False, dtype="float32")

    def call(self, x, mask=None):
        y, mean = self._features(x, mask)
        return self._gated(x, y, mean)

    def call_with_mean(self, x, mask, mean):
        """The output with another mean where `mean` is not NaN, and the own mean: see `FoldedSPInet`."""
        y, own = self._features(x, mask)
        return self._gated(x, y, known_or(mean, own)), own

    def _features(self, x, mask):
        """What is gated, but for its scale; and its mean, (batch, features) float32."""
        y = self.unit_2(self.unit_1(x, mask=mask), mask=mask)
        return y, self.scale * masked_mean(spatial_mean(y), mask)

    def _gated(self, x, y, mean):
        gate = self.scale * ops.sigmoid(self.excite(leaky_relu(self.squeeze(mean))))
        return x + y * ops.cast(ops.reshape(gate, (-1, 1, 1, 1, x.shape[-1])), y.dtype)

    def compute_output_shape(self, x_shape):
        return x_shape


class FoldedTERN(FrameLayer):
    """A `TERN` and the `TemporalMean` after it, for inference; its arguments are those of `FoldedUnit`.

    Returns:
        (batch, height, width, features).
    """

    def __init__(self, tern, **kwargs):
        super().__init__(**kwargs)
        self.unit = FoldedUnit(tern.unit, activated=True, dtype=self.dtype_policy, name="unit")
        self.proposal = _dense(*_arrays(tern.proposal), name="proposal")
        self.kernel_size = tern.kernel_size

    def call(self, x, mask=None):
        return self._mixed(x, mask, spatial_mean(self.unit(x, mask=mask)))

    def call_with_means(self, x, mask, means):
        """The output with other means where `means` are not NaN, and the own means: see `FoldedSPInet`."""
        own = spatial_mean(self.unit(x, mask=mask))
        return self._mixed(x, mask, known_or(means, own)), own

    def _mixed(self, x, mask, means):
        side = self.kernel_size
        batch, time, height, width, features = ops.shape(x)
        weights = ops.cast(mask, "float32")
        weights = weights / ops.maximum(ops.sum(weights, axis=1, keepdims=True), 1.0)
        kernels = self.proposal(means) * ops.expand_dims(weights, -1)
        # For each place of the filter, the frames by their filters' values there; in float32, for 25 of them are added.
        frames = ops.reshape(ops.cast(x, "float32"), (batch, time, height * width * features))
        mixes = ops.matmul(ops.swapaxes(kernels, 1, 2), frames)
        mixes = ops.reshape(mixes, (batch, side, side, height, width, features))
        margin = (side // 2, side // 2)
        mixes = ops.pad(mixes, ((0, 0), (0, 0), (0, 0), margin, margin, (0, 0)))
        rows = sum(mixes[:, row, :, row : row + height] for row in range(side))
        y = sum(rows[:, column, :, column : column + width] for column in range(side))
        return ops.cast(y, x.dtype)

    def compute_output_shape(self, x_shape):
        return (x_shape[0], *x_shape[2:])


class FoldedFusion(keras.layers.Layer):
    """A `MultiResolutionFusion` for inference; its arguments are those of `FoldedUnit`."""

    def __init__(self, fusion, **kwargs):
        super().__init__(**kwargs)
        dtype = self.dtype_policy
        # In float32 where the layer is: see there.
        self.branches = [
            _convolution(
                *_with_norm(norm, *_arrays(convolution)),
                strides=stride,
                activation=leaky_relu,
                dtype=convolution.compute_dtype,
                name=f"branch_{stride}",
            )
            for stride, convolution, norm in zip(STRIDES, fusion.branches, fusion.branch_norms, strict=True)
        ]
        self.exchanges = [
            _convolution(
                *_with_norm(norm, *_arrays(convolution)),
                activation=leaky_relu,
                dtype=dtype,
                name=f"exchange_{stride}",
            )
            for stride, convolution, norm in zip(STRIDES, fusion.exchanges, fusion.exchange_norms, strict=True)
        ]
        kernel, bias = _arrays(fusion.projection)
        biases = [bias, *[0 * bias] * (len(STRIDES) - 1)]
        self.projections = [
            _convolution(part, bias, dtype="float32", name=f"projection_{stride}")
            for stride, part, bias in zip(STRIDES, np.split(kernel, len(STRIDES), axis=2), biases, strict=True)
        ]

    def call(self, x):
        _, height, width, _ = ops.shape(x)
        x = extend(extend(x, STRIDES[-1], axis=1), STRIDES[-1], axis=2)
        branches = [ops.cast(convolution(x), x.dtype) for convolution in self.branches]
        logits = []
        for to, exchange, projection in zip(STRIDES, self.exchanges, self.projections, strict=True):
            met = [resample(branch, at, to) for branch, at in zip(branches, STRIDES, strict=True)]
            logits.append(resample(projection(exchange(ops.concatenate(met, axis=-1))), to, 1))
        return sum(logits)[:, :height, :width]

    def compute_output_shape(self, x_shape):
        return (*x_shape[:-1], self.projections[0].filters)


class FoldedPlainFusion(keras.layers.Layer):
    """A `PlainFusion` for inference; its arguments are those of `FoldedUnit`."""

    def __init__(self, fusion, **kwargs):
        super().__init__(**kwargs)
        pairs = (fusion.convolution_1, fusion.norm_1), (fusion.convolution_2, fusion.norm_2)
        self.convolutions = [
            _convolution(
                *_with_norm(norm, *_arrays(convolution)),
                activation="relu",
                dtype=self.dtype_policy,
                name=convolution.name,
            )
            for convolution, norm in pairs
        ]
        self.projection = _convolution(*_arrays(fusion.projection), dtype="float32", name="projection")

    def call(self, x):
        for convolution in (*self.convolutions, self.projection):
            x = convolution(x)
        return x

    def compute_output_shape(self, x_shape):
        return (*x_shape[:-1], self.projection.filters)


def _softmax(scores, mask):
    """Attention weights of (batch, pixels, time * heads, time) scores, in their dtype; exponentials in float32."""
    if scores.shape[-1] == 1:
        # Keras warns about a softmax over one number.
        return ops.ones_like(scores)
    penalty = ops.expand_dims(ops.where(mask, 0.0, -1e9), (1, 2))
    return ops.cast(ops.softmax(ops.cast(scores, "float32") + penalty, axis=-1), scores.dtype)


def _arrays(layer):
    """Kernel and bias in float64, so that folding rounds once."""
    return ops.convert_to_numpy(layer.kernel).astype("float64"), ops.convert_to_numpy(layer.bias).astype("float64")


def _coefficients(norm):
    """What a `MaskedBatchNormalization` does in inference: a scale and a shift per feature."""
    gamma, beta, mean, variance = (
        ops.convert_to_numpy(weight).astype("float64")
        for weight in (norm.gamma, norm.beta, norm.moving_mean, norm.moving_variance)
    )
    scale = gamma / np.sqrt(variance + norm.epsilon)
    return scale, beta - mean * scale


def _with_norm(norm, kernel, bias):
    """Kernel and bias of a convolution that the norm after it is part of."""
    scale, shift = _coefficients(norm)
    return kernel * scale, bias * scale + shift


def _given(array):
    return lambda shape, dtype=None: ops.cast(ops.convert_to_tensor(array.astype("float32")), dtype)


def _convolution(kernel, bias, **kwargs):
    """A built convolution with these weights."""
    height, width, inputs, filters = kernel.shape
    layer = keras.layers.Conv2D(
        filters,
        (height, width),
        padding="same",
        kernel_initializer=_given(kernel),
        bias_initializer=_given(bias),
        trainable=False,
        **kwargs,
    )
    layer.build((None, None, None, inputs))
    return layer


def _dense(kernel, bias, **kwargs):
    """A built dense layer with these weights, in float32 under every policy: it is a small share of the work."""
    inputs, units = kernel.shape
    layer = keras.layers.Dense(
        units,
        kernel_initializer=_given(kernel),
        bias_initializer=_given(bias),
        trainable=False,
        dtype="float32",
        **kwargs,
    )
    layer.build((None, inputs))
    return layer
