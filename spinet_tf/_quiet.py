"""Importing TensorFlow without the lines that it prints on every start."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_import() -> Iterator[None]:
    """Silence the C++ start-up messages of a Keras backend; a user who sets TF_CPP_MIN_LOG_LEVEL=0 sees all of them.

    Since 2.20 TensorFlow prints some before it reads that variable, so the file descriptor itself is turned away while
    the import runs. Python's exceptions and warnings are not affected.
    """
    # TensorFlow reads it later, for messages such as a missing CUDA driver.
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") in ("0", "1"):
        yield
        return
    sys.stderr.flush()
    stderr = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
