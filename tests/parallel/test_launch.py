import io
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from jaxconv.parallel.launch import _print, launch, main, process_environment

# Each process is a script without JAX: the launcher does not need it.
RANK = "import os, sys, time, signal; rank = int(os.environ['JAX_PROCESS_ID'])\n"


@pytest.fixture
def run(tmp_path, capsys):
    """Runs a script in several processes; returns exit code, stdout lines and stderr lines."""

    def run(code: str, processes: int = 3, **options) -> tuple[int, list[str], list[str]]:
        path = tmp_path / "script.py"
        path.write_text(RANK + textwrap.dedent(code))
        result = launch([sys.executable, str(path)], processes, **options)
        out, err = capsys.readouterr()
        return result, out.splitlines(), err.splitlines()

    return run


def test_each_line_has_the_number_of_its_process(run):
    code, out, err = run(
        """
        print("first"); print("second", end=""); print("wrong", file=sys.stderr)
        sys.stdout.flush(); os.write(1, b"\\xff\\n")
        """
    )
    assert code == 0
    for rank in range(3):
        assert [x for x in out if x.startswith(f"[{rank}]")] == [
            f"[{rank}] first",
            f"[{rank}] second\N{REPLACEMENT CHARACTER}",
        ]
    assert sorted(err) == [f"[{rank}] wrong" for rank in range(3)]


def test_lines_come_as_they_are_written(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(RANK + "print('here'); time.sleep(60)")
    command = [sys.executable, "-m", "jaxconv.parallel.launch", "--processes", "1", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "[0] here\n"
        process.terminate()
        assert process.wait() == 128 + signal.SIGTERM


def test_the_worst_exit_code_is_returned(run):
    code, _, err = run("sys.exit([0, 3, 1][rank])")
    assert code == 3
    assert sorted(err) == [
        "Process 1 ended with exit code 3",
        "Process 2 ended with exit code 1",
    ]


def test_a_signal_counts_as_a_shell_counts_it(run):
    code, _, err = run("if rank == 1: os.kill(os.getpid(), signal.SIGKILL)")
    assert code == 137
    assert err == ["Process 1 was ended by SIGKILL"]


def test_a_process_that_does_not_end_after_a_failure_is_killed(run):
    code, _, err = run("if rank: sys.exit(5)\nsignal.raise_signal(signal.SIGSTOP)", grace=0.5)
    assert code == 5
    assert err[-1] == "Process 0 did not end within 0.5 s: killed"


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_all_processes(tmp_path, number, expected):
    path = tmp_path / "script.py"
    path.write_text(
        RANK
        + textwrap.dedent(
            """
            def stop(number, _):
                print("received", number)
                sys.exit(128 + number)

            signal.signal(signal.SIGINT, stop); signal.signal(signal.SIGTERM, stop)
            print("ready")
            time.sleep(60)
            """
        )
    )
    command = [sys.executable, "-m", "jaxconv.parallel.launch", "--processes", "2", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert sorted(process.stdout.readline() for _ in range(2)) == ["[0] ready\n", "[1] ready\n"]
        process.send_signal(number)
        out, _ = process.communicate()
    assert process.returncode == expected
    assert sorted(out.splitlines()) == [f"[{rank}] received {number.value}" for rank in range(2)]


def test_processes_know_each_other_and_their_devices(run):
    names = "JAX_NUM_PROCESSES", "JAX_LOCAL_DEVICE_IDS", "JAX_NUM_CPU_DEVICES"
    code, out, _ = run(f"print(*map(os.environ.get, {names}))", devices=2)
    assert code == 0
    assert sorted(out) == ["[0] 3 0,1 2", "[1] 3 2,3 2", "[2] 3 4,5 2"]
    own = process_environment("localhost:1", 2, 0, None)
    assert own["JAX_COORDINATOR_ADDRESS"] == own["JAX_COORDINATOR_BIND_ADDRESS"] == "localhost:1"
    assert "JAX_NUM_CPU_DEVICES" not in own


def test_the_script_gets_its_own_options(tmp_path, capfd):
    path = tmp_path / "script.py"
    path.write_text("import sys; print(sys.argv[1:])")
    assert main(["--processes", "1", str(path), "--processes", "7", "-x"]) == 0
    assert capfd.readouterr().out == "[0] ['--processes', '7', '-x']\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--processes", "0", "x.py"], "--processes must be a positive integer, not 0"),
        (["--processes", "1", "--devices-per-process", "-1", "x.py"], "not -1"),
        (["--processes", "1", "nowhere.py"], "there is no script 'nowhere.py'"),
        (["x.py"], "--processes"),
    ],
)
def test_bad_arguments_are_refused(capsys, arguments, message):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_a_reader_that_goes_away_stops_no_process(tmp_path):
    path, mark = tmp_path / "script.py", tmp_path / "done"
    path.write_text(
        RANK + f"for i in range(100): print(i)\ntime.sleep(0.3); open({str(mark)!r}, 'w')"
    )
    command = [sys.executable, "-m", "jaxconv.parallel.launch", "--processes", "1", str(path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    process.stdout.close()
    process.wait()
    deadline = time.monotonic() + 10
    while not mark.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert mark.exists()


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:  # until init, or whoever adopted it, has seen its end
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        if "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text():
            return
        time.sleep(0.05)
    pytest.fail(f"process {pid} is left")


def test_a_terminal_that_goes_away_stops_no_process(run, tmp_path, monkeypatch):
    class Gone(io.StringIO):
        def write(self, text):
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(sys, "stderr", Gone())
    mark = tmp_path / "done"
    code, *_ = run(f"if rank: sys.exit(3)\ntime.sleep(0.3); open({str(mark)!r}, 'w')", 2)
    assert code == 3
    assert mark.exists()


def test_no_process_that_another_one_started_is_left_behind(run):
    code, out, _ = run(
        """
        import subprocess
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], **quiet)
        print(child.pid)
        """,
        processes=1,
    )
    assert code == 0
    wait_until_gone(int(out[0].removeprefix("[0] ")))


def test_a_line_is_written_at_once():
    written = []

    class Sink:
        write, flush = staticmethod(written.append), staticmethod(lambda: None)

    _print("[0] text", Sink)
    assert written == ["[0] text\n"]


@pytest.mark.parametrize("first", [[], [signal.SIGTERM]])
def test_no_process_outlives_a_launcher_that_is_killed(tmp_path, first):
    path = tmp_path / "script.py"
    ignore = "signal.signal(signal.SIGTERM, lambda *_: print('received'))\n"
    path.write_text(f"{RANK}{ignore}print(os.getpid())\nwhile True: time.sleep(60)")
    command = [sys.executable, "-m", "jaxconv.parallel.launch", "--processes", "2", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        pids = [int(process.stdout.readline().split()[1]) for _ in range(2)]
        for number in first:
            process.send_signal(number)
            assert {process.stdout.readline() for _ in range(2)} == {
                "[0] received\n",
                "[1] received\n",
            }
        process.kill()
    for pid in pids:
        wait_until_gone(pid)
