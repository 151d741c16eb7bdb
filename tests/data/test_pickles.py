"""Pickles of dates and boxes are read; every other pickle is refused before anything of it runs."""

import builtins
import datetime
import os
import pickle

import dateutil.tz
import numpy as np
import pytest

from spinet_tf.data.pickles import LARGEST_PICKLE, load_pickle
from spinet_tf.errors import SpinetError

DATES = [datetime.datetime(2019, 3, 1, 10, 4, 31), datetime.datetime(2019, 8, 31, 9, 54, 1, 250)]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("zone", [None, datetime.UTC, datetime.timezone(datetime.timedelta(hours=2))])
def test_dates_of_every_protocol(protocol, zone):
    dates = [date.replace(tzinfo=zone) for date in DATES]
    assert load_pickle(pickle.dumps(dates, protocol), "timestamp.pkl") == dates


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_dates_in_dateutil_utc(protocol):
    dates = [date.replace(tzinfo=dateutil.tz.tzutc()) for date in DATES]
    read = load_pickle(pickle.dumps(dates, protocol), "timestamp.pkl")
    assert read == dates
    assert [date.utcoffset() for date in read] == [datetime.timedelta(0)] * 2


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(("module", "attribute"), [("sentinelhub.geometry", "_crs"), ("sentinelhub.common", "crs")])
def test_boxes_of_every_release(sentinelhub, protocol, module, attribute):
    box = load_pickle(sentinelhub(module, attribute, protocol), "bbox.pkl")
    assert (box.min_x, box.min_y, box.max_x, box.max_y) == (500000, 5100000, 500050, 5100040)
    assert getattr(box, attribute).value == "32633"


def test_stand_ins_are_made_anew(sentinelhub):
    first, second = (type(load_pickle(sentinelhub(), "bbox.pkl")) for _ in range(2))
    assert first is not second


class Call:
    """Pickles as a call of any function."""

    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


@pytest.fixture
def witness(tmp_path, monkeypatch):
    """A file that every payload tries to make, and a check that none did."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "ran"
    yield path
    assert not path.exists(), "a payload was run"


def by_hand(*lines: str) -> bytes:
    """A pickle of protocol 0 or 1, which is text."""
    return "".join(lines).encode()


def hostile_pickles(path):
    code = f"open({str(path)!r}, 'w')"
    touch = f"touch {path}"
    yield "system", pickle.dumps(Call(os.system, touch))
    yield "builtins.eval", pickle.dumps(Call(eval, code))
    yield "builtins.exec", pickle.dumps([DATES[0], {"deep": (Call(exec, code),)}])
    yield "io.open", pickle.dumps(Call(open, str(path), "w"))
    yield "builtins.getattr", pickle.dumps(Call(getattr, Call(__import__, "os"), "system"))
    yield "builtins.__import__", pickle.dumps(Call(__import__, "os"))
    # Dotted names reach into modules from protocol 4 on.
    for name in ("datetime.fromtimestamp", "sys.modules", "datetime.__reduce_ex__", "datetime.now.__self__"):
        text = name.encode()
        yield f"datetime.{name}", b"\x80\x04\x8c\x08datetime\x8c" + bytes([len(text)]) + text + b"\x93."
    # The old opcodes GLOBAL, INST and OBJ, and Python 2's names.
    yield "posix.system", by_hand("cposix\nsystem\n(S'", touch, "'\ntR.")
    yield "os.system", by_hand("(S'", touch, "'\nios\nsystem\n.")
    yield "os.popen", by_hand("(cos\npopen\nS'", touch, "'\no.")
    yield "__builtin__.eval", by_hand("c__builtin__\neval\n(V", code, "\ntR.")
    # Admitted modules, names that are not.
    yield "datetime.sys", by_hand("cdatetime\nsys\n.")
    yield "copyreg.add_extension", by_hand("ccopyreg\nadd_extension\n.")
    yield "copyreg.__newobj__", by_hand("ccopyreg\n__newobj__\n.")
    yield "sentinelhub.geometry.shapely", by_hand("csentinelhub.geometry\nshapely\n.")
    yield "sentinelhub.constants.pyproj", by_hand("csentinelhub.constants\npyproj\n.")
    yield "numpy", pickle.dumps(np.arange(3))


HOSTILE = [name for name, _ in hostile_pickles("ran")]


@pytest.mark.parametrize("index", range(len(HOSTILE)), ids=HOSTILE)
def test_refuses_and_runs_nothing(witness, index, monkeypatch):
    name, data = list(hostile_pickles(witness))[index]
    with monkeypatch.context() as patch:
        # The names would not even be looked up.
        patch.setattr(builtins, "__import__", lambda *arguments, **keywords: pytest.fail("something was imported"))
        with pytest.raises(SpinetError, match="was refused: its pickle asks for") as caught:
            load_pickle(data, "bbox.pkl")
    assert name in str(caught.value)
    assert str(caught.value).startswith("bbox.pkl")


def reconstruct(cls: str, base: str, state: str) -> bytes:
    return by_hand("ccopyreg\n_reconstructor\n(c", cls, "\nc", base, "\n", state, "tR.")


BOX, OBJECT, NONE = "sentinelhub.geometry\nBBox", "builtins\nobject", "N"


@pytest.mark.parametrize(
    ("data", "match"),
    [
        pytest.param(reconstruct("datetime\ntimedelta", OBJECT, NONE), "may only make a BBox", id="reconstruct others"),
        pytest.param(
            reconstruct(BOX, "datetime\ntimedelta", NONE), "may only make a BBox", id="reconstruct from others"
        ),
        pytest.param(reconstruct(BOX, OBJECT, "I1\n"), "may only make a BBox", id="reconstruct with a state"),
        pytest.param(by_hand("c_codecs\nencode\n(Vtext\nVrot13\ntR."), "may only encode latin1", id="encode"),
        pytest.param(by_hand("P123\n."), "persistent", id="persistent id"),
        pytest.param(b"\x82\x01.", "extension", id="extension"),
        pytest.param(b"", "pickle exhausted", id="empty"),
        pytest.param(b"not a pickle", "", id="text"),
        pytest.param(pickle.dumps(DATES)[:-20], "", id="truncated"),
        pytest.param(b"\x80\x04Nr\xff\xff\xff\x7f.", "memo number is larger than the file", id="memo of 16 GiB"),
        pytest.param(b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x0f.", "", id="text of an exabyte"),
    ],
)
def test_broken_pickles(data, match):
    with pytest.raises(SpinetError, match=rf"^timestamp\.pkl is not a readable pickle.*{match}"):
        load_pickle(data, "timestamp.pkl")


def test_protected_functions_cannot_be_changed():
    """BUILD may set attributes; what it sets on an admitted class is gone with the pickle."""
    data = by_hand("csentinelhub.geometry\nBBox\n(N(dVmin_x\nVforged\nstb.")
    assert load_pickle(data, "bbox.pkl").min_x == "forged"
    assert not hasattr(load_pickle(by_hand("csentinelhub.geometry\nBBox\n."), "bbox.pkl"), "min_x")
    with pytest.raises(SpinetError, match="not a readable pickle"):
        load_pickle(by_hand("cdatetime\ndatetime\n(N(dVmin\nVforged\nstb."), "timestamp.pkl")
    assert datetime.datetime.min.year == 1


def test_size_is_bounded():
    with pytest.raises(SpinetError, match="more than 1048576 bytes"):
        load_pickle(pickle.dumps("a" * LARGEST_PICKLE), "timestamp.pkl")
