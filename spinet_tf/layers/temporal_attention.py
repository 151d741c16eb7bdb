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
        return self.attend(mask_frames(x, mask), mask, return_attention_scores)

    def attend(self, x, mask, return_attention_scores=False):
        """As a call, for `x` whose padding is finite, as it is behind any convolution of this package."""
        batch, time, height, width, features = ops.shape(x)
        (query_kernel, query_bias), (output_kernel, output_bias) = self._merged()
        # Every pixel is a sequence of frames. Products of two matrices are the fastest form on every backend.
        x = ops.transpose(ops.reshape(x, (batch, time, height * width, features)), (0, 2, 1, 3))
        query = ops.matmul(ops.reshape(x, (-1, features)), query_kernel) + query_bias
        # Heads lie beside each other in the query's features, and so they do in what is attended.
        query = ops.reshape(query, (batch, height * width, time * self.heads, features))
        weights = self._softmax(ops.matmul(query, ops.swapaxes(x, -1, -2)), mask)
        attended = ops.matmul(ops.cast(weights, x.dtype), x)
        attended = ops.reshape(attended, (-1, self.heads * features))
        y = ops.reshape(ops.matmul(attended, output_kernel) + output_bias, (batch, height * width, time, features))
        y = ops.reshape(ops.transpose(y, (0, 2, 1, 3)), (batch, time, height, width, features))
        if return_attention_scores:
            weights = ops.reshape(weights, (batch, height * width, time, self.heads, time))
            return y, ops.mean(weights, axis=3)
        return y

    def _merged(self):
        """`merged_projections` of the weights, in float32 until the end."""
        joint, output = self.query_key_value, self.projection
        joint_kernel, joint_bias, output_kernel, output_bias = (
            ops.cast(weight, "float32") for weight in (joint.kernel, joint.bias, output.kernel, output.bias)
        )
        merged = merged_projections(joint_kernel, joint_bias, output_kernel, output_bias, self.heads)
        return [[ops.cast(weight, self.compute_dtype) for weight in pair] for pair in merged]

    def _softmax(self, scores, mask):
        # float32: in half precision the weights of many frames would not sum to one.
        scores = ops.cast(scores, "float32")
        if scores.shape[-1] == 1:
            # One frame attends to itself alone; Keras warns about a softmax over one number.
            return ops.ones_like(scores)
        if mask is not None:
            # Finite, so that a sample without any real frame gets weights that are not NaN.
            scores = scores + ops.expand_dims(ops.where(mask, 0.0, -1e9), (1, 2))
        return ops.softmax(scores, axis=-1)

    def get_config(self):
        return {**super().get_config(), "heads": self.heads}


def merged_projections(joint_kernel, joint_bias, output_kernel, output_bias, heads, numpy=ops):
    """The two projections that are left of four when those between which nothing else happens are one matrix.

    Query and key need one: (x Q + q) (x K + k)' is (x Q K' + q K') x' but for terms that all keys share, which the
    softmax does not see. So do value and output: w (x V + v) O + o is (w x) V O + v O + o, as weights sum to one.

    Args:
        joint_kernel: (features, 3 * features), of query, key and value.
        joint_bias: (3 * features,).
        output_kernel: (features, features).
        output_bias: (features,).
        heads: number of attention heads.
        numpy: what computes, `keras.ops` or NumPy.

    Returns:
        Kernel and bias of the query that needs no key, (features, heads * features) and (heads * features,), divided by
        the root of a head's features; and of the output that needs no value, (heads * features, features), (features,).
    """
    features = output_kernel.shape[0]
    size = features // heads
    # A bias is the row of an input that is one.
    joint = numpy.concatenate([joint_kernel, joint_bias[None]])
    joint = numpy.transpose(numpy.reshape(joint, (features + 1, 3, heads, size)), (1, 2, 0, 3))
    query = numpy.matmul(joint[0], numpy.swapaxes(joint[1, :, :-1], -1, -2)) / math.sqrt(size)
    query = numpy.reshape(numpy.swapaxes(query, 0, 1), (features + 1, heads * features))
    output = numpy.matmul(joint[2], numpy.reshape(output_kernel, (heads, size, features)))
    return (
        (query[:-1], query[-1]),
        (numpy.reshape(output[:, :-1], (-1, features)), numpy.sum(output[:, -1], axis=0) + output_bias),
    )
