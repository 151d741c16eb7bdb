"""Dates and bounding boxes from the pickles of old EOPatches, without running what a pickle says."""

import datetime
import io
import pickle
import pickletools
from typing import Any

from spinet_tf.errors import SpinetError

# Two thousand dates take 40 kB; a box takes 200 bytes.
LARGEST_PICKLE = 1 << 20


def load_pickle(data: bytes, source: str) -> Any:
    """Read a pickle of datetimes or of a sentinelhub `BBox`, and refuse every other one.

    A pickle is a program: it names functions and calls them. This reader admits exactly the names below, in the module
    paths of all sentinelhub releases, and calls nothing else, so an untrusted file can at worst be refused.

    - `datetime.datetime`, `date`, `timedelta`, `timezone`, and `dateutil.tz.tz.tzutc`, which sentinelhub attached to
      the dates that it downloaded;
    - `sentinelhub` `BBox` and `CRS`: replaced by empty stand-ins, sentinelhub is not needed;
    - `copyreg._reconstructor`, `object` and `_codecs.encode`, with which pickle protocols 0 to 2 wrap the former:
      replaced by functions that can only make a stand-in, or turn text into bytes.

    Args:
        data: the pickle, already decompressed, at most 1 MiB.
        source: the file it came from, for messages.

    Returns:
        Lists, tuples and dicts of numbers, text and `datetime` objects; a `BBox` becomes an object with the
        attributes min_x, min_y, max_x, max_y and `_crs` (`crs` in sentinelhub 2), and a CRS an object whose `value`
        is the EPSG code.

    Raises:
        SpinetError: if the pickle names anything else, is broken, or is larger than a megabyte.

    Example:
        >>> load_pickle(pickle.dumps([datetime.datetime(2019, 3, 1)]), "timestamp.pkl")
        [datetime.datetime(2019, 3, 1, 0, 0)]

    Reference:
        https://docs.python.org/3/library/pickle.html#restricting-globals
        https://github.com/sentinel-hub/sentinelhub-py/blob/master/sentinelhub/geometry.py
    """
    if len(data) > LARGEST_PICKLE:
        raise SpinetError(f"{source} holds a pickle of more than {LARGEST_PICKLE} bytes: not dates or a bounding box.")
    try:
        _check_memo(data)
        return _Unpickler(data, source).load()
    except SpinetError:
        raise
    except Exception as error:  # a broken pickle may raise anything at all
        raise SpinetError(f"{source} is not a readable pickle of dates or a bounding box: {error}") from error


class _Unpickler(pickle.Unpickler):
    """Looks every name up in a fixed table."""

    def __init__(self, data: bytes, source: str):
        super().__init__(io.BytesIO(data))
        self.source = source
        self.admitted = _admitted_names()

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self.admitted[module, name]
        except KeyError:
            raise SpinetError(
                f"{self.source} was refused: its pickle asks for {module}.{name}, and only dates and a sentinelhub "
                "BBox are read from pickles. Nothing of it was run. If you trust the file, save the EOPatch again "
                "with eo-learn 1.0 or later, which writes JSON."
            ) from None


def _admitted_names() -> dict[tuple[str, str], Any]:
    """The table, with stand-in classes made anew: what a pickle sets on one is gone with the pickle."""

    class Object:
        """For `object`."""

    class BBox(Object):
        """For `sentinelhub.BBox`: attributes come from the pickle."""

    class CRS(Object):
        """For the enum `sentinelhub.CRS`, which pickles as a call with its value."""

        def __init__(self, value: str):
            self.value = value

    class UTC(datetime.tzinfo):
        """For dateutil's `tzutc`."""

        def utcoffset(self, when):
            return datetime.timedelta(0)

        tzname = dst = utcoffset

    def reconstructor(cls: type, base: type, state: None) -> Any:
        if cls not in (BBox, UTC) or base is not Object or state is not None:
            raise ValueError("copyreg._reconstructor may only make a BBox or a UTC time zone")
        return cls()

    def encode(text: str, encoding: str) -> bytes:
        if encoding != "latin1":
            raise ValueError("_codecs.encode may only encode latin1")
        return text.encode("latin1")

    return {
        ("datetime", "datetime"): datetime.datetime,
        ("datetime", "date"): datetime.date,
        ("datetime", "timedelta"): datetime.timedelta,
        ("datetime", "timezone"): datetime.timezone,
        ("dateutil.tz.tz", "tzutc"): UTC,
        ("sentinelhub.geometry", "BBox"): BBox,
        ("sentinelhub.common", "BBox"): BBox,  # before 2.5
        ("sentinelhub.constants", "CRS"): CRS,
        # Protocols 0 to 2 write the names of Python 2.
        ("copy_reg", "_reconstructor"): reconstructor,
        ("copyreg", "_reconstructor"): reconstructor,
        ("__builtin__", "object"): Object,
        ("builtins", "object"): Object,
        ("_codecs", "encode"): encode,
    }


def _check_memo(data: bytes) -> None:
    """Refuse memo numbers that no honest pickle has: the C unpickler allocates a table as long as the largest."""
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(argument or 0) > len(data):
            raise ValueError("a memo number is larger than the file")
