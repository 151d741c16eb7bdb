"""The loss follows from the configuration and the model."""

from types import SimpleNamespace

import keras
import pytest

from spinet_tf.errors import SpinetError
from spinet_tf.losses import LogitNormalCrossEntropy, SoftMCC
from training.config import Config, ModelConfig
from training.network import build_loss


def test_a_model_with_uncertainty_has_a_loss_of_its_own():
    sure, unsure = SimpleNamespace(), SimpleNamespace(uncertainty=True)
    assert isinstance(build_loss(Config(), sure), keras.losses.BinaryCrossentropy)
    assert isinstance(build_loss(Config(loss="soft_mcc"), sure), SoftMCC)
    assert isinstance(build_loss(Config(), unsure), LogitNormalCrossEntropy)
    with pytest.raises(SpinetError, match="Expected the loss cross_entropy for a model with uncertainty"):
        build_loss(Config(loss="both"), unsure)


def test_uncertainty_is_a_setting_of_the_model():
    assert ModelConfig(uncertainty=True).overrides() == {"uncertainty": True}
    assert ModelConfig().overrides() == {}
