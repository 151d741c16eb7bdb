"""The one error class for bad input, and how commands report it."""

import functools
import os
import sys
import warnings
from collections.abc import Callable

from spinet_tf.tiling.errors import SpinetError

__all__ = ["SpinetError", "reports_errors"]


def reports_errors(main: Callable[..., int | None]) -> Callable[..., int]:
    """Decorate the `main` of a command.

    A `SpinetError` becomes one line on stderr and exit code 1, Ctrl-C exit code 130, a warning one line on stderr; a
    reader that closes the pipe early, such as `head`, ends the command in silence.
    """

    @functools.wraps(main)
    def wrapper(*args, **kwargs) -> int:
        # Inside the context, so that a caller's own way of showing warnings comes back.
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: print(f"warning: {message}", file=sys.stderr)
            try:
                return main(*args, **kwargs) or 0
            except SpinetError as error:
                print(f"error: {error}", file=sys.stderr)
                return 1
            except KeyboardInterrupt:
                print("interrupted", file=sys.stderr)
                return 130
            except BrokenPipeError:
                # The interpreter flushes stdout once more when it ends.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                return 0

    return wrapper
