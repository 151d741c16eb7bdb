"""The one error class for bad input."""


class SpinetError(ValueError):
    """Input that cannot be used: a file, a configuration, a request or a model.

    The message says what was expected, what came and what to do; commands print it without a traceback.
    """
