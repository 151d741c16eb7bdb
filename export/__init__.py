"""How a model leaves: SavedModel, and the proof that it equals the Keras model."""

import spinet_tf  # noqa: F401  before TensorFlow, whose start-up messages it silences
