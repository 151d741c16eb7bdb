"""Progress bars share the screen, and say nothing where there is none."""

import io
import sys

import pytest
from rich.console import Console

from spinet_tf import progress
from spinet_tf.progress import progress_bar, track


@pytest.fixture
def screen(monkeypatch):
    """What a terminal was sent."""
    sent = io.StringIO()
    console = Console(file=sent, force_terminal=True, width=90, color_system=None, legacy_windows=False)
    monkeypatch.setattr("rich.console.Console", lambda **_: console)
    return sent


def test_nothing_is_said_where_there_is_no_terminal(capsys):
    assert list(track(range(3), "Counting")) == [0, 1, 2]
    with progress_bar("Counting", 3) as advance:
        advance(1)
    assert capsys.readouterr() == ("", "")


def test_bars_inside_each_other_are_shown_below_each_other(screen):
    for _ in track(["a", "b"], "Scenes"):
        with progress_bar("Tiles", total=10, done=4) as advance:
            advance(3)
            (display,) = progress._shown
            display.refresh()
            lines = screen.getvalue().splitlines()[-2:]
            assert "Scenes" in lines[0]
            assert "7/10" in lines[1]
    assert progress._shown == []
    assert screen.getvalue().count("\x1b[?25h") == 1  # the cursor comes back once, when all is done


def test_the_time_left_counts_only_what_is_done_now(screen):
    with progress_bar("Tiles", total=100, done=90) as advance:
        (display,) = progress._shown
        (task,) = display.tasks
        assert (task.completed, task.remaining) == (90, 10)
        clock = [0.0]
        display.get_time = lambda: clock[0]
        for _ in range(3):
            clock[0] += 600
            advance(1)
        assert task.time_remaining == 7 * 600


def test_a_bar_goes_when_its_work_fails_or_is_given_up(screen):
    with pytest.raises(ZeroDivisionError), progress_bar("Failing", 1):
        _ = 1 / 0
    items = track(range(5), "Leaving")
    next(items)
    items.close()
    assert progress._shown == []
    assert progress._bars == 0


def test_what_is_printed_reaches_a_file(screen, monkeypatch):
    file = io.StringIO()
    monkeypatch.setattr(sys, "stdout", file)
    for number in track(range(2), "Printing"):
        print(number)
    assert file.getvalue() == "0\n1\n"
