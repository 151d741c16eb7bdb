"""What can be asked of a server: each call's request, and what its response says.

Both clients, the one that waits and the asynchronous one, make their calls here and only send them by themselves.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from google.protobuf.message import DecodeError, Message

from spinet_client.errors import ServingError
from spinet_client.messages import GET_MODEL_METADATA, GET_MODEL_STATUS, PREDICT, Method, message_class
from spinet_client.tensors import dtype_name, fill_tensor, read_tensor
from spinet_client.tiling import Means

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Call(Generic[Answer]):
    """A request that is ready to be sent.

    Attributes:
        method: where to.
        request: what.
        read: makes the answer out of the response.
    """

    method: Method
    request: Message
    read: Callable[[Message], Answer]


@dataclass(frozen=True)
class Model:
    """Which model on a server is asked.

    Attributes:
        name: its name there.
        version: its number; None for the latest, or the labelled one.
        label: of the version, such as "stable"; None for none.
    """

    name: str = "spinet"
    version: int | None = None
    label: str | None = None

    def __post_init__(self):
        if self.version is not None and not 0 <= self.version < 2**63:
            raise ServingError(f"Expected a version number of 0 or more. Received: {self.version}.")
        if self.version is not None and self.label is not None:
            raise ServingError(f"Expected a version or a label. Received: {self.version} and {self.label!r}.")

    def __str__(self) -> str:
        chosen = self.label if self.version is None else self.version
        return self.name if chosen is None else f"{self.name}/{chosen}"

    @classmethod
    def parse(cls, text: str) -> "Model":
        """Read "name", "name/3" (a version) or "name/stable" (a label)."""
        name, _, chosen = text.partition("/")
        if not name or "/" in chosen or text.endswith("/"):
            raise ServingError(f"Expected a model as name, name/version or name/label. Received: {text!r}.")
        if chosen.isdecimal():
            return cls(name, version=int(chosen))
        return cls(name, label=chosen or None)

    def specify(self, spec: Message) -> None:
        """Fill in a request's ModelSpec."""
        spec.name = self.name
        if self.version is not None:
            spec.version.value = self.version
        if self.label is not None:
            spec.version_label = self.label


@dataclass(frozen=True)
class Prediction:
    """The answer to images.

    Attributes:
        probabilities: (batch, scale * height, scale * width, 1), float32, or uint8 by the signature of that name; with
            the uncertainty as a second feature where it was asked for.
        version: of the model that answered.
    """

    probabilities: np.ndarray
    version: int


@dataclass(frozen=True)
class Description:
    """What a served model says of itself.

    Attributes:
        band_names: the bands it takes, in order; None where it does not name them.
        scale: how many times finer its answer is than the images.
    """

    band_names: tuple[str, ...] | None
    scale: int


@dataclass(frozen=True)
class Tensor:
    """An input or output of a signature.

    Attributes:
        dtype: as NumPy names it, or "string".
        shape: with -1 for any size; None for any shape.
    """

    dtype: str
    shape: tuple[int, ...] | None

    def __str__(self) -> str:
        sizes = "..." if self.shape is None else ", ".join("?" if size < 0 else str(size) for size in self.shape)
        return f"{self.dtype} [{sizes}]"


@dataclass(frozen=True)
class Signature:
    """One way of asking a model.

    Attributes:
        inputs: by name.
        outputs: by name.
    """

    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]


@dataclass(frozen=True)
class VersionStatus:
    """The state of one version of a model.

    Attributes:
        version: its number.
        state: START, LOADING, AVAILABLE, UNLOADING, END or UNKNOWN.
        error: why it failed; empty where it did not.
    """

    version: int
    state: str
    error: str


def predict(
    model: Model,
    images: np.ndarray,
    num_frames: np.ndarray | None = None,
    signature: str = "serving_default",
    uncertainty: bool = False,
) -> Call[Prediction]:
    """Ask for probabilities; the arguments are those of `Client.predict`."""
    return _prediction(model, signature, _inputs(images, num_frames), uncertainty)


def predict_with_means(
    model: Model, images: np.ndarray, num_frames: np.ndarray | None, means: Means, uncertainty: bool = False
) -> Call[Prediction]:
    """Ask for probabilities with the means of a scene; the arguments are those of `Client.predict_with_means`."""
    inputs = _inputs(images, num_frames)
    given = {"block_means": means.blocks, "frame_means": means.frames}
    return _prediction(model, "with_means", {**inputs, **given}, uncertainty)


def find_means(model: Model, images: np.ndarray, num_frames: np.ndarray | None = None) -> Call[Means]:
    """Ask for the means of tiles; the arguments are those of `Client.find_means`."""

    def read(response: Message) -> Means:
        return Means(_output(response, "block_means"), _output(response, "frame_means"))

    return Call(PREDICT, _request(model, "means", _inputs(images, num_frames)), read)


def _inputs(images: np.ndarray, num_frames: np.ndarray | None) -> dict[str, np.ndarray]:
    if not isinstance(images, np.ndarray) or images.dtype != np.uint16 or images.ndim != 5:
        raise ServingError(
            "Expected images as uint16 digital numbers of shape (batch, time, height, width, bands). "
            f"Received: {_kind(images)}."
        )
    if num_frames is None:
        num_frames = np.full(len(images), images.shape[1])
    counts = np.asarray(num_frames)
    if counts.dtype.kind not in "iu" or counts.shape != (len(images),):
        raise ServingError(
            f"Expected num_frames as integers of shape ({len(images)},), one per sample. Received: {_kind(counts)}."
        )
    return {"images": images, "num_frames": counts.astype(np.int32)}


def _prediction(model: Model, signature: str, inputs: dict[str, np.ndarray], uncertainty: bool) -> Call[Prediction]:
    names = ["probabilities", *["uncertainty"] * uncertainty]
    request = _request(model, signature, inputs)
    # A model with uncertainty would send it unasked, and so twice the bytes.
    request.output_filter.extend(names)

    def read(response: Message) -> Prediction:
        answers = [_output(response, name) for name in names]
        answer = np.concatenate(answers, axis=-1) if uncertainty else answers[0]
        return Prediction(answer, response.model_spec.version.value)

    return Call(PREDICT, request, read)


def describe(model: Model) -> Call[Description]:
    """Ask for the model's bands and scale."""

    def read(response: Message) -> Description:
        names = tuple(name.decode() for name in _output(response, "bands")[0])
        return Description(names or None, int(_output(response, "scale")[0]))

    return Call(PREDICT, _request(model, "describe", {"request": np.zeros(1, np.int32)}), read)


def metadata(model: Model) -> Call[dict[str, Signature]]:
    """Ask for the model's signatures by name."""
    request = GET_MODEL_METADATA.request(metadata_field=["signature_def"])
    model.specify(request.model_spec)

    def read(response: Message) -> dict[str, Signature]:
        signatures = message_class("tensorflow.serving.SignatureDefMap")()
        try:
            signatures.ParseFromString(response.metadata["signature_def"].value)
        except DecodeError as error:
            raise ServingError(f"The server's signatures cannot be read: {error}.") from error
        return {
            name: Signature(_tensors(signature.inputs), _tensors(signature.outputs))
            for name, signature in sorted(signatures.signature_def.items())
            # TensorFlow's own ones, which nobody can ask for.
            if not name.startswith("__")
        }

    return Call(GET_MODEL_METADATA, request, read)


def status(model: Model) -> Call[list[VersionStatus]]:
    """Ask for the state of every version that the server knows, or of the one asked for."""
    request = GET_MODEL_STATUS.request()
    model.specify(request.model_spec)

    def read(response: Message) -> list[VersionStatus]:
        return [
            VersionStatus(version.version, _state(version), version.status.error_message)
            for version in sorted(response.model_version_status, key=lambda version: version.version)
        ]

    return Call(GET_MODEL_STATUS, request, read)


def _request(model: Model, signature: str, inputs: dict[str, np.ndarray]) -> Message:
    request = PREDICT.request()
    model.specify(request.model_spec)
    request.model_spec.signature_name = signature
    for name, array in inputs.items():
        fill_tensor(request.inputs[name], array)
    return request


def _output(response: Message, name: str) -> np.ndarray:
    if name not in response.outputs:
        names = ", ".join(sorted(response.outputs)) or "none"
        raise ServingError(f"Expected an answer named {name}, as models of spinet_tf give. Received: {names}.")
    return read_tensor(response.outputs[name])


def _tensors(infos: Mapping[str, Message]) -> dict[str, Tensor]:
    return {name: Tensor(dtype_name(info.dtype), _shape(info.tensor_shape)) for name, info in sorted(infos.items())}


def _shape(shape: Message) -> tuple[int, ...] | None:
    return None if shape.unknown_rank else tuple(dim.size for dim in shape.dim)


def _state(status: Message) -> str:
    value = status.DESCRIPTOR.enum_types_by_name["State"].values_by_number.get(status.state)
    return "UNKNOWN" if value is None else value.name


def _kind(value: object) -> str:
    return f"{value.dtype} of shape {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
