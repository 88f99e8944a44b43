import gc
import os
import pty
import signal
import subprocess
import sys
import threading

import pytest

from jaxconv.runs.signals import HungUp, Interrupts, Terminated


@pytest.fixture(autouse=True)
def handlers_stay():
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    yield
    assert [signal.getsignal(number) for number in numbers] == before


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (signal.SIGINT, KeyboardInterrupt),
        (signal.SIGTERM, Terminated),
        (signal.SIGHUP, HungUp),
    ],
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

    with Interrupts() as interrupts, pytest.raises(kind) as caught:
        held(interrupts)
    assert reached == [number]
    assert getattr(caught.value, "exit_code", 130) == 128 + number


@pytest.mark.parametrize(
    "waiting",
    [
        [signal.SIGTERM],
        [signal.SIGHUP, signal.SIGHUP, signal.SIGTERM],  # a terminal closes, then a logout
        [signal.SIGTERM, signal.SIGHUP],
    ],
)
def test_the_second_signal_does_not_wait(waiting):
    reached = []

    def held(interrupts):
        with interrupts.held():
            for number in (*waiting, signal.SIGINT):
                signal.raise_signal(number)
                reached.append(number)

    with Interrupts() as interrupts, pytest.raises(Terminated) as caught:
        held(interrupts)
    assert reached == waiting
    assert caught.type is Terminated


@pytest.mark.parametrize("terminal", [False, True])
def test_who_prints_to_a_reader_that_the_signal_ended_still_saves(terminal, tmp_path):
    """A terminal that was closed, and a `tee` that Ctrl-C or SIGHUP ended as well."""
    path = tmp_path / "saved"
    code = (
        "import time; from pathlib import Path; from jaxconv.runs import exit_codes\n"
        "from jaxconv.runs.signals import Interrupts\n"
        "with exit_codes(), Interrupts() as interrupts, interrupts.held():\n"
        "    print('ready', flush=True)\n"
        "    while not interrupts.pending: time.sleep(0.01)\n"
        "    print('an epoch', flush=True)\n"
        f"    Path({str(path)!r}).write_text('all')\n"
    )
    reader, writer = pty.openpty() if terminal else os.pipe()
    process = subprocess.Popen([sys.executable, "-c", code], stdout=writer, stderr=writer)
    os.close(writer)
    assert os.read(reader, 5) == b"ready"
    os.close(reader)
    process.send_signal(signal.SIGHUP)  # to a terminal's own processes the kernel sends it
    assert process.wait(timeout=60) == 129
    assert path.read_text() == "all"


def test_a_signal_in_a_callback_of_the_garbage_collector_waits():
    """Python would print an exception there and drop it; JAX has such a callback."""

    def send():
        signal.raise_signal(signal.SIGINT)

    def callback(phase, _):
        if phase == "start":
            send()  # not only the callback's own frame

    with Interrupts() as interrupts:
        gc.callbacks.append(callback)
        try:
            gc.collect()
        finally:
            gc.callbacks.remove(callback)
        assert interrupts.pending == signal.SIGINT
        with pytest.raises(KeyboardInterrupt), interrupts.held():
            pass


def test_an_ignored_signal_stays_ignored_as_under_nohup():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupts() as interrupts, interrupts.held():
            signal.raise_signal(signal.SIGHUP)
            assert interrupts.pending is None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_another_thread_goes_without():
    done = []

    def work():
        with Interrupts() as interrupts, interrupts.held():
            done.append(interrupts.pending)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [None]
