"""Whether two things answer alike: requests at random, and how far an answer is from the Keras model's."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from export.graph import UINT8_SCALE, Exportable
from serving.session import SavedModelSession
from spinet_tf.errors import SpinetError
from spinet_tf.inference.engine import Engine, MeansEngine, gives_uncertainty, stacked
from spinet_tf.tiling import Means

Predict = Callable[[np.ndarray, np.ndarray], np.ndarray]

# Of the output's scale: the greatest probability of the Keras model's answer. Float32 sums taken in another order
# differ by some 1e-7 at first, but trained networks on the noise shown here, far from any image, make up to 2e-5 of it.
TOLERANCE = 1e-4

# Sides of images: those the export itself is checked with, and others, never seen in it, for a proof afterwards.
EXPORT_SIZES = range(2, 13)
PROOF_SIZES = range(13, 30)


@dataclass(frozen=True)
class Request:
    """What is sent to everything that is compared.

    Attributes:
        name: what is special about it.
        images: uint16 (batch, time, height, width, bands).
        num_frames: int32 (batch,).
    """

    name: str
    images: np.ndarray
    num_frames: np.ndarray


def random_requests(rng: np.random.Generator, bands: int, sizes: range, frames: int | None = None) -> list[Request]:
    """Draw the requests that a proof needs: one frame, odd sizes, and batches of several lengths, padded.

    Args:
        rng: decides sizes, lengths and digital numbers.
        bands: how many bands there are.
        sizes: sides of the images.
        frames: the number of frames that the model takes; None for any.

    Returns:
        Five requests.
    """
    odd, even = sizes[1 - sizes[0] % 2 :: 2], sizes[sizes[0] % 2 :: 2]

    def request(name, num_frames, heights, widths, padding=None):
        num_frames = np.asarray(num_frames, np.int32)
        height, width = rng.choice(heights), rng.choice(widths)
        time = frames or max(num_frames)
        images = rng.integers(1, 10000, (len(num_frames), time, height, width, bands), np.uint16)
        if padding == "first element":
            # As TensorFlow Serving's pad_variable_length_inputs pads: with the first element of each tensor.
            for sample, real in zip(images, num_frames, strict=True):
                sample[real:] = sample.flat[0]
        return Request(name, images, num_frames)

    def lengths(batch):
        return rng.integers(2, frames or 12, batch, endpoint=True)

    return [
        request("one frame", [1], odd, even),
        request("odd sizes", lengths(1), odd, odd),
        request("even sizes, batch of 2", np.repeat(lengths(1), 2), even, even),
        request("padded by first element", [*lengths(2), 1], odd, even, padding="first element"),
        request("padded by noise", [1, *lengths(1)], even, odd),
    ]


def difference(expected: np.ndarray, actual: np.ndarray) -> float:
    """The greatest absolute difference of a probability; NaN where one is NaN, or the shapes differ."""
    if expected.shape != actual.shape:
        return float("nan")
    # Not Python's max(): it would drop a NaN.
    return float(np.abs(actual.astype(np.float64) - expected).max())


def limit(expected: np.ndarray) -> float:
    """The greatest difference allowed from an answer."""
    return TOLERANCE * float(np.abs(expected).max())


def prove_equal(exportable: Exportable, engine: MeansEngine, what: str) -> float:
    """Compare what was written with the Keras model it was made from.

    Args:
        exportable: the model.
        engine: what was written.
        what: its name in the error.

    Returns:
        The greatest difference of a probability.

    Raises:
        SpinetError: if an answer differs by more than float32 explains.
    """
    requests = random_requests(np.random.default_rng(0), exportable.bands, EXPORT_SIZES, exportable.frames)
    asked: list[tuple[Request, Predict, Predict]] = [
        (one, with_uncertainty(exportable), with_uncertainty(engine)) for one in requests
    ]
    if exportable.takes_means:
        # The padded batches.
        ways = with_other_means(exportable), with_other_means(engine)
        asked += [(one, *ways) for one in requests[3:]]
    greatest = 0.0
    for request, model, written in asked:
        expected = model(request.images, request.num_frames)
        delta = difference(expected, written(request.images, request.num_frames))
        if not delta <= limit(expected):
            raise SpinetError(
                f"The {what}'s probabilities differ from the Keras model's by {delta:.1e} ({request.name}), more than "
                f"{limit(expected):.0e}. Nothing was written."
            )
        greatest = max(greatest, delta)
    return greatest


def with_uncertainty(engine: Engine | Exportable) -> Predict:
    """Ask `engine` for probabilities and, if its model gives it, their uncertainty, which is compared alike."""
    return partial(engine.predict, uncertainty=True) if gives_uncertainty(engine) else engine.predict


def with_other_means(engine: MeansEngine | Exportable) -> Predict:
    """Ask `engine` for every series with means of the one before it in the batch; every other frame with its own."""
    wanted = {"uncertainty": True} if gives_uncertainty(engine) else {}

    def predict(images, num_frames):
        blocks, frames = (np.roll(means, 1, axis=0) for means in engine.find_means(images, num_frames))
        # The first frame is real in every series; what is found for padding means nothing.
        given = frames[:, :1].repeat(images.shape[1], axis=1)
        given[:, 1::2] = np.nan
        return engine.predict_with_means(images, num_frames, Means(blocks, given), **wanted)

    return predict


def alone(engine: Engine) -> Predict:
    """Ask `engine` for every series alone and without its padding: what a padded batch has to equal."""

    def predict(images, num_frames):
        answers = [
            engine.predict(series[None, :real], np.array([real], np.int32))
            for series, real in zip(images, num_frames, strict=True)
        ]
        return np.concatenate(answers)

    return predict


class SavedModelEngine:
    """A SavedModel run as TensorFlow Serving runs it, behind the interface of `KerasEngine`.

    Args:
        directory: one version of a servable.

    Raises:
        SpinetError: if it cannot be loaded, or is not one of `export.saved_model`.

    Example:
        with SavedModelEngine("models/spinet/1") as engine:
            engine.predict(images, num_frames)
    """

    def __init__(self, directory: str | os.PathLike):
        self._session = SavedModelSession(directory)
        missing = {"serving_default", "uint8", "describe"} - set(self._session.signatures)
        if missing:
            self._session.close()
            raise SpinetError(
                f"Expected a SavedModel of export.saved_model. {directory} lacks the signature "
                f"{' and '.join(sorted(missing))}: export the model again."
            )
        described = self._session.run({"request": np.zeros(1, np.int32)}, "describe")
        self.band_names = tuple(name.decode() for name in described["bands"][0]) or None
        self.scale = int(described["scale"][0])
        self.takes_means = "with_means" in self._session.signatures
        self.gives_uncertainty = "uncertainty" in self._session.signatures["serving_default"].outputs
        self.bands = self._session.signatures["serving_default"].inputs["images"].tensor_shape.dim[-1].size

    def predict(self, images: np.ndarray, num_frames: np.ndarray, uncertainty: bool = False) -> np.ndarray:
        """As `spinet_tf.inference.engine.KerasEngine.predict`."""
        return stacked(self._session.run({"images": images, "num_frames": num_frames}), uncertainty)

    def predict_uint8(self, images: np.ndarray, num_frames: np.ndarray) -> np.ndarray:
        """Return the answer of the signature `uint8`, with all that it gives, as `predict` has it."""
        answer = self._session.run({"images": images, "num_frames": num_frames}, "uint8")
        return stacked(answer, self.gives_uncertainty) / np.float32(UINT8_SCALE)

    def find_means(self, images: np.ndarray, num_frames: np.ndarray) -> Means:
        """Return the answer of the signature `means`."""
        answer = self._session.run({"images": images, "num_frames": num_frames}, "means")
        return Means(answer["block_means"], answer["frame_means"])

    def predict_with_means(
        self, images: np.ndarray, num_frames: np.ndarray, means: Means, uncertainty: bool = False
    ) -> np.ndarray:
        """Return the answer of the signature `with_means`."""
        inputs = {"images": images, "num_frames": num_frames, "block_means": means.blocks, "frame_means": means.frames}
        return stacked(self._session.run(inputs, "with_means"), uncertainty)

    def __enter__(self) -> "SavedModelEngine":
        return self

    def __exit__(self, *exception) -> None:
        self._session.close()
