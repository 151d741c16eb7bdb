"""What happens while `model.fit` runs: saving, scoring, stopping."""

import contextlib
import csv
import io
import math
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import numpy as np
from keras import ops

from spinet_tf.errors import SpinetError
from spinet_tf.files import replacing
from training.checkpoint import Progress, advice, metric_variables, save_checkpoint, set_weights_of, weights_of


class Keeper(keras.callbacks.Callback):
    """Keeps a run: validates after each epoch, saves models, log and checkpoints, and stops it where it must.

    Nothing is lost but the steps since the last checkpoint, whenever the process ends: a model is saved before the
    checkpoint that says so, and every file is whole or not there.

    Args:
        folder: of the run.
        progress: where the run stands; kept up to date.
        score: the metric that decides which model is best.
        metrics: what `metric_variables` held when the run was interrupted inside an epoch.
        steps: steps of an epoch.
        validate: gives the validation's logs.
        names: gives the patches of a step's batch, for the message about a loss that is not finite.
        minutes: between checkpoints inside an epoch.
        patience: epochs without a better score after which training stops; None for never.
        averaged: whether the optimizer's averages are validated and saved instead of the weights.
        chief: whether this process writes; of several workers one does.
    """

    def __init__(
        self,
        folder: Path,
        progress: Progress,
        score: keras.metrics.Metric,
        metrics: list,
        steps: int,
        validate: Callable[[], dict[str, float]],
        names: Callable[[int], list[str]],
        minutes: float,
        patience: int | None,
        averaged: bool,
        chief: bool = True,
    ):
        super().__init__()
        self.folder, self.progress, self.score, self.metrics = folder, progress, score, metrics
        self.steps, self.validate, self.names = steps, validate, names
        self.seconds, self.patience, self.averaged, self.chief = 60 * minutes, patience, averaged, chief
        self.interrupted = False
        self._saved = time.monotonic()
        self._first = 0

    @property
    def finished(self) -> bool:
        """Whether early stopping ended the run."""
        progress = self.progress
        return self.patience is not None and progress.epoch - progress.best_epoch >= self.patience

    def on_epoch_begin(self, epoch, logs=None):
        self._first = self.progress.step
        if self._first:
            # Keras has just reset them; an epoch that was interrupted goes on with its sums.
            for variable, value in zip(metric_variables(self.model, self.score), self.metrics, strict=True):
                variable.assign(value)

    def on_train_batch_end(self, batch, logs=None):
        progress = self.progress
        step = self._first + batch + 1
        loss = (logs or {}).get("loss")
        if loss is not None and not math.isfinite(loss):
            number = progress.epoch * self.steps + step - 1
            raise SpinetError(
                f"Training diverged: the loss is {loss} after step {step} of epoch {progress.epoch + 1}, on the "
                f"patches {'; '.join(self.names(number))}. {advice(self.folder)}"
            )
        progress.step = step
        if step < self.steps and (self.interrupted or time.monotonic() - self._saved >= self.seconds):
            self.checkpoint()
        if self.interrupted and step < self.steps:
            raise KeyboardInterrupt

    def on_test_batch_end(self, batch, logs=None):
        if self.interrupted:
            raise KeyboardInterrupt

    def on_epoch_end(self, epoch, logs=None):
        rate = float(ops.convert_to_numpy(self.model.optimizer.learning_rate))
        self.progress.logs = {**{name: float(value) for name, value in logs.items()}, "learning_rate": rate}
        self.progress.step = self.steps
        self.checkpoint()
        row = self.finish_epoch()
        # For the callbacks after this one, and for what fit prints.
        logs.update({name: value for name, value in row.items() if name != "epoch"})
        if self.interrupted:
            raise KeyboardInterrupt
        if self.finished:
            self.model.stop_training = True

    def finish_epoch(self) -> dict[str, float]:
        """Validate, save and note an epoch whose steps are all trained; its row of the log."""
        progress, model = self.progress, self.model
        weights = weights_of(model)
        if self.averaged:
            model.optimizer.finalize_variable_values(model.trainable_variables)
            for variable in model.trainable_variables:
                # On JAX weight and average are now one array, which the evaluation would use up.
                variable.assign(np.array(ops.convert_to_numpy(variable)))
        validation = {f"val_{name}": float(value) for name, value in self.validate().items()}
        if self.interrupted:
            raise KeyboardInterrupt
        row = {"epoch": progress.epoch, **(progress.logs or {}), **validation}
        progress.history.append(row)
        score = row[f"val_{self.score.name}"]
        if score > progress.best:
            progress.best, progress.best_epoch = score, progress.epoch + 1
            self.save("best.keras")
        self.save("last.keras")
        if self.averaged:
            set_weights_of(model, weights)
        self._write_log()
        progress.epoch, progress.step, progress.logs = progress.epoch + 1, 0, None
        self.checkpoint(weights)
        return row

    def checkpoint(self, weights=None) -> None:
        """Save where the run stands."""
        if self.chief:
            inside = 0 < self.progress.step < self.steps
            variables = metric_variables(self.model, self.score) if inside else []
            metrics = [np.array(ops.convert_to_numpy(variable)) for variable in variables]
            save_checkpoint(self.folder, self.progress, weights or weights_of(self.model), metrics)
        self._saved = time.monotonic()

    def save(self, name: str) -> None:
        """Save the model under a name in the folder."""
        if not self.chief:
            return
        try:
            with replacing(self.folder / name) as temporary:
                self.model.save(temporary)
        except OSError as error:
            raise SpinetError(
                f"Cannot write {self.folder / name}: {error.strerror or error}. What was saved before is unharmed: "
                "make room and run the same command again."
            ) from error

    def _write_log(self) -> None:
        if not self.chief:
            return
        history = self.progress.history
        table = io.StringIO()
        writer = csv.DictWriter(table, list(history[-1]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)
        with replacing(self.folder / "log.csv") as temporary:
            temporary.write_text(table.getvalue())


@contextlib.contextmanager
def interruptible(keeper: Keeper) -> Iterator[None]:
    """Let Ctrl-C, or a request to terminate, end the step and save first; a second one ends at once."""

    def request(number, frame):
        if keeper.interrupted:
            raise KeyboardInterrupt
        keeper.interrupted = True
        print("\nStopping after this step; once more to stop at once", flush=True)

    before = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
