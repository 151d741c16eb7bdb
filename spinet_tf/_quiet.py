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
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL") == "0":
        yield
        return
    # TensorFlow reads it later, for messages such as a missing CUDA driver; it sets 1 itself where nobody has.
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    sys.stderr.flush()
    stderr = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
