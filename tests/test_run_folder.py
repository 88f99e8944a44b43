import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from jaxconv.run_folder import append_row, create_run_folder, write_json


def test_runs_take_the_next_free_folder_also_when_many_start_at_once(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "lab6-0-2").mkdir(parents=True)
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: create_run_folder("lab6-0"), range(8)))
    assert len(set(folders)) == 8
    assert sorted(folder.name for folder in folders) == [f"lab6-0-{n}" for n in (1, *range(3, 10))]


def test_a_folder_that_holds_a_run_is_refused_and_overwritten_on_request(tmp_path):
    folder = create_run_folder("x", str(tmp_path / "deep" / "mine"))
    write_json(folder / "result.json", {"a": 1})
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"already holds a run \(result.json\).*--overwrite"):
        create_run_folder("x", str(folder))
    assert json.loads((folder / "result.json").read_text()) == {"a": 1}
    create_run_folder("x", str(folder), overwrite=True)
    assert [file.name for file in folder.iterdir()] == ["notes.txt"]


def test_a_file_in_the_way_is_an_os_error(tmp_path, monkeypatch):
    (tmp_path / "runs").write_text("")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OSError, match="runs"):
        create_run_folder("lab6-0")
    with pytest.raises(OSError, match="runs"):
        create_run_folder("lab6-0", str(tmp_path / "runs" / "x"))


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
