"""DeepLabv3 on the temporal mean: segmentation of one upsampled image, as good as a library has it."""

import importlib

import keras
from keras import ops

from spinet_tf.errors import SpinetError
from spinet_tf.layers import BicubicUpsampling, BilinearUpsampling, ReflectanceNormalization, TemporalMean
from spinet_tf.layers.multi_resolution_fusion import extend
from spinet_tf.models.backbone import band_names, count_bands, frames_input, listed

# He et al., https://arxiv.org/abs/1512.03385, table 1: the kind of block, and how many of it each stack has.
RESNETS = {
    10: ("basic_block", (1, 1, 1, 1)),
    18: ("basic_block", (2, 2, 2, 2)),
    34: ("basic_block", (3, 4, 6, 3)),
    50: ("bottleneck_block", (3, 4, 6, 3)),
    101: ("bottleneck_block", (3, 4, 23, 3)),
}

# How much coarser than the image the features are that the pyramid sees. Its rates in Chen et al., section 4.1, are for
# this stride, and the last stack is dilated instead of strided.
_STRIDE = 16
_RATES = (6, 12, 18)
_DILATION = 2
# The stride at which the library's head works: a quarter of its pyramid's, as in its published models.
_COARSE = 4


@keras.saving.register_keras_serializable(package="spinet_tf")
class DeepLabV3(keras.Model):
    """Segments the mean of the real frames, upsampled bicubically, with keras-hub's DeepLabv3.

    A ResNet whose last stack is dilated (output stride 16), atrous spatial pyramid pooling with rates 6, 12 and 18 and
    256 features, no pretrained weights. The order of the frames changes nothing, any number and size of them is taken.

    Where it is open: the mean comes before the upsampling, which is linear, so their order changes nothing. Images
    whose sides 16 does not divide are extended by edge replication, and the logits cropped. The multi-grid of the paper
    is left out, as in keras-hub.

    Args:
        bands: the names of the bands in order, or their number; see `SPInet`.
        scale: how many times finer the output is.
        depth: layers of the ResNet: 50 or 101 as published, 34, 18, or 10 for two CPU cores. Its widths, 64 to 512 (the
            bottlenecks' output four times that), and the pyramid's are keras-hub's.
        mean: per-band mean of the training data in reflectance; None for 0.
        std: per-band standard deviation of the training data in reflectance; None for 1.
        dtype: dtype policy of the layers; None for Keras' global one.

    Call arguments:
        A dictionary of "images", float32 (batch, time, height, width, bands) reflectance, and "frame_mask", bool
        (batch, time), true for real frames. Padding frames may hold anything.

    Returns:
        Logits, float32 (batch, scale * height, scale * width, 1).

    Raises:
        SpinetError: if keras-hub is not installed.
        ValueError: for another `depth`.

    Example:
        >>> model = DeepLabV3(depth=18)
        >>> inputs = {"images": np.zeros((1, 5, 9, 7, 12), "float32"), "frame_mask": np.ones((1, 5), bool)}
        >>> model.predict(inputs, verbose=0).shape
        (1, 36, 28, 1)

    Reference:
        Chen et al., https://arxiv.org/abs/1706.05587; the baseline of Valsesia & Magli, IGARSS 2022.
    """

    def __init__(self, bands=12, scale=4, depth=50, mean=None, std=None, dtype=None, name="deeplabv3"):
        names = band_names(bands)
        dtype = keras.dtype_policies.get(dtype).name

        # === Functional model ===
        inputs = frames_input(count_bands(bands))
        mask = inputs["frame_mask"]
        x = ReflectanceNormalization(mean, std, name="normalization")(inputs["images"], mask=mask)
        x = TemporalMean(dtype="float32", name="temporal_mean")(x, mask=mask)
        x = BicubicUpsampling(scale, dtype="float32", name="upsampling")(x)
        logits = AtrousSegmentation(depth, dtype=dtype, name="segmentation")(x)
        super().__init__(inputs=inputs, outputs=logits, name=name)

        # === Config ===
        self.bands = listed(bands)
        self.scale = scale
        self.depth = depth
        self.mean = mean
        self.std = std
        self.policy = dtype
        self.band_names = names

    def get_config(self):
        return {
            "bands": listed(self.bands),
            "scale": self.scale,
            "depth": self.depth,
            "mean": listed(self.mean),
            "std": listed(self.std),
            "dtype": self.policy,
            "name": self.name,
        }


@keras.saving.register_keras_serializable(package="spinet_tf")
class AtrousSegmentation(keras.layers.Layer):
    """keras-hub's DeepLabv3 for images of any size: logits as fine as the image.

    Args:
        depth: layers of the ResNet.

    Call arguments:
        x: (batch, height, width, features).

    Returns:
        float32 (batch, height, width, 1).
    """

    def __init__(self, depth, **kwargs):
        super().__init__(**kwargs)
        if depth not in RESNETS:
            raise ValueError(f"Expected a depth out of {', '.join(map(str, RESNETS))}. Received: {depth}")
        self.depth = depth

    def build(self, x_shape):
        policy = keras.config.dtype_policy()
        # Most of keras-hub's layers take no policy but the global one.
        keras.config.set_dtype_policy(self.dtype_policy)
        try:
            self.network = _network(self.depth, x_shape[-1])
        finally:
            keras.config.set_dtype_policy(policy)
        # Logits in float32 under every policy: the loss needs them.
        self.projection = keras.layers.Conv2D(1, 1, dtype="float32", name="projection")
        self.projection.build(self.network.output.shape)

    def call(self, x, training=False):
        _, height, width, _ = ops.shape(x)
        x = extend(extend(x, _STRIDE, axis=1), _STRIDE, axis=2)
        features = self.network(x, training=training)
        return self.projection(features)[:, :height, :width]

    def compute_output_shape(self, x_shape):
        return (*x_shape[:-1], 1)

    def get_config(self):
        return {**super().get_config(), "depth": self.depth}


def _network(depth, channels):
    """Images of sides that `_STRIDE` divides to features of the same size, before the projection to logits."""
    hub = _keras_hub()
    block, counts = RESNETS[depth]
    resnet = hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 128, 256, 512],
        stackwise_num_blocks=list(counts),
        stackwise_num_strides=[1, 2, 2, 1],
        block_type=block,
        image_shape=(None, None, channels),
    )
    for layer in resnet.layers:
        if layer.name.startswith("stack3") and getattr(layer, "kernel_size", None) == (3, 3):
            layer.dilation_rate = (_DILATION, _DILATION)
    # The last stack is as fine as the one before it, and the library reads the stride from the name.
    resnet.pyramid_outputs = {"P4": resnet.pyramid_outputs["P5"]}
    made = hub.models.DeepLabV3Backbone(
        image_encoder=resnet,
        spatial_pyramid_pooling_key="P4",
        upsampling_size=_COARSE,
        dilation_rates=list(_RATES),
        image_shape=(None, None, channels),
    )
    # Its own bilinear upsampling fails in graph mode where sizes are unknown; ours does the same.
    x = inputs = keras.Input((None, None, channels))
    for layer in made.layers[1:]:
        if isinstance(layer, keras.layers.UpSampling2D):
            layer = BilinearUpsampling(layer.size[0], name=layer.name)
        x = layer(x)
        x = x["P4"] if isinstance(x, dict) else x
    return keras.Model(inputs, x, name="network")


def _keras_hub():
    try:
        return importlib.import_module("keras_hub")
    except ImportError as error:
        raise SpinetError(
            f"Expected keras-hub, which DeepLabv3 comes from ({error}). Run pip install 'spinet-tf[baselines]'."
        ) from error
