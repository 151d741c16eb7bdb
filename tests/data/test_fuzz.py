"""A few cases of the fuzzer, always the same; `python -m tests.fuzz` runs as many as wished."""

import signal
import subprocess
import time

import numpy as np
import pytest

from spinet_tf.errors import SpinetError
from tests import fuzz as fuzzer
from tests.fuzz import PASSED, Breach, Result, fuzz, main, table
from tests.fuzz_mutations import mutated
from tests.fuzz_sources import KINDS, Kind

SCENES = [kind for kind in KINDS if ".keras" not in kind]


@pytest.mark.slow
@pytest.mark.parametrize(("kinds", "count"), [(SCENES, 20), ([".keras"], 10)])
def test_damaged_files_open_or_are_refused(kinds, count):
    results = list(fuzz([(kind, case) for kind in kinds for case in range(count)], seed=1))
    assert [result for result in results if result.outcome not in PASSED] == []
    assert len(results) == count * len(kinds)
    # Some of the damage is noticed, and some is not.
    assert {result.outcome for result in results} == set(PASSED)


def test_mutations_change_data_and_repeat_themselves():
    data = b'{"shape": [12, 34], "name": "bands"}' * 3
    for case in range(300):
        first, second = (mutated(data, np.random.default_rng(case)) for _ in range(2))
        assert first == second != data


class TestTheFuzzerItself:
    """It would notice each thing that may go wrong."""

    @pytest.fixture
    def outcome(self, monkeypatch, tmp_path):
        def outcome(reader):
            monkeypatch.setitem(KINDS, "made", Kind(lambda folder: folder, ("*",), reader))
            return fuzzer._outcome("made", tmp_path, 1024)[0]

        return outcome

    def test_outcomes(self, outcome):
        def refuse(path):
            raise SpinetError("no")

        def refuse_for_want_of_memory(path):
            try:
                np.empty(1 << 40, "uint8")
            except MemoryError as error:
                raise SpinetError("no") from error

        def fail(path):
            raise KeyError("no")

        assert outcome(lambda path: None) == "opened"
        assert outcome(refuse) == "refused"
        assert outcome(refuse_for_want_of_memory) == "memory"
        assert outcome(fail) == "KeyError"

    def test_memory_that_is_used(self, outcome, monkeypatch):
        peaks = iter([100, 5000])
        monkeypatch.setattr(fuzzer, "_peak", lambda: next(peaks))
        assert outcome(lambda path: None) == "memory"

    @pytest.mark.parametrize(
        "event",
        [
            ("os.system", ("true",)),
            ("subprocess.Popen", ("true", ["true"], None, None)),
            ("open", ("/etc/passwd", "w", 0)),
        ],
    )
    def test_what_no_reader_may_do(self, event, monkeypatch):
        fuzzer._watch(*event)  # out of a case
        monkeypatch.setattr(fuzzer, "_watching", True)
        with pytest.raises(Breach, match=event[0]):
            fuzzer._watch(*event)
        fuzzer._watch("open", ("/etc/passwd", "r", 0))

    @pytest.fixture
    def children(self, monkeypatch):
        """Children that are small shell scripts, one after the other."""

        def give(*scripts):
            waiting = iter(scripts)
            actual = subprocess.Popen
            monkeypatch.setattr(
                "subprocess.Popen", lambda command, **options: actual(["/bin/sh", "-c", next(waiting)], **options)
            )

        return give

    def test_crashes_and_hangs_are_told_by_their_case(self, children):
        begin = """echo '["a", {0}]';"""
        end = """echo '["a", {0}]'; echo '["a", {0}, "opened", ""]';"""
        children(
            end.format(0) + begin.format(1) + "kill -SEGV $$",
            begin.format(2) + "exec sleep 60",
            end.format(3),
        )
        monotonic = time.monotonic()
        results = list(fuzz([("a", case) for case in range(4)], seconds=0.2))
        assert [result.outcome for result in results] == ["opened", "crashes", "hangs", "opened"]
        assert [result.case for result in results] == [0, 1, 2, 3]
        assert results[1].said.startswith(f"{-signal.SIGSEGV}: ")
        assert time.monotonic() - monotonic < 30

    def test_a_source_that_cannot_be_opened_before_it_is_damaged(self, children):
        children("echo broken >&2; exit 3")
        with pytest.raises(SpinetError, match="a cannot be opened before it is damaged: 3: broken"):
            list(fuzz([("a", 0)]))

    def test_table(self):
        results = [
            Result("NetCDF", n, outcome, "") for n, outcome in enumerate(["opened", "refused", "refused", "hangs"])
        ]
        assert table(results).splitlines()[1].split() == ["NetCDF", "4", "1", "2", "1", "hangs"]
        assert table(results[:1]).endswith("none")

    def test_command(self, monkeypatch, capsys):
        asked = []

        def fake(cases, seed, seconds, megabytes):
            asked.append((list(cases), seed, seconds, megabytes))
            return iter([Result("GeoTIFF", 7, "crashes", "why")])

        monkeypatch.setattr(fuzzer, "fuzz", fake)
        assert main(["--kind", "GeoTIFF", "--first", "7", "--count", "1", "--seed", "5"]) == 1
        assert asked == [([("GeoTIFF", 7)], 5, 20, 1024)]
        assert "GeoTIFF 7: crashes: why" in capsys.readouterr().out
