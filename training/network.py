"""The network that a configuration asks for, with its loss and optimizer."""

import keras

from spinet_tf import SPInet
from spinet_tf.errors import SpinetError
from spinet_tf.losses import CrossEntropySoftMCC, LogitNormalCrossEntropy, SoftMCC
from spinet_tf.models import rematerialize
from training.config import Config
from training.data import TrainingData
from training.start import build_from_start
from training.systems import build_system, require_settings

LOSSES = {
    "cross_entropy": keras.losses.BinaryCrossentropy,
    "soft_mcc": SoftMCC,
    "both": CrossEntropySoftMCC,
}


def build_model(config: Config, data: TrainingData, score: keras.metrics.Metric) -> keras.Model:
    """Build the network that a configuration and the data ask for, and compile it with a score of its maps."""
    if config.start is None:
        model = _new_network(config, data)
    else:
        model = build_from_start(config.start, data.scale, config.precision)
    if config.remat:
        rematerialize(model)
    model.compile(
        build_optimizer(config, config.epochs * data.steps),
        build_loss(config, model),
        weighted_metrics=[score],
        # JAX always compiles. TensorFlow's XLA is slower on CPUs, and compiles anew for every number of frames.
        jit_compile=keras.backend.backend() == "jax",
    )
    # Variables made now need not be made by the first step, which would be traced twice for it.
    model.optimizer.build(model.trainable_variables)
    return model


def build_loss(config: Config, model: keras.Model) -> keras.losses.Loss:
    """The loss of a configuration, for a model of it."""
    if not getattr(model, "uncertainty", False):
        return LOSSES[config.loss](from_logits=True)
    if config.loss != "cross_entropy":
        raise SpinetError(
            f"Expected the loss cross_entropy for a model with uncertainty. Received: {config.loss}, which teaches it "
            "none. Leave `loss` or `uncertainty` out."
        )
    return LogitNormalCrossEntropy()


def _new_network(config: Config, data: TrainingData) -> keras.Model:
    common = {"bands": data.bands, "scale": data.scale, "mean": data.mean, "std": data.std, "dtype": config.precision}
    sizes = config.model.overrides()
    require_settings(config.model.system, sizes, common)
    try:
        if config.model.system == "spinet":
            return SPInet.named(config.model.configuration, **common, **sizes)
        return build_system(config.model.system, sizes, **common)
    except ValueError as error:
        raise SpinetError(f"The configuration's `model` does not make a network: {error}") from error


def build_optimizer(config: Config, updates: int) -> keras.optimizers.Optimizer:
    """The optimizer of a configuration, for a run of so many updates."""
    parts = config.accumulate
    settings = {
        "learning_rate": learning_rate(config, updates),
        "global_clipnorm": config.clip_norm,
        "gradient_accumulation_steps": parts if parts > 1 else None,
    }
    if config.average is not None:
        # Keras averages after every part of a batch.
        settings |= {"use_ema": True, "ema_momentum": config.average ** (1 / parts)}
    if config.optimizer == "adamw":
        return keras.optimizers.AdamW(weight_decay=config.weight_decay, **settings)
    return keras.optimizers.Adam(**settings)


def learning_rate(config: Config, updates: int) -> float | keras.optimizers.schedules.LearningRateSchedule:
    """The learning rate of a run of so many updates: a number, or a schedule."""
    rate = config.learning_rate
    # Keras counts the parts of a batch.
    updates, warmup = updates * config.accumulate, config.warmup * config.accumulate
    if config.schedule == "constant" and not warmup:
        return rate
    # A cosine that ends where it begins is constant.
    alpha = 1.0 if config.schedule == "constant" else 0.0
    if not warmup:
        return keras.optimizers.schedules.CosineDecay(rate, updates, alpha=alpha)
    return keras.optimizers.schedules.CosineDecay(
        0.0, max(updates - warmup, 1), alpha=alpha, warmup_target=rate, warmup_steps=warmup
    )
