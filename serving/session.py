"""A SavedModel run as TensorFlow Serving runs it."""

import logging
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.framework.types_pb2 import DataType
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef
from tensorflow.saved_model import DEFAULT_SERVING_SIGNATURE_DEF_KEY, SERVING

from serving.status import failure
from spinet_tf.errors import SpinetError

# Listed among the signatures, but nothing to ask for.
INIT_OP = "__saved_model_init_op"

# Milliseconds that a run may take at most where its time is limited: what the option holds.
LONGEST_TIMEOUT = 2**31 - 1


class SavedModelSession:
    """A SavedModel in a TF1 session, which answers requests with TensorFlow Serving's checks, codes and messages.

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
        output_filter: Sequence[str] = (),
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
        outputs = self.check(inputs, signature_name, output_filter)
        return self.run_checked(inputs, signature_name, outputs)

    def signature(self, name: str) -> SignatureDef:
        """Return the signature `name`.

        Raises:
            tf.errors.FailedPreconditionError: if there is none.
        """
        if name not in self.signatures or name == INIT_OP:
            raise failure(
                tf.errors.FailedPreconditionError,
                f'Serving signature key "{name}" not found. There is: {_names(set(self.signatures) - {INIT_OP})}.',
            )
        return self.signatures[name]

    def check(
        self, inputs: Mapping[str, np.ndarray], signature_name: str, output_filter: Sequence[str] = ()
    ) -> tuple[str, ...]:
        """Refuse what `run` refuses before the graph runs; arguments and errors are the same.

        Returns:
            The outputs wanted.
        """
        signature = self.signature(signature_name)
        _check_names(inputs, signature)
        # TensorFlow numbers the tensors that it is fed in the order of their names in the graph.
        ordered = sorted(signature.inputs, key=lambda name: signature.inputs[name].name)
        for index, name in enumerate(ordered):
            expected, received = signature.inputs[name].dtype, tf.as_dtype(inputs[name].dtype).as_datatype_enum
            if received != expected:
                raise failure(
                    tf.errors.InvalidArgumentError,
                    f"Expects arg[{index}] to be {_type_name(expected)} but {_type_name(received)} is provided "
                    f"({name}).",
                )
        for position, name in enumerate(output_filter):
            if name not in signature.outputs:
                raise failure(
                    tf.errors.InvalidArgumentError,
                    f"output tensor alias not found in signature: {name} "
                    f"Outputs expected to be in the set {_names(signature.outputs)}.",
                )
            if name in output_filter[:position]:
                raise failure(tf.errors.InvalidArgumentError, f"duplicate output tensor alias: {name}")
        return tuple(output_filter or signature.outputs)

    def run_checked(
        self,
        inputs: Mapping[str, np.ndarray],
        signature_name: str,
        outputs: Sequence[str],
        timeout: float | None = None,
    ) -> dict[str, np.ndarray]:
        """Run one signature on inputs that `check` has let pass.

        Args:
            inputs: an array for every input of the signature.
            signature_name: which signature.
            outputs: the outputs wanted.
            timeout: seconds after which the graph stops; None for as long as it takes.

        Returns:
            The outputs by name.

        Raises:
            tf.errors.InvalidArgumentError: for what the graph refuses.
            tf.errors.DeadlineExceededError: if it takes longer than `timeout`.
        """
        signature = self.signatures[signature_name]
        fetches = {name: signature.outputs[name].name for name in outputs}
        feeds = {self._feeds[signature.inputs[name].name]: value for name, value in inputs.items()}
        options = None
        if timeout is not None:
            options = tf.compat.v1.RunOptions(timeout_in_ms=max(1, min(int(timeout * 1000), LONGEST_TIMEOUT)))
        return self._session.run(fetches, feeds, options=options)

    def close(self) -> None:
        """Release the model; no request may be under way."""
        self._session.close()

    def __enter__(self) -> "SavedModelSession":
        return self

    def __exit__(self, *exception) -> None:
        self.close()


def _check_names(inputs: Mapping[str, np.ndarray], signature: SignatureDef) -> None:
    if len(inputs) != len(signature.inputs):
        sent, required = set(inputs), set(signature.inputs)
        raise failure(
            tf.errors.InvalidArgumentError,
            f"input size does not match signature: {len(inputs)}!={len(required)} len({_names(sent)}) != "
            f"len({_names(required)}). Sent extra: {_names(sent - required)}. "
            f"Missing but required: {_names(required - sent)}.",
        )
    for name in inputs:
        if name not in signature.inputs:
            raise failure(
                tf.errors.InvalidArgumentError,
                f"input tensor alias not found in signature: {name}. "
                f"Inputs expected to be in the set {_names(signature.inputs)}.",
            )


def _names(names: Collection[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"


def _type_name(dtype: int) -> str:
    """The name of a dtype in TensorFlow's messages: "float" where NumPy says float32."""
    return DataType.Name(dtype).removeprefix("DT_").lower()


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
