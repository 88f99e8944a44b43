import gc
import signal
import threading

import pytest

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
