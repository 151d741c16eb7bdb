"""SPInet: super-resolved segmentation with a permutation-invariant network."""

import keras

from spinet_tf.layers import (
    TERN,
    LogitNormal,
    MultiResolutionFusion,
    PixelShuffle,
    PlainFusion,
    TemporalMean,
)
from spinet_tf.models.backbone import band_names, count_bands, equivariant_backbone, frames_input, listed
from spinet_tf.models.presets import preset_path

FUSIONS: dict[str, type[keras.layers.Layer]] = {"multi_resolution": MultiResolutionFusion, "plain": PlainFusion}

CONFIGURATIONS = {
    # Valsesia & Magli, IGARSS 2022, section 3.1.
    "paper": {"filters": 48, "tefa_blocks": 16, "bottleneck": 6},
    # For two CPU cores: a demonstration trains in minutes.
    "small": {"filters": 16, "tefa_blocks": 2, "bottleneck": 4},
}


@keras.saving.register_keras_serializable(package="spinet_tf")
class SPInet(keras.Model):
    """Maps a ragged time series of Sentinel-2 images to logits of cultivated land on a finer grid.

    The defaults are the paper's. Any number of frames in any order, any height and width, and any batch size are
    accepted; the number of bands is fixed.

    Where the paper leaves it open: upsampling is a 3x3 convolution to filters * scale ** 2 features and a pixel
    shuffle, and there is no upsampled-input residual and no sigma branch.

    Args:
        bands: the names of the bands in order, or their number. 12 stands for all L2A bands, `spinet_tf.BANDS`; another
            number leaves `band_names` None, and then scenes cannot be matched to the model by name.
        scale: how many times finer the output is.
        filters: features throughout the network.
        tefa_blocks: number of TEFA blocks.
        bottleneck: features inside TEFA's gate.
        heads: attention heads.
        fusion: "multi_resolution", or "plain" for the paper's ablation.
        mean: per-band mean of the training data in reflectance; None for 0.
        std: per-band standard deviation of the training data in reflectance; None for 1.
        uncertainty: whether the model also says how far each logit may be off, see `spinet_tf.layers.LogitNormal`. It
            is trained with `spinet_tf.losses.LogitNormalCrossEntropy`.
        dtype: dtype policy of the layers, "mixed_bfloat16" for example; None for Keras' global one.

    Call arguments:
        A dictionary of "images", float32 (batch, time, height, width, bands) reflectance, and "frame_mask", bool
        (batch, time), true for real frames. Padding frames may hold anything.

    Returns:
        Logits, float32 (batch, scale * height, scale * width, 1). With `uncertainty` there are two features: the logit,
        whose sigmoid is the probability as without, and its standard deviation.

    Raises:
        ValueError: for an unknown `fusion`, repeated band names, or sizes that do not fit each other.

    Example:
        >>> model = SPInet.named("small")
        >>> images = np.random.uniform(0, 0.5, (1, 5, 9, 7, 12)).astype("float32")
        >>> model.predict({"images": images, "frame_mask": np.ones((1, 5), bool)}, verbose=0).shape
        (1, 36, 28, 1)

    Reference:
        Valsesia & Magli, "Super-Resolved Multi-Temporal Segmentation with Deep Permutation-Invariant Networks",
        IGARSS 2022, https://doi.org/10.1109/IGARSS46834.2022.9884811.
    """

    def __init__(
        self,
        bands=12,
        scale=4,
        filters=48,
        tefa_blocks=16,
        bottleneck=6,
        heads=1,
        fusion="multi_resolution",
        mean=None,
        std=None,
        uncertainty=False,
        dtype=None,
        name="spinet",
    ):
        if fusion not in FUSIONS:
            raise ValueError(f"Expected fusion to be one of {sorted(FUSIONS)}. Received: {fusion!r}")
        names = band_names(bands)
        dtype = keras.dtype_policies.get(dtype).name

        # === Functional model ===
        inputs = frames_input(count_bands(bands))
        mask = inputs["frame_mask"]
        x = equivariant_backbone(inputs, filters, tefa_blocks, bottleneck, heads, mean, std, dtype=dtype)
        x = TERN(filters, heads=heads, dtype=dtype, name="tern")(x, mask=mask)
        x = TemporalMean(dtype=dtype, name="temporal_mean")(x, mask=mask)
        x = keras.layers.Conv2D(filters * scale**2, 3, padding="same", dtype=dtype, name="upsampling")(x)
        x = PixelShuffle(scale, dtype=dtype, name="pixel_shuffle")(x)
        # A sample without any real frame is nothing to learn statistics from.
        known = keras.ops.any(mask, axis=1)
        logits = FUSIONS[fusion](filters, outputs=1 + uncertainty, dtype=dtype, name="fusion")(x, mask=known)
        if uncertainty:
            logits = LogitNormal(dtype="float32", name="logit_normal")(logits)
        super().__init__(inputs=inputs, outputs=logits, name=name)

        # === Config ===
        self.bands = listed(bands)
        self.scale = scale
        self.filters = filters
        self.tefa_blocks = tefa_blocks
        self.bottleneck = bottleneck
        self.heads = heads
        self.fusion = fusion
        self.mean = mean
        self.std = std
        self.uncertainty = uncertainty
        self.policy = dtype
        self.band_names = names

    @classmethod
    def named(cls, configuration, **overrides):
        """Build a named configuration, "paper" or "small"; `overrides` are arguments of the class.

        Raises:
            ValueError: if there is no such configuration.

        Example:
            >>> SPInet.named("small", bands=["B02", "B03", "B04", "B08"]).count_params()
        """
        if configuration not in CONFIGURATIONS:
            raise ValueError(f"Expected a configuration of {sorted(CONFIGURATIONS)}. Received: {configuration!r}")
        return cls(**{**CONFIGURATIONS[configuration], **overrides})

    @classmethod
    def from_preset(cls, name):
        """Load a trained model that comes with the package, "tiny-simulated"; its card lies beside it.

        Raises:
            ValueError: if there is no such preset.

        Example:
            >>> SPInet.from_preset("tiny-simulated").band_names
        """
        return keras.models.load_model(preset_path(name), compile=False)

    def get_config(self):
        return {
            "bands": listed(self.bands),
            "scale": self.scale,
            "filters": self.filters,
            "tefa_blocks": self.tefa_blocks,
            "bottleneck": self.bottleneck,
            "heads": self.heads,
            "fusion": self.fusion,
            "mean": listed(self.mean),
            "std": listed(self.std),
            "uncertainty": self.uncertainty,
            "dtype": self.policy,
            "name": self.name,
        }
