"""How a model learns: train, evaluate (python -m training.train --help)."""

import spinet_tf  # noqa: F401  before TensorFlow, whose start-up messages it silences
