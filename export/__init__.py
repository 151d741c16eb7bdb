"""How a model leaves: SavedModel, and the proof that it equals the Keras model."""
