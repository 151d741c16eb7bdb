"""A server that answers at once, and both clients behind one interface."""

import asyncio

import pytest
from spinet_client import AsyncClient, Client, attempts

from tests.serving.client.fake import FakeServer


@pytest.fixture
def fake():
    with FakeServer() as server:
        yield server


@pytest.fixture(params=["waiting", "asynchronous"])
def ask(request):
    """Calls a method of a client that is made for it: ask(addresses, "predict", images, client={"timeout": 5})."""

    def wait(addresses, method, *args, client=None, **kwargs):
        with Client(addresses, **(client or {})) as opened:
            return getattr(opened, method)(*args, **kwargs)

    async def run(addresses, method, *args, client=None, **kwargs):
        async with AsyncClient(addresses, **(client or {})) as opened:
            return await getattr(opened, method)(*args, **kwargs)

    return wait if request.param == "waiting" else lambda *args, **kwargs: asyncio.run(run(*args, **kwargs))


@pytest.fixture
def hasty(monkeypatch):
    """Pauses of at most a hundredth of a second."""
    monkeypatch.setattr(attempts, "FIRST_DELAY", 0.001)
    monkeypatch.setattr(attempts, "LONGEST_DELAY", 0.01)
    monkeypatch.setattr(attempts, "POLL", 0.001)
