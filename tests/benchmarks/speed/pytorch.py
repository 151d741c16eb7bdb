"""The peer in PyTorch: shown to be equal, and timed.

Variants: "contiguous" and "channels_last", the layout of what it computes with, each also as "... compiled".
"""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from tests.benchmarks.speed.network import Peer, copy_weights
from tests.benchmarks.speed.spec import TASKS, Spec

LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last_3d}
LEARNING_RATE = 1e-4
TOLERANCE = 1e-4


def build(spec: Spec) -> Peer:
    """The network with our weights."""
    peer = Peer(**spec.network)
    with np.load(Path(spec.folder) / "weights.npz", allow_pickle=False) as weights:
        copy_weights(peer, dict(weights))
    return peer


def prove_equal(spec: Spec) -> dict[str, float]:
    """How far it is from our network's answers, for inference and in training, in standard deviations of them.

    Raises:
        ValueError: if it is too far.
    """
    distances = {}
    with np.load(Path(spec.folder) / "answers.npz", allow_pickle=False) as answers:
        for task in TASKS:
            peer = build(spec).train(task == "step")
            with torch.no_grad():
                logits = peer(torch.from_numpy(answers["images"]).permute(0, 4, 1, 2, 3)).permute(0, 2, 3, 1)
            expected = answers[task]
            distances[task] = float(np.abs(logits.numpy() - expected).max() / expected.std())
    if not max(distances.values()) <= TOLERANCE:
        raise ValueError(f"The peer differs from our network, in standard deviations: {distances}")
    return distances


def faster_layout(spec: Spec) -> str:
    """The layout in which the task of `spec` is faster here."""
    seconds = {}
    for layout in LAYOUTS:
        run = prepare(spec.with_(variant=layout))
        for _ in range(3):
            started = time.perf_counter()
            run()
            seconds[layout] = min(time.perf_counter() - started, seconds.get(layout, np.inf))
    return min(seconds, key=lambda layout: seconds[layout])


def prepare(spec: Spec) -> Callable[[], object]:
    """The forward pass, or a step of training."""
    layout, _, compile_ = spec.variant.partition(" ")
    device = torch.device("cuda" if spec.gpu else "cpu")
    # As JAX does where it is not told otherwise; it changes nothing on a CPU.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    peer = build(spec).train(spec.task == "step").to(device)
    for parameter in peer.parameters():
        if parameter.ndim == 5:
            parameter.data = parameter.data.contiguous(memory_format=LAYOUTS[layout])
    images = torch.rand(spec.images_shape).permute(0, 4, 1, 2, 3).contiguous(memory_format=LAYOUTS[layout]).to(device)
    labels = torch.randint(0, 2, spec.labels_shape).permute(0, 3, 1, 2).to(device, torch.float32)
    optimizer = torch.optim.Adam(peer.parameters(), LEARNING_RATE)
    network = torch.compile(peer) if compile_ else peer

    def lower():
        return torch.autocast(device.type, torch.bfloat16, enabled=spec.precision == "bfloat16")

    def forward():
        with torch.inference_mode(), lower():
            return network(images)

    def step():
        optimizer.zero_grad()
        with lower():
            logits = network(images)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits.float(), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    run = forward if spec.task == "forward" else step
    if not spec.gpu:
        return run

    def run_and_wait():
        run()
        torch.cuda.synchronize()

    return run_and_wait


def peak_bytes() -> int:
    """The most memory that the GPU has held."""
    return torch.cuda.max_memory_allocated()
