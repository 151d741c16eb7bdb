"""Self-attention over the frames of each pixel."""

import math

import keras
from keras import ops

from spinet_tf.layers.frames import FrameLayer, mask_frames


@keras.saving.register_keras_serializable(package="spinet_tf")
class TemporalAttention(FrameLayer):
    """Scaled dot-product self-attention in which every pixel is its own sequence of frames.

    There is no temporal position of any kind, so reordering the frames reorders the output alike. The residual is
    added by the caller.

    Args:
        heads: number of attention heads; it divides the number of features.

    Call arguments:
        x: (batch, time, height, width, features).
        mask: (batch, time) bool, true for real frames, or None when all are. Padding frames are never attended to.
        return_attention_scores: also return the weights.

    Returns:
        A tensor like `x`; with `return_attention_scores` also the float32 weights averaged over the heads,
        (batch, height * width, time, time): the share of each key frame (last axis) in each query frame.

    Raises:
        ValueError: if `heads` does not divide the features.

    Example:
        >>> TemporalAttention()(keras.random.normal((1, 5, 4, 4, 12))).shape
        (1, 5, 4, 4, 12)

    Reference:
        Vaswani et al., https://arxiv.org/abs/1706.03762; used along time by PIUnet, https://arxiv.org/abs/2105.12409.
    """

    def __init__(self, heads=1, **kwargs):
        super().__init__(**kwargs)
        self.heads = heads

    def build(self, x_shape):
        features = x_shape[-1]
        if features % self.heads:
            raise ValueError(f"Expected a number of features that {self.heads} heads divide. Received: {features}")
        self.query_key_value = keras.layers.Dense(3 * features, dtype=self.dtype_policy, name="query_key_value")
        self.projection = keras.layers.Dense(features, dtype=self.dtype_policy, name="projection")
        self.query_key_value.build((None, features))
        self.projection.build((None, features))

    def call(self, x, mask=None, return_attention_scores=False):
        batch, time, height, width, features = ops.shape(x)
        x = mask_frames(x, mask)
        x = ops.transpose(ops.reshape(x, (batch, time, height * width, features)), (0, 2, 1, 3))
        query, key, value = (self._split_heads(projected, x) for projected in self._project(x))

        scores = ops.matmul(query / math.sqrt(features // self.heads), ops.swapaxes(key, -1, -2))
        weights = self._softmax(scores, mask)
        attended = ops.matmul(ops.cast(weights, value.dtype), value)

        if self.heads > 1:
            attended = ops.swapaxes(attended, 2, 3)
        y = self.projection(ops.reshape(attended, (-1, features)))
        y = ops.transpose(ops.reshape(y, (batch, height * width, time, features)), (0, 2, 1, 3))
        y = ops.reshape(y, (batch, time, height, width, features))
        if return_attention_scores:
            return y, ops.mean(weights, axis=2) if self.heads > 1 else weights
        return y

    def _project(self, x):
        """Query, key and value, each (batch * pixels * time, features)."""
        # Products of two matrices are the fastest form on every backend, and weights are cheaper to split than outputs.
        x = ops.reshape(x, (-1, x.shape[-1]))
        kernels = ops.split(self.query_key_value.kernel, 3, axis=-1)
        biases = ops.split(self.query_key_value.bias, 3)
        return [ops.matmul(x, kernel) + bias for kernel, bias in zip(kernels, biases, strict=True)]

    def _split_heads(self, projected, sequences):
        """(batch * pixels * time, features) -> (batch, pixels, [heads,] time, features / heads)."""
        batch, pixels, time, features = ops.shape(sequences)
        if self.heads == 1:
            return ops.reshape(projected, (batch, pixels, time, features))
        split = ops.reshape(projected, (batch, pixels, time, self.heads, features // self.heads))
        return ops.swapaxes(split, 2, 3)

    def _softmax(self, scores, mask):
        # float32: in half precision the weights of many frames would not sum to one.
        scores = ops.cast(scores, "float32")
        if scores.shape[-1] == 1:
            # One frame attends to itself alone; Keras warns about a softmax over one number.
            return ops.ones_like(scores)
        if mask is not None:
            batch, time = ops.shape(mask)
            # Finite, so that a sample without any real frame gets uniform weights and not NaN.
            scores = ops.where(ops.reshape(mask, (batch, *([1] * (len(scores.shape) - 2)), time)), scores, -1e9)
        return ops.softmax(scores, axis=-1)

    def get_config(self):
        return {**super().get_config(), "heads": self.heads}
