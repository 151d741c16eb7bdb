"""The one error class for bad input, and how commands report it."""

import functools
import sys
from collections.abc import Callable


class SpinetError(ValueError):
    """Input that cannot be used: a file, a configuration, a request or a model.

    The message says what was expected, what came and what to do; commands print it without a traceback.
    """


def reports_errors(main: Callable[..., int | None]) -> Callable[..., int]:
    """Decorate the `main` of a command: a `SpinetError` becomes one line on stderr and exit code 1, Ctrl-C 130."""

    @functools.wraps(main)
    def wrapper(*args, **kwargs) -> int:
        try:
            return main(*args, **kwargs) or 0
        except SpinetError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130

    return wrapper
