"""The client that waits for its answers: NumPy arrays in, NumPy arrays out."""

import functools
from concurrent.futures import ThreadPoolExecutor
from typing import Self, TypeVar, Unpack

import grpc
import numpy as np

from spinet_client import calls
from spinet_client.attempts import Readiness
from spinet_client.base import BaseClient
from spinet_client.calls import Call, Description, Prediction, Signature, VersionStatus
from spinet_client.scene import MapOptions, Progress, SceneMap
from spinet_client.tiling import Means, Tile, TileRequest

Answer = TypeVar("Answer")


class Client(BaseClient):
    """Asks a model behind TensorFlow Serving, or behind this project's local server, for maps. Threads may share it.

    A request is repeated only where the server is gone or overloaded (UNAVAILABLE, RESOURCE_EXHAUSTED): at the next
    server at once, and after a pause, longer each time, once all were asked.

    Args:
        addresses: one "host:port", or several, which take turns and stand in for each other.
        model: the name under which the servers offer the model.
        version: of the model; None for the latest, or the labelled one.
        label: of the version, such as "stable"; None for none.
        timeout: seconds that a request has, repetitions included.
        retries: how often all servers are asked again: 5 times take two to three seconds. None for as often as the
            timeout allows.
        tls: the files of an encrypted connection; None for one in the clear.
        token: sent as "authorization: Bearer TOKEN"; only encrypted, or to this machine.

    Raises:
        ServingError: if an argument cannot be used. Servers are not asked before the first request.

    Example:
        with Client("127.0.0.1:8500") as client:
            probabilities = client.predict(images)
    """

    _grpc = grpc

    def predict(
        self,
        images: np.ndarray,
        num_frames: np.ndarray | None = None,
        signature: str = "serving_default",
        uncertainty: bool = False,
    ) -> np.ndarray:
        """Ask for the probability of cultivated land.

        Args:
            images: (batch, time, height, width, bands) uint16, digital numbers, in the order of `band_names`; 0 is no
                data.
            num_frames: (batch,) integers, how many frames of each sample are real, the first ones; all when None.
            signature: "serving_default" for float32, "uint8" for round(254 p) in a quarter of the bytes.
            uncertainty: whether the standard deviation of the probability is a second feature; only of a model that
                gives it.

        Returns:
            (batch, scale * height, scale * width, 1 or 2), float32 or uint8.

        Raises:
            ServingError: if no server can be reached, or one refuses the request.

        Example:
            client.predict(np.ones((1, 5, 32, 32, 12), np.uint16)).shape  # (1, 128, 128, 1)
        """
        return self._ask(calls.predict(self.model, images, num_frames, signature, uncertainty)).probabilities

    def find_means(self, images: np.ndarray, num_frames: np.ndarray | None = None) -> Means:
        """Ask for the means that the network takes over tiles, by the signature "means"; arguments as in `predict`."""
        return self._ask(calls.find_means(self.model, images, num_frames))

    def predict_with_means(
        self, images: np.ndarray, num_frames: np.ndarray | None, means: Means, uncertainty: bool = False
    ) -> np.ndarray:
        """Ask as `predict` does, by the signature "with_means", with means from elsewhere: of the tiles' scene."""
        return self._ask(calls.predict_with_means(self.model, images, num_frames, means, uncertainty)).probabilities

    @property
    def takes_means(self) -> bool:
        """Whether the model can answer tiles with the means of their scene. Asked once."""
        return "with_means" in self._signatures

    @property
    def gives_uncertainty(self) -> bool:
        """Whether the model says how far its probabilities may be off. Asked once."""
        signature = self._signatures.get("serving_default")
        return signature is not None and "uncertainty" in signature.outputs

    @functools.cached_property
    def _signatures(self) -> dict[str, Signature]:
        return self.metadata()

    def describe(self) -> Description:
        """Ask for the model's bands and scale."""
        return self._ask(calls.describe(self.model))

    @property
    def band_names(self) -> tuple[str, ...] | None:
        """The bands the model takes, in order; None where it does not name them. Asked once."""
        return self._description.band_names

    @property
    def scale(self) -> int:
        """How many times finer the answer is than the images. Asked once."""
        return self._description.scale

    @functools.cached_property
    def _description(self) -> Description:
        return self.describe()

    def metadata(self) -> dict[str, Signature]:
        """Ask for the model's signatures by name: dtypes and shapes of their inputs and outputs."""
        return self._ask(calls.metadata(self.model))

    def status(self) -> list[VersionStatus]:
        """Ask for the state of every version that the server knows, or of the one that the client is for."""
        return self._ask(calls.status(self.model))

    def wait_until_ready(self, timeout: float = 60.0) -> None:
        """Wait until every server has loaded the model.

        Args:
            timeout: seconds for each server.

        Raises:
            ServingError: if one has not within this time, or never will.
        """
        for server in self.addresses:
            readiness = Readiness(self.model, server, timeout)
            call = calls.status(self.model)
            while True:
                try:
                    found = call.read(self._send(call, server, readiness.remaining))
                except grpc.RpcError as error:
                    found = error
                pause = readiness.after(found)
                if not pause:
                    break
                self._closed.wait(pause)

    def predict_scene(
        self,
        images: np.ndarray,
        valid: np.ndarray | None = None,
        *,
        concurrency: int = 4,
        progress: Progress | None = None,
        **options: Unpack[MapOptions],
    ) -> np.ndarray:
        """Ask for the map of a whole scene, tile by tile, equal to what `spinet_tf.predict_scene` makes in process.

        A server that is gone meanwhile is asked again for as long as the timeout of each request allows.

        Args:
            images: (time, height, width, bands) uint16, digital numbers, in the order of `band_names`; 0 is no data.
            valid: (time, height, width) bool, where clear ground was seen; all that holds data when None.
            concurrency: how many requests are under way at most. Memory grows with it, not with the number of tiles.
            progress: called after each tile with how many are done, and how many there are.
            **options: frames, count, max_cloud, tile, overlap, seam_free, means and origin, as in `MapOptions`.

        Returns:
            float32 (scale * height, scale * width), probabilities; NaN where no chosen frame holds data.

        Raises:
            ServingError: if no server can be reached, or one refuses a request.
            SpinetError: if an option is out of range.

        Example:
            client.predict_scene(images, valid, frames="clearest", count=9, progress=lambda done, total: print(done))
        """
        scene = SceneMap(images, valid, self.scale, concurrency, progress, **options)

        def ask(tile: Tile) -> tuple[Tile, TileRequest | None, Prediction | None]:
            request = scene.cut(tile)
            return tile, request, None if request is None else client._ask(scene.call(self.model, request))

        # Left in this order: a closed client ends what the threads wait for.
        with ThreadPoolExecutor(concurrency) as pool, self._for_scene() as client:
            if scene.shares_means and client.takes_means:
                for request, sums in scene.sample():
                    sums.add(client.find_means(request.images[None]), request.frames)
            for answer in scene.ahead(lambda tile: pool.submit(ask, tile)):
                scene.add(*answer.result())
        return scene.finish()

    def _ask(self, call: Call[Answer]) -> Answer:
        attempts = self._attempts()
        while True:
            try:
                return call.read(self._send(call, attempts.server, attempts.remaining))
            except grpc.RpcError as error:
                pause = attempts.after(error)
            self._closed.wait(pause)

    def close(self) -> None:
        """Close the connections; requests under way fail."""
        self._closed.set()
        for channel in self._channels.values():
            channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception) -> None:
        self.close()
