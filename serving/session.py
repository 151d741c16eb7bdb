"""A SavedModel run as TensorFlow Serving runs it."""

import logging
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.saved_model import DEFAULT_SERVING_SIGNATURE_DEF_KEY, SERVING

from spinet_tf.errors import SpinetError


class SavedModelSession:
    """A SavedModel in a TF1 session, which answers requests with TensorFlow Serving's checks and error codes.

    As there, names and dtypes are checked before the graph runs, and shapes by the graph alone. Threads may share it.

    Args:
        directory: the folder that holds `saved_model.pb`, that is one version of a servable.

    Raises:
        SpinetError: if the folder holds no SavedModel that can be loaded.

    Example:
        with SavedModelSession("models/spinet/1") as session:
            session.run({"images": images, "num_frames": num_frames})["probabilities"]
    """

    def __init__(self, directory: str | os.PathLike):
        file = Path(directory) / "saved_model.pb"
        if not file.is_file():
            raise SpinetError(f"Expected a SavedModel folder with saved_model.pb. Received: {directory}.")
        try:
            saved_model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
            self.signatures = dict(saved_model.meta_graphs[0].signature_def)
            self._session, self._feeds = self._load(str(directory))
        # A damaged file fails while it is parsed, while the graph is built or while the variables are restored.
        except (OSError, ValueError, KeyError, IndexError, RuntimeError, tf.errors.OpError, DecodeError) as error:
            raise SpinetError(f"Cannot load the SavedModel {directory}: {error}") from error

    def _load(self, directory: str) -> tuple[tf.compat.v1.Session, dict[str, tf.Tensor]]:
        graph = tf.Graph()
        session = tf.compat.v1.Session(graph=graph)
        # Python would refuse a wrong shape by itself. Fed through placeholders of unknown shape, the graph has to.
        with graph.as_default():
            feeds = {
                info.name: tf.compat.v1.placeholder(tf.as_dtype(info.dtype))
                for signature in self.signatures.values()
                for info in signature.inputs.values()
            }
        with _without_deprecation_notice():
            tf.compat.v1.saved_model.loader.load(session, [SERVING], directory, input_map=feeds)
        return session, feeds

    def run(
        self,
        inputs: Mapping[str, np.ndarray],
        signature_name: str = DEFAULT_SERVING_SIGNATURE_DEF_KEY,
        output_filter: Collection[str] = (),
    ) -> dict[str, np.ndarray]:
        """Run one signature.

        Args:
            inputs: an array for every input of the signature.
            signature_name: which signature.
            output_filter: the outputs wanted; all of them when empty.

        Returns:
            The outputs by name.

        Raises:
            tf.errors.FailedPreconditionError: if there is no such signature.
            tf.errors.InvalidArgumentError: for a missing or unknown input, another dtype, an unknown output, or what
                the graph itself refuses.
        """
        if signature_name not in self.signatures:
            raise tf.errors.FailedPreconditionError(
                None, None, f'Serving signature key "{signature_name}" not found. There is: {_names(self.signatures)}.'
            )
        signature = self.signatures[signature_name]
        if set(inputs) != set(signature.inputs):
            raise tf.errors.InvalidArgumentError(
                None, None, f"Expected the inputs {_names(signature.inputs)}. Received: {_names(inputs)}."
            )
        for name, value in inputs.items():
            expected = tf.as_dtype(signature.inputs[name].dtype)
            if value.dtype != expected.as_numpy_dtype:
                raise tf.errors.InvalidArgumentError(
                    None, None, f"Expected {name} to be {expected.name}. Received: {value.dtype}."
                )
        unknown = set(output_filter) - set(signature.outputs)
        if unknown:
            raise tf.errors.InvalidArgumentError(
                None, None, f"Expected outputs among {_names(signature.outputs)}. Received: {_names(unknown)}."
            )
        fetches = {name: signature.outputs[name].name for name in output_filter or signature.outputs}
        feeds = {self._feeds[signature.inputs[name].name]: value for name, value in inputs.items()}
        return self._session.run(fetches, feeds)

    def close(self) -> None:
        """Release the model; no request may be under way."""
        self._session.close()

    def __enter__(self) -> "SavedModelSession":
        return self

    def __exit__(self, *exception) -> None:
        self.close()


def _names(names: Collection[str]) -> str:
    return "{" + ", ".join(sorted(names)) + "}"


@contextmanager
def _without_deprecation_notice() -> Iterator[None]:
    """The loader is deprecated for users of TF2; for running a model as TensorFlow Serving does there is no other."""
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
