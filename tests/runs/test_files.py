import json
import os
import subprocess
import sys

import numpy as np
import pytest

from jaxconv.runs.files import append_row, read_arrays, write_arrays, write_json, write_text


def test_json_is_written_whole_and_rows_one_by_one(tmp_path):
    write_json(tmp_path / "a.json", {"x": None, "y": 1.5})
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"x": object()})
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": None, "y": 1.5}
    write_json(tmp_path / "a.json", {"x": float("nan"), "y": float("inf")})
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": None, "y": None}
    write_json(tmp_path / "a.json", {"x": [{"y": float("nan")}, 1]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": [{"y": None}, 1]}
    for n in range(3):
        append_row(tmp_path / "rows.jsonl", {"n": n})
    lines = (tmp_path / "rows.jsonl").read_text().splitlines()
    assert [json.loads(line)["n"] for line in lines] == [0, 1, 2]


def test_a_line_that_does_not_fit_leaves_the_file_as_it_was(tmp_path):
    """In a process of its own, whose files may have 30 bytes."""
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from jaxconv.runs.files import append_row\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (30, 30))\n"
        "for n in range(3):\n"
        "    try: append_row(Path(sys.argv[1]), {'number': n})\n"
        "    except OSError as error: print(error)\n"
    )
    path = tmp_path / "rows.jsonl"
    command = [sys.executable, "-c", code, str(path)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert path.read_text() == '{"number": 0}\n{"number": 1}\n'
    assert len(run.stdout.splitlines()) == 1


def test_arrays_come_back_and_nothing_else_is_read(tmp_path):
    arrays = {"x": np.arange(6, dtype=np.float32).reshape(2, 3), "name": np.array(["a", "bc"])}
    write_arrays(tmp_path / "a.npz", arrays)
    back = read_arrays(tmp_path / "a.npz")
    assert list(back) == list(arrays)
    assert all(back[name].tolist() == x.tolist() for name, x in arrays.items())
    np.savez(tmp_path / "object.npz", x=np.array([{}], dtype=object))
    whole = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "changed.npz").write_bytes(whole.replace(whole[60:64], b"\0\0\0\0", 1))
    (tmp_path / "text.npz").write_text("no archive")
    for name in ("object", "cut", "changed", "text"):
        with pytest.raises(ValueError, match=f"{name}.npz is damaged"):
            read_arrays(tmp_path / f"{name}.npz")
    with pytest.raises(FileNotFoundError):
        read_arrays(tmp_path / "none.npz")


def test_the_name_of_a_folder_that_is_not_utf_8_can_be_written(tmp_path):
    write_text(tmp_path / "page.html", "--output-dir " + os.fsdecode(b"caf\xe9"))
    assert (tmp_path / "page.html").read_text() == r"--output-dir caf\udce9"
