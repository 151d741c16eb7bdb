"""Groups of tiles as tasks on a dask cluster."""

import pickle
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING

import keras
import xarray as xr

from spinet_tf.errors import SpinetError
from spinet_tf.inference.engine import Engine, as_engine
from spinet_tf.inference.groups import TileGroup
from spinet_tf.inference.parts import Part
from spinet_tf.inference.predicting import predict_group
from spinet_tf.inference.recipe import Recipe
from spinet_tf.inference.running import Outcome
from spinet_tf.inference.windows import Unread, UnreadableError, read_window, unread_window

if TYPE_CHECKING:
    from distributed import Client

RETRIES = 3
# Seconds to find the scheduler, and then a worker.
PATIENCE = 30


@contextmanager
def connected(cluster: "str | Client") -> "Iterator[Client]":
    """The client of a cluster: a new one for an address, closed at the end; or the one given.

    Raises:
        SpinetError: if there is no scheduler at the address, or it has no workers.
    """
    from distributed import Client

    if not isinstance(cluster, str):
        yield cluster
        return
    try:
        client = Client(cluster, timeout=PATIENCE, set_as_default=False)
    except (OSError, ValueError) as error:
        raise SpinetError(
            f"Expected the address of a dask scheduler, such as tcp://127.0.0.1:8786. None answers at {cluster}: "
            f"{error}. Start one with `dask scheduler`, and workers with `dask worker ADDRESS`."
        ) from error
    with client:
        yield client


def run_on(
    client: "Client",
    scene: xr.Dataset,
    groups: Sequence[TileGroup],
    recipe: Recipe,
    model: keras.Model | Engine | str,
    advance: Callable[[int], None],
) -> Iterator[Outcome]:
    """Compute the parts of some groups on a cluster, as they come.

    A worker opens the model once. Few more groups are under way than there are threads, so memory stays bounded. What
    fails is tried again, on another worker where one died.

    Args:
        client: of the cluster.
        scene: with the model's bands only; the workers must reach its files.
        groups: of tiles.
        recipe: how the map is made.
        model: what `open_engine` opens, there on every worker; or a model or an engine, which is sent to them.
        advance: told how many more tiles are done.

    Yields:
        Each group with its part, or with why it cannot be read.

    Raises:
        SpinetError: if the engine fails, or the cluster has no workers.
    """
    import cloudpickle
    import dask
    from distributed import KilledWorker, as_completed

    # Each thread has one to compute, and one more is on its way.
    at_once = 2 * _threads(client)
    sent = model if isinstance(model, str) else cloudpickle.dumps(model)
    waiting = iter(groups)
    under_way: dict = {}

    def submit(group: TileGroup):
        # Only what this window needs of a large scene's graph goes there.
        window = unread_window(scene, recipe, group)
        bands, valid = dask.optimize(window.bands, window.valid)
        unread = window._replace(bands=bands, valid=valid)
        # Of a scene in memory the window itself goes: to the scheduler, so that no dying worker takes it along.
        with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1GiB"}):
            future = client.submit(_compute, unread, recipe, group, sent, retries=RETRIES, pure=False)
        under_way[future] = group
        return future

    completed = as_completed(loop=client.loop)
    for group in islice(waiting, at_once):
        completed.add(submit(group))
    try:
        for future in completed:
            group = under_way.pop(future)
            outcome: Part | UnreadableError
            try:
                outcome = future.result()
            except UnreadableError as error:
                outcome = error
            except KilledWorker:
                outcome = UnreadableError(f"{group}: all workers that tried it died, for want of memory perhaps")
            future.release()
            for following in islice(waiting, 1):
                completed.add(submit(following))
            advance(len(group.tiles))
            yield group, outcome
    finally:
        client.cancel(list(under_way))


def _threads(client: "Client") -> int:
    """How many threads the cluster has, once it has a worker."""
    try:
        client.wait_for_workers(1, timeout=PATIENCE)
    except TimeoutError as error:
        raise SpinetError(
            f"The dask cluster {client} has no worker. Start some with `dask worker ADDRESS`, the scheduler's."
        ) from error
    return sum(client.nthreads().values())


# === On the workers ===

_engines: dict[str | bytes, Engine] = {}
# Reading goes on in the other threads of a worker; the network has all of its cores for itself.
_one_at_a_time = threading.Lock()


def _compute(unread: Unread, recipe: Recipe, group: TileGroup, model: str | bytes) -> Part:
    # Else the worker would ask the cluster to read.
    window = read_window(unread, recipe, group, scheduler="threads")
    with _one_at_a_time:
        if model not in _engines:
            # From the process that asks for the map, as this function itself.
            _engines[model] = as_engine(model if isinstance(model, str) else pickle.loads(model))  # noqa: S301
        return predict_group(window, recipe, group, _engines[model])
