import signal
import subprocess
import sys
import threading

import pytest

from jaxconv.runs.cli import exit_codes
from jaxconv.runs.signals import Interrupts, Terminated


@pytest.fixture(autouse=True)
def handlers_stay():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    yield
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.parametrize(
    ("number", "kind"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)]
)
def test_a_signal_is_raised_at_once_or_waits_where_it_is_held(number, kind):
    with Interrupts(), pytest.raises(kind):
        signal.raise_signal(number)
    reached = []

    def held(interrupts):
        with interrupts.held():
            signal.raise_signal(number)
            reached.append(interrupts.pending)
        reached.append("after")

    with Interrupts() as interrupts, pytest.raises(kind):
        held(interrupts)
    assert reached == [number]


def test_the_second_signal_does_not_wait():
    reached = []

    def held(interrupts):
        with interrupts.held():
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.raise_signal(number)
                reached.append(number)

    with Interrupts() as interrupts, pytest.raises(Terminated):
        held(interrupts)
    assert reached == [signal.SIGTERM]


def test_what_is_ignored_stays_ignored_as_under_nohup():
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with Interrupts() as interrupts, interrupts.held():
            signal.raise_signal(signal.SIGTERM)
            assert interrupts.pending is None
    finally:
        signal.signal(signal.SIGTERM, before)


def test_another_thread_goes_without():
    done = []

    def work():
        with Interrupts() as interrupts, interrupts.held():
            done.append(interrupts.pending)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [None]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (FloatingPointError("nan"), 1),
        (ValueError("bad"), 2),
        (OSError("bad"), 2),
        (MemoryError(), 2),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes."), 2),
    ],
)
def test_every_end_has_its_exit_code(error, code, capsys):
    with pytest.raises(SystemExit) as stop, exit_codes():
        raise error
    assert stop.value.code == code
    assert capsys.readouterr().err.startswith("error: ")


def test_signals_end_the_process_with_theirs():
    code = (
        "import os\n"
        "from jaxconv.runs.cli import exit_codes; from jaxconv.runs.signals import Terminated\n"
        "for interrupt in (KeyboardInterrupt, Terminated):\n"
        "    if os.fork() == 0:\n"
        "        with exit_codes(): raise interrupt\n"
        "    print(os.waitstatus_to_exitcode(os.wait()[1]))\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["130", "143"]
    assert "Traceback" not in run.stderr


def test_an_error_of_the_program_keeps_its_traceback():
    with pytest.raises(RuntimeError, match="a fault"), exit_codes():
        raise RuntimeError("a fault")
