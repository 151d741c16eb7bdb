"""How commands end."""

import subprocess
import sys
import warnings

import pytest

from spinet_tf import SpinetError
from spinet_tf.errors import reports_errors


def test_bad_input_is_one_line_and_exit_code_1(capsys):
    @reports_errors
    def main():
        raise SpinetError("Expected a scene. Received: nothing.")

    assert main() == 1
    assert capsys.readouterr().err == "error: Expected a scene. Received: nothing.\n"


def test_an_interrupt_is_exit_code_130():
    @reports_errors
    def main():
        raise KeyboardInterrupt

    assert main() == 130


def test_a_warning_is_one_line(capsys):
    @reports_errors
    def main():
        warnings.simplefilter("always")
        warnings.warn("no dates", stacklevel=1)

    assert main() == 0
    assert capsys.readouterr().err == "warning: no dates\n"


def test_a_bug_keeps_its_traceback():
    @reports_errors
    def main():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        main()


@pytest.mark.slow
def test_a_closed_pipe_is_no_error():
    code = """
import sys
from spinet_tf.errors import reports_errors
@reports_errors
def main():
    for _ in range(100_000):
        print("line")
sys.exit(main())
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 0
