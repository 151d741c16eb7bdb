"""How a model learns: train, evaluate (python -m training.train --help)."""
