"""What happens while `model.fit` runs."""

import time
from pathlib import Path

import keras

from spinet_tf.files import replacing


class SaveBestAndLast(keras.callbacks.Callback):
    """After each epoch saves the model as last.keras and, where its score is the highest so far, as best.keras.

    A file is complete or not there: it is written beside its place and then renamed.

    Args:
        folder: where to save.
        score: name of the score in the logs, higher is better.
    """

    def __init__(self, folder: Path, score: str = "val_mcc"):
        super().__init__()
        self.folder = folder
        self.score = score
        self.best = -float("inf")
        self.best_epoch = 0

    def save(self, name: str) -> None:
        """Save the model under a name in the folder."""
        with replacing(self.folder / name) as temporary:
            self.model.save(temporary)

    def on_epoch_end(self, epoch, logs=None):
        self.save("last.keras")
        score = float(logs[self.score])
        if score > self.best:
            self.best, self.best_epoch = score, epoch + 1
            self.save("best.keras")


class Forecast(keras.callbacks.Callback):
    """Prints how long training will take, once a few steps have shown it.

    Args:
        steps: all steps of the run.
    """

    # The first steps wait for graphs to be built and for data.
    FIRST, LAST = 3, 13

    def __init__(self, steps: int):
        super().__init__()
        self.steps = steps
        self.seen = 0
        self.start = 0.0

    def on_train_batch_end(self, batch, logs=None):
        self.seen += 1
        if self.seen == self.FIRST:
            self.start = time.perf_counter()
        elif self.seen == self.LAST:
            step = (time.perf_counter() - self.start) / (self.LAST - self.FIRST)
            minutes = step * (self.steps - self.seen) / 60
            print(f"\n{step:.2f} s a step: about {minutes:.1f} minutes to go, and the validation after each epoch")
