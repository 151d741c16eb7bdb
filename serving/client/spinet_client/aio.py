"""The asynchronous client."""

import asyncio
from typing import Self, TypeVar, Unpack

import grpc
import grpc.aio
import numpy as np

from spinet_client import calls
from spinet_client.attempts import Readiness
from spinet_client.base import CLOSED, BaseClient
from spinet_client.calls import Call, Description, Prediction, Signature, VersionStatus
from spinet_client.errors import ServingError
from spinet_client.scene import MapOptions, Progress, SceneMap
from spinet_client.tiling import Means, Tile, TileRequest

Answer = TypeVar("Answer")


class AsyncClient(BaseClient):
    """`Client` for asyncio: the same arguments, methods, answers and errors, and its methods are awaited.

    It belongs to the event loop in which it is made.

    Example:
        async with AsyncClient("127.0.0.1:8500") as client:
            first, second = await asyncio.gather(client.predict(one), client.predict(another))
    """

    _grpc = grpc.aio

    async def predict(
        self,
        images: np.ndarray,
        num_frames: np.ndarray | None = None,
        signature: str = "serving_default",
        uncertainty: bool = False,
    ) -> np.ndarray:
        """See `Client.predict`."""
        return (await self._ask(calls.predict(self.model, images, num_frames, signature, uncertainty))).probabilities

    async def find_means(self, images: np.ndarray, num_frames: np.ndarray | None = None) -> Means:
        """See `Client.find_means`."""
        return await self._ask(calls.find_means(self.model, images, num_frames))

    async def predict_with_means(
        self, images: np.ndarray, num_frames: np.ndarray | None, means: Means, uncertainty: bool = False
    ) -> np.ndarray:
        """See `Client.predict_with_means`."""
        call = calls.predict_with_means(self.model, images, num_frames, means, uncertainty)
        return (await self._ask(call)).probabilities

    async def describe(self) -> Description:
        """See `Client.describe`."""
        return await self._ask(calls.describe(self.model))

    async def metadata(self) -> dict[str, Signature]:
        """See `Client.metadata`."""
        return await self._ask(calls.metadata(self.model))

    async def status(self) -> list[VersionStatus]:
        """See `Client.status`."""
        return await self._ask(calls.status(self.model))

    async def wait_until_ready(self, timeout: float = 60.0) -> None:
        """See `Client.wait_until_ready`."""
        for server in self.addresses:
            readiness = Readiness(self.model, server, timeout)
            call = calls.status(self.model)
            while True:
                try:
                    found = await self._try(call, server, readiness.remaining)
                except grpc.RpcError as error:
                    found = error
                pause = readiness.after(found)
                if not pause:
                    break
                await asyncio.sleep(pause)

    async def predict_scene(
        self,
        images: np.ndarray,
        valid: np.ndarray | None = None,
        *,
        concurrency: int = 4,
        progress: Progress | None = None,
        **options: Unpack[MapOptions],
    ) -> np.ndarray:
        """See `Client.predict_scene`; `progress` is called in the event loop."""
        scene = SceneMap(images, valid, (await self.describe()).scale, concurrency, progress, **options)

        async def ask(tile: Tile) -> tuple[Tile, TileRequest | None, Prediction | None]:
            request = await asyncio.to_thread(scene.cut, tile)
            if request is None:
                return tile, None, None
            return tile, request, await client._ask(scene.call(self.model, request))

        under_way: set[asyncio.Task] = set()

        def start(tile: Tile) -> asyncio.Task:
            task = asyncio.create_task(ask(tile))
            under_way.add(task)
            return task

        async with self._for_scene() as client:
            if scene.shares_means and "with_means" in await client.metadata():
                for request, sums in scene.sample():
                    sums.add(await client.find_means(request.images[None]), request.frames)
            try:
                for task in scene.ahead(start):
                    scene.add(*await task)
                    under_way.remove(task)
            finally:
                for task in under_way:
                    task.cancel()
                await asyncio.gather(*under_way, return_exceptions=True)
        return scene.finish()

    async def _ask(self, call: Call[Answer]) -> Answer:
        attempts = self._attempts()
        while True:
            try:
                return await self._try(call, attempts.server, attempts.remaining)
            except grpc.RpcError as error:
                pause = attempts.after(error)
            await asyncio.sleep(pause)

    async def _try(self, call: Call[Answer], server: str, timeout: float) -> Answer:
        try:
            return call.read(await self._send(call, server, timeout))
        except asyncio.CancelledError as error:
            # What a closed channel had still to do ends like this too; a task that was cancelled has to stay so.
            task = asyncio.current_task()
            if self._closed.is_set() and task is not None and not task.cancelling():
                raise ServingError(CLOSED) from error
            raise

    async def close(self) -> None:
        """Close the connections; requests under way fail."""
        self._closed.set()
        for channel in self._channels.values():
            await channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception) -> None:
        await self.close()
