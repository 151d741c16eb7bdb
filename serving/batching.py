"""How requests are put together into batches."""

from dataclasses import dataclass

from spinet_tf.errors import SpinetError


@dataclass(frozen=True)
class Batching:
    """How requests are put together; names, meanings and defaults are TensorFlow Serving's BatchingParameters.

    Attributes:
        max_batch_size: rows that one request may have at most, and one batch too unless large requests are split.
        timeout: seconds that the first request of a batch waits for others.
        max_enqueued_batches: batches that may wait in a queue.
        allowed_sizes: sizes in rows to which batches are filled up, the last one the greatest batch; any when empty.
        pad: whether tensors of different shapes are padded to go into one batch.
        max_execution_batch_size: rows of a batch where requests with more are split; None where they are not.

    Raises:
        SpinetError: for values that TensorFlow Serving refuses.
    """

    max_batch_size: int = 1000
    timeout: float = 0.0
    max_enqueued_batches: int = 10
    allowed_sizes: tuple[int, ...] = ()
    pad: bool = False
    max_execution_batch_size: int | None = None

    def __post_init__(self):
        if self.max_batch_size < 1 or self.timeout < 0 or self.max_enqueued_batches < 1:
            raise SpinetError(
                "Expected max_batch_size and max_enqueued_batches of 1 or more and batch_timeout_micros of 0 or more. "
                f"Received: {self.max_batch_size}, {self.max_enqueued_batches} and {self.timeout * 1e6:g}."
            )
        if not 1 <= self.greatest <= self.max_batch_size:
            raise SpinetError(
                f"Expected max_execution_batch_size from 1 to max_batch_size, {self.max_batch_size}. "
                f"Received: {self.greatest}."
            )
        sizes = self.allowed_sizes
        if sizes and (list(sizes) != sorted(set(sizes)) or sizes[0] < 1 or sizes[-1] != self.greatest):
            raise SpinetError(
                f"Expected allowed_batch_sizes to increase and to end with the greatest batch, {self.greatest}. "
                f"Received: {list(sizes)}."
            )

    @property
    def greatest(self) -> int:
        """Rows of the greatest batch."""
        return self.max_execution_batch_size or self.max_batch_size

    def filled(self, count: int) -> int:
        """Rows of the batch that runs for `count` rows of requests."""
        return next((size for size in self.allowed_sizes if size >= count), count)
