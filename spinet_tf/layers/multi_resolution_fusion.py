"""The paper's multi-resolution fusion block (figure 2)."""

import keras
from keras import ops

from spinet_tf.layers.bilinear_upsampling import upsample_bilinear
from spinet_tf.layers.frames import FrameLayer, leaky_relu
from spinet_tf.layers.masked_batch_normalization import MaskedBatchNormalization

STRIDES = (1, 2, 4, 8)


@keras.saving.register_keras_serializable(package="spinet_tf")
class MultiResolutionFusion(FrameLayer):
    """Four dyadic scales that exchange features before they are projected to logits.

    Four strided convolutions open one branch per scale; each branch is resampled to every scale; what meets at a scale
    is concatenated and convolved; all scales are brought back to full resolution, concatenated and projected.

    Where the paper leaves it open: each convolution is followed by BN and leaky ReLU; down is average pooling, up is
    bilinear; the kernel at stride s is max(3, s) wide, so that no pixel is skipped; sizes that 8 does not divide are
    extended by edge replication and the logits cropped.

    Args:
        filters: features of every branch.
        outputs: how many numbers each pixel is projected to.

    Call arguments:
        x: (batch, height, width, features).
        mask: (batch,) bool, false for samples that BN's statistics leave out, or None when all count.
        training: whether BN uses the batch's statistics.

    Returns:
        Logits (batch, height, width, outputs) in float32.

    Example:
        >>> MultiResolutionFusion(48)(keras.random.normal((1, 36, 28, 48))).shape
        (1, 36, 28, 1)

    Reference:
        Valsesia & Magli, IGARSS 2022, figure 2; after HRNet, https://arxiv.org/abs/1908.07919.
    """

    def __init__(self, filters, outputs=1, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.outputs = outputs
        policy = self.dtype_policy
        # Strides 4 and 8 in float32 under every policy: TensorFlow 2.21 on CPUs with AMX computes them wrongly in
        # bfloat16 for 8 or 16 features, and their share of the work is small.
        self.branches = [
            keras.layers.Conv2D(
                filters,
                max(3, s),
                strides=s,
                padding="same",
                dtype=policy if s < 4 else "float32",
                name=f"branch_{s}",
            )
            for s in STRIDES
        ]
        self.branch_norms = [MaskedBatchNormalization(dtype=policy, name=f"branch_norm_{s}") for s in STRIDES]
        self.exchanges = [
            keras.layers.Conv2D(filters, 3, padding="same", dtype=policy, name=f"exchange_{s}") for s in STRIDES
        ]
        self.exchange_norms = [MaskedBatchNormalization(dtype=policy, name=f"exchange_norm_{s}") for s in STRIDES]
        # Logits in float32 under every policy: the loss needs them.
        self.projection = keras.layers.Conv2D(outputs, 1, dtype="float32", name="projection")

    def build(self, x_shape):
        joint_shape = (None, None, None, len(STRIDES) * self.filters)
        for layer in self.branches:
            layer.build((None, None, None, x_shape[-1]))
        for layer in (*self.branch_norms, *self.exchange_norms):
            layer.build((None, None, None, self.filters))
        for layer in (*self.exchanges, self.projection):
            layer.build(joint_shape)

    def call(self, x, mask=None, training=False):
        _, height, width, _ = ops.shape(x)
        x = extend(extend(x, STRIDES[-1], axis=1), STRIDES[-1], axis=2)
        branches = [
            leaky_relu(norm(convolution(x), mask=mask, training=training))
            for convolution, norm in zip(self.branches, self.branch_norms, strict=True)
        ]
        fused = []
        for to, convolution, norm in zip(STRIDES, self.exchanges, self.exchange_norms, strict=True):
            met = [resample(branch, at, to) for branch, at in zip(branches, STRIDES, strict=True)]
            joint = convolution(ops.concatenate(met, axis=-1))
            fused.append(leaky_relu(norm(joint, mask=mask, training=training)))
        full = [resample(features, at, 1) for features, at in zip(fused, STRIDES, strict=True)]
        return self.projection(ops.concatenate(full, axis=-1))[:, :height, :width]

    def compute_output_shape(self, x_shape):
        return (*x_shape[:-1], self.outputs)

    def get_config(self):
        return {**super().get_config(), "filters": self.filters, "outputs": self.outputs}


def resample(x, at, to):
    """Bring `x` from the scale of stride `at` to that of stride `to`."""
    if at == to:
        return x
    return upsample_bilinear(x, at // to) if at > to else ops.average_pool(x, to // at, to // at)


def extend(x, multiple, axis):
    """Repeat the last row or column of `x` until `multiple` divides the size."""
    size = ops.shape(x)[axis]
    extended = -(-size // multiple) * multiple
    return ops.take(x, ops.minimum(ops.arange(extended), size - 1), axis=axis)
