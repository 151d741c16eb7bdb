"""The proof that a SavedModel equals the Keras model it was made from."""

import os

import numpy as np

from serving.session import SavedModelSession
from spinet_tf.inference.engine import Engine

# In probability. Float32 sums taken in another order differ by some 1e-7 at first, but trained networks on the noise
# shown here, far from any image, have been seen to make 2e-5 of it.
TOLERANCE = 1e-4

# (num_frames, height, width): one sample and several, one frame and many, even sizes and odd, one pixel.
REQUESTS = [((3,), 8, 8), ((1, 4, 2), 7, 10), ((2, 5), 1, 13), ((11,), 9, 6)]


def greatest_difference(engine: Engine, directory: str | os.PathLike, bands: int) -> float:
    """Run a SavedModel as TensorFlow Serving does, and compare its probabilities with those of `engine`.

    Batches hold series of several lengths, padded as TensorFlow Serving's `pad_variable_length_inputs` pads them: with
    the first element of the tensor. `engine` sees every series alone and without padding.

    Args:
        engine: the original.
        directory: the SavedModel, one version of a servable.
        bands: how many bands both take.

    Returns:
        The greatest absolute difference of a probability.

    Example:
        greatest_difference(KerasEngine(model), "models/spinet/1", 12)
    """
    rng = np.random.default_rng(0)
    greatest = 0.0
    with SavedModelSession(directory) as session:
        for num_frames, height, width in REQUESTS:
            series = [rng.integers(1, 10000, (frames, height, width, bands), np.uint16) for frames in num_frames]
            images = np.stack([_padded(frames, max(num_frames)) for frames in series])
            answers = session.run({"images": images, "num_frames": np.array(num_frames, np.int32)})["probabilities"]
            for frames, answer in zip(series, answers, strict=True):
                expected = engine.predict(frames[None], np.array([len(frames)], np.int32))[0]
                # Not max(): it would drop a NaN.
                greatest = float(np.maximum(greatest, np.abs(answer - expected).max()))
    return greatest


def _padded(frames: np.ndarray, length: int) -> np.ndarray:
    padding = ((0, length - len(frames)), (0, 0), (0, 0), (0, 0))
    return np.pad(frames, padding, constant_values=frames.flat[0])
