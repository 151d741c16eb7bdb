"""Train SPInet on labelled scenes.

The output folder receives best.keras (highest validation MCC), last.keras, log.csv, tensorboard/ and config.yaml.
"""

import argparse
import sys
from pathlib import Path

import keras
import numpy as np

from spinet_tf import SPInet
from spinet_tf.data.pipeline import training_dataset, validation_dataset
from spinet_tf.data.scene import find_scenes
from spinet_tf.errors import SpinetError, reports_errors
from spinet_tf.metrics import MatthewsCorrelation
from training.callbacks import Forecast, SaveBestAndLast
from training.config import Config, load_config, save_config
from training.output import prepare_output
from training.split import split_scenes
from training.survey import Survey, survey_scenes

OUTPUTS = ("best.keras", "last.keras", "log.csv", "tensorboard", "config.yaml")

EPILOG = """examples:
  python -m training.train --config training/configs/demo.yaml --data scenes --output runs/demo
  tensorboard --logdir runs/demo/tensorboard
"""


def train(config: Config, data: Path, output: Path, overwrite: bool = False) -> None:
    """Train a model and write it, with its logs, to a folder.

    Args:
        config: what to train and how.
        data: a scene, or a folder of scenes, with labels.
        output: the folder to write, see the top of this file.
        overwrite: whether an earlier run there may be replaced.

    Raises:
        SpinetError: if scenes, configuration or output cannot be used, or training diverges.

    Example:
        train(load_config("training/configs/demo.yaml"), Path("scenes"), Path("runs/demo"))
    """
    split = split_scenes(find_scenes(data), config.split, config.validation_scenes)
    prepare_output(output, OUTPUTS, overwrite)
    print(f"Split: {split}")
    survey = survey_scenes(split, config)
    patch = min(config.patch, survey.smallest)
    if patch < config.patch:
        print(f"Patches of {patch} pixels instead of {config.patch}: the smallest part has no more")

    keras.utils.set_random_seed(config.seed)
    model = build_model(config, survey)
    print(f"Model: {model.count_params():,} parameters, bands {', '.join(survey.bands)}, {survey.scale}x finer output")
    print(f"Training: {config.epochs} epochs of {config.steps} steps of {config.batch} patches of {patch} pixels")

    batches = training_dataset(
        split.training,
        survey.bands,
        patch,
        config.batch,
        config.frames,
        config.frame_count,
        config.max_cloud,
        config.weights,
        config.augment,
        config.seed,
    )
    held_out = validation_dataset(
        split.validation, survey.bands, patch, config.batch, max_cloud=config.max_cloud, weights=config.weights
    )
    save_config(config, output / "config.yaml")
    saver = SaveBestAndLast(output)
    saver.set_model(model)
    callbacks = [
        Forecast(config.steps * config.epochs),
        keras.callbacks.TerminateOnNaN(),
        saver,
        keras.callbacks.CSVLogger(str(output / "log.csv")),
        keras.callbacks.TensorBoard(str(output / "tensorboard"), write_graph=False),
    ]
    try:
        history = model.fit(
            batches,
            epochs=config.epochs,
            steps_per_epoch=config.steps,
            validation_data=held_out,
            shuffle=False,
            verbose=1 if sys.stdout.isatty() else 2,
            callbacks=callbacks,
        )
    except KeyboardInterrupt:
        for callback in callbacks:
            callback.on_train_end()
        saver.save("last.keras")
        print(f"\nWrote {output / 'last.keras'}, as training was when it was stopped")
        raise
    if not np.isfinite(history.history["loss"][-1]):
        raise SpinetError("Training diverged: the loss is not finite. Lower learning_rate in the configuration.")
    print(f"Wrote {output / 'best.keras'}: validation MCC {saver.best:.3f} after epoch {saver.best_epoch}")
    print(f"Wrote {output / 'last.keras'}, {output / 'log.csv'} and {output / 'tensorboard'}")


def build_model(config: Config, survey: Survey) -> SPInet:
    """Build and compile the network that a configuration and the scenes ask for."""
    try:
        model = SPInet.named(
            config.model.configuration,
            bands=survey.bands,
            scale=survey.scale,
            mean=survey.mean,
            std=survey.std,
            dtype=config.precision,
            **config.model.overrides(),
        )
    except ValueError as error:
        raise SpinetError(f"The configuration's `model` does not make a network: {error}") from error
    rate = config.learning_rate
    if config.decay:
        rate = keras.optimizers.schedules.CosineDecay(rate, config.steps * config.epochs)
    model.compile(
        keras.optimizers.Adam(rate),
        keras.losses.BinaryCrossentropy(from_logits=True),
        weighted_metrics=[MatthewsCorrelation(from_logits=True)],
        # XLA would compile anew for every number of frames.
        jit_compile=False,
    )
    # Variables made now need not be made by the first step, which would be traced twice for it.
    model.optimizer.build(model.trainable_variables)
    return model


@reports_errors
def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m training.train",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", required=True, type=Path, metavar="FILE", help="what to train: a YAML file")
    parser.add_argument("--data", required=True, type=Path, metavar="FOLDER", help="labelled scenes, or one")
    parser.add_argument(
        "--output", required=True, type=Path, metavar="FOLDER", help="where to write the model and logs"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier run in the output folder")
    arguments = parser.parse_args(argv)
    train(load_config(arguments.config), arguments.data, arguments.output, arguments.overwrite)


if __name__ == "__main__":
    sys.exit(main())
