"""Train SPInet on labelled scenes, or on what training.prepare made of them; go on where an earlier run stopped.

The output folder receives best.keras (highest validation MCC), last.keras, log.csv, tensorboard/, config.yaml, and
checkpoint.npz, from which the same command continues a run that was interrupted in any way.
"""

import argparse
import contextlib
import dataclasses
import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from spinet_tf.data.batches import Batches
from spinet_tf.errors import SpinetError, reports_errors
from spinet_tf.metrics import MatthewsCorrelation
from training.callbacks import Forecast, Keeper, interruptible
from training.checkpoint import (
    FILE,
    Progress,
    load_checkpoint,
    read_identity,
    require_room,
    room_for,
)
from training.config import Config, load_config, save_config
from training.data import TrainingData, open_data
from training.devices import STRATEGIES, adapt_to_replicas, is_chief, prepare_devices, replicas
from training.network import build_model
from training.output import prepare_output
from training.start import with_start_bands
from training.tensorboard import tensorboard_callbacks

OUTPUTS = ("best.keras", "last.keras", "log.csv", "tensorboard", "config.yaml", FILE)

EPILOG = """examples:
  python -m training.train --config training/configs/demo.yaml --data scenes --output runs/demo
  python -m training.train --config training/configs/finetune.yaml --data my/eopatches    # start from the preset
  python -m training.train --config training/configs/ai4eo.yaml --data prepared            # into runs/ai4eo
  python -m training.train --config training/configs/ai4eo.yaml --data prepared --dry-run  # what would it cost?
  python -m training.train --config training/configs/ai4eo.yaml --data prepared --strategy mirrored
  tensorboard --logdir runs/demo/tensorboard
"""


def train(config: Config, data: Path, output: Path, overwrite: bool = False, strategy: str = "single") -> None:
    """Train a model and write it, with its logs, to a folder; or go on with a run that was interrupted there.

    Args:
        config: what to train and how.
        data: a folder that training.prepare wrote, or scenes with labels, or one.
        output: the folder to write, see the top of this file.
        overwrite: whether an earlier run there may be replaced instead of continued.
        strategy: "single", "mirrored" for all devices of this machine, or "multi_worker", see `training.devices`.

    Raises:
        SpinetError: if data, configuration or output cannot be used, or training diverges.

    Example:
        train(load_config("training/configs/demo.yaml"), Path("scenes"), Path("runs/demo"))
    """
    config = with_start_bands(config)
    _require_start_elsewhere(config, output)
    opened = open_data(config, data)
    identity = _identity(config, opened)
    earlier = None if overwrite else read_identity(output)
    if earlier is not None:
        _require_same_run(earlier, identity, output)

    with prepare_devices(strategy, config.deterministic):
        chief = is_chief(strategy)
        if earlier is None and chief:
            prepare_output(output, OUTPUTS, overwrite)
        print(f"Split: {opened.split}")
        if (config.batch // config.accumulate) % replicas():
            raise SpinetError(
                f"Expected {replicas()} devices to share each batch evenly. Received: batch {config.batch} in "
                f"{config.accumulate} parts. Choose another batch or accumulate."
            )
        keras.utils.set_random_seed(config.seed)
        score = MatthewsCorrelation(from_logits=True)
        model = build_model(config, opened, score)
        adapt_to_replicas(model)
        if earlier is not None:
            progress, metrics = load_checkpoint(output, model)
        else:
            progress, metrics = Progress(identity=identity), list[np.ndarray]()
            if chief:
                require_room(output, room_for(model))
                save_config(config, output / "config.yaml")
    bands = ", ".join(opened.bands)
    origin = f", from {config.start}" if config.start else ""
    print(f"Model: {model.count_params():,} parameters, bands {bands}, {opened.scale}x finer output{origin}")
    print(
        f"Training: {config.epochs} epochs of {opened.steps} steps of {config.batch} patches of {opened.patch} pixels"
    )
    if earlier is not None:
        print(f"Going on after step {progress.step} of epoch {progress.epoch + 1}, as {output / FILE} says")

    run, validate = _loops(model, score, strategy)
    keeper = Keeper(
        output,
        progress,
        score,
        metrics,
        opened.steps * config.accumulate,
        validate=lambda: validate(opened.validation, keeper),
        names=opened.training.names,
        minutes=config.checkpoint_minutes,
        patience=config.patience,
        averaged=config.average is not None,
        chief=chief,
    )
    keeper.set_model(model)
    callbacks = tensorboard_callbacks(output / "tensorboard", opened) if chief else []
    with interruptible(keeper), _dataset_errors():
        try:
            run(opened.training, config.epochs, keeper, callbacks)
        except KeyboardInterrupt:
            print(f"\nStopped. The same command goes on from {output / FILE}")
            raise
    if not chief:
        return
    print(f"Wrote {output / 'best.keras'}: validation MCC {progress.best:.3f} after epoch {progress.best_epoch}")
    print(f"Wrote {output / 'last.keras'}, {output / 'log.csv'} and {output / 'tensorboard'}")


def _loops(model: keras.Model, score: keras.metrics.Metric, strategy: str) -> tuple[Callable, Callable]:
    """What trains and what validates with a strategy: Keras, or where it cannot the loop of `training.multi_worker`."""
    if strategy == "single" or keras.backend.backend() != "tensorflow":
        return functools.partial(fit, model), functools.partial(evaluate_batches, model)
    from training.multi_worker import Workers

    workers = Workers(model, score)
    return workers.fit, workers.evaluate


def fit(
    model: keras.Model, batches: Batches, epochs: int, keeper: Keeper, callbacks: list[keras.callbacks.Callback]
) -> None:
    """Run `model.fit` from where the keeper's progress stands to the end."""
    progress, steps = keeper.progress, keeper.steps
    if progress.step == steps:
        keeper.finish_epoch()
    forecast = Forecast((epochs - progress.epoch) * steps - progress.step)
    while progress.epoch < epochs and not keeper.finished:
        start = progress.epoch * steps + progress.step
        # An epoch that was interrupted is a fit of its own, for model.fit begins epochs at their first step.
        last = progress.epoch + 1 if progress.step else epochs
        model.fit(
            elements(batches, start),
            initial_epoch=progress.epoch,
            epochs=last,
            steps_per_epoch=steps - progress.step,
            shuffle=False,
            verbose=1 if sys.stdout.isatty() else 2,
            callbacks=[keeper, forecast, *callbacks],
        )
        # model.fit ends by putting the averages in the weights' place.
        if progress.epoch < epochs:
            load_checkpoint(keeper.folder, model)


def elements(batches: Batches, start: int = 0):
    """Batches as `model.fit` takes them with this backend, from a number on."""
    if keras.backend.backend() == "tensorflow":
        from spinet_tf.data.pipeline import batch_dataset

        return batch_dataset(batches, start)
    from spinet_tf.data.sequence import BatchSequence

    return BatchSequence(batches, start)


def evaluate_batches(model: keras.Model, batches: Batches, keeper: Keeper) -> dict[str, float]:
    """Loss and metrics over all batches."""
    return model.evaluate(elements(batches), callbacks=[keeper], verbose=0, return_dict=True)


def _identity(config: Config, data: TrainingData) -> str:
    settings = dataclasses.asdict(config)
    # These change nothing of what is learnt.
    del settings["checkpoint_minutes"]
    return json.dumps({"configuration": settings, "data": data.identity}, sort_keys=True)


def _require_start_elsewhere(config: Config, output: Path) -> None:
    if config.start is not None and Path(config.start).resolve().parent == output.resolve():
        raise SpinetError(
            f"Expected an output other than the folder of the model to start from. Received: {output}, where this run "
            f"would replace {Path(config.start).name}. Choose another output."
        )


def _require_same_run(earlier: str, identity: str, output: Path) -> None:
    before, now = json.loads(earlier), json.loads(identity)
    differing = [
        f"{key}: {before[group].get(key)!r} then, {now[group][key]!r} now"
        for group in now
        for key in now[group]
        if before[group].get(key) != now[group][key]
    ]
    if differing:
        raise SpinetError(
            f"{output} holds a run of another configuration or of other data ({'; '.join(differing)}). Choose another "
            "output, or pass --overwrite to begin anew."
        )


def _dataset_errors() -> contextlib.AbstractContextManager:
    if keras.backend.backend() != "tensorflow":
        return contextlib.nullcontext()
    from spinet_tf.data.pipeline import spinet_errors

    return spinet_errors()


@reports_errors
def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m training.train",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--config", required=True, type=Path, metavar="FILE", help="what to train: a YAML file")
    add("--data", required=True, type=Path, metavar="FOLDER", help="prepared shards, or labelled scenes, or one")
    add("--output", type=Path, metavar="FOLDER", help="where to write model and logs (default: runs/<name of FILE>)")
    add("--strategy", choices=STRATEGIES, default="single", help="the devices to train on (default: %(default)s)")
    add("--dry-run", action="store_true", help="print sizes, time and memory, and train nothing")
    add("--overwrite", action="store_true", help="replace an earlier run in the output folder, not continue it")
    arguments = parser.parse_args(argv)
    config = load_config(arguments.config)
    output = arguments.output or Path("runs") / arguments.config.stem
    if arguments.dry_run:
        from training.forecast import dry_run

        dry_run(with_start_bands(config), arguments.data)
        return
    train(config, arguments.data, output, arguments.overwrite, arguments.strategy)


if __name__ == "__main__":
    sys.exit(main())
