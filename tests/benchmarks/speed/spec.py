"""What is timed: plain data that goes to the processes."""

from dataclasses import dataclass, replace

TASKS = ("forward", "step")
PRECISIONS = ("float32", "bfloat16")

CONFIGURATIONS = {
    "paper": {"filters": 48, "tefa_blocks": 16, "bottleneck": 6},
    "small": {"filters": 16, "tefa_blocks": 2, "bottleneck": 4},
    "tiny": {"filters": 8, "tefa_blocks": 1, "bottleneck": 2},
}
BANDS, SCALE = 12, 4


@dataclass(frozen=True)
class Spec:
    """One thing to be timed.

    Attributes:
        configuration: of the network, a key of `CONFIGURATIONS`.
        folder: where the weights and the ONNX file lie.
        task: "forward", or "step" for a step of training.
        precision: "float32" or "bfloat16".
        batch: patches.
        frames: frames of each.
        size: height and width of each frame.
        blocks: TEFA blocks; None for those of the configuration.
        gpu: whether it runs on a GPU.
        variant: what is special about it; each module says which ones it has.
    """

    configuration: str
    folder: str
    task: str = "forward"
    precision: str = "float32"
    batch: int = 1
    frames: int = 20
    size: int = 32
    blocks: int | None = None
    gpu: bool = False
    variant: str = ""

    @property
    def network(self) -> dict[str, int]:
        """Arguments of the network, `SPInet` or the peer."""
        network = {"bands": BANDS, "scale": SCALE, **CONFIGURATIONS[self.configuration]}
        return network if self.blocks is None else {**network, "tefa_blocks": self.blocks}

    @property
    def images_shape(self) -> tuple[int, ...]:
        return (self.batch, self.frames, self.size, self.size, BANDS)

    @property
    def labels_shape(self) -> tuple[int, ...]:
        return (self.batch, SCALE * self.size, SCALE * self.size, 1)

    def with_(self, **changes) -> "Spec":
        return replace(self, **changes)
