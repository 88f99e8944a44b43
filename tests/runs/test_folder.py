import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from jaxconv.runs.files import write_json
from jaxconv.runs.folder import new_run_folder


def created(*arguments, **options):
    with new_run_folder(*arguments, **options) as folder:
        return folder


def test_runs_take_the_next_free_folder_also_when_many_start_at_once(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "lab6-0-2").mkdir(parents=True)
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: created("lab6-0"), range(8)))
    assert len(set(folders)) == 8
    assert sorted(folder.name for folder in folders) == [f"lab6-0-{n}" for n in (1, *range(3, 10))]


def test_a_folder_that_holds_a_run_is_refused_and_overwritten_on_request(tmp_path):
    folder = created("x", str(tmp_path / "deep" / "mine"))
    write_json(folder / "result.json", {"a": 1})
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"already holds a run \(result.json\).*--overwrite"):
        created("x", str(folder))
    assert json.loads((folder / "result.json").read_text()) == {"a": 1}
    created("x", str(folder), overwrite=True)
    assert {file.name for file in folder.iterdir()} == {"notes.txt", ".lock"}


@pytest.mark.parametrize(
    ("name", "make", "kind"),
    [
        ("checkpoints", lambda path: path.symlink_to(path.parent), "a link"),
        ("checkpoints", lambda path: path.symlink_to("nowhere"), "a link"),
        ("checkpoints", lambda path: path.touch(), "a file"),
        ("result.json", lambda path: path.mkdir(), "a folder"),
    ],
)
def test_overwriting_deletes_nothing_where_no_run_made_a_file(name, make, kind, tmp_path):
    write_json(tmp_path / "config.json", {"a": 1})
    make(tmp_path / name)
    with pytest.raises(FileExistsError, match=f"/{name} is {kind}, which no run makes: move it aw"):
        created("x", str(tmp_path), overwrite=True)
    assert {file.name for file in tmp_path.iterdir()} == {"config.json", name, ".lock"}
    with pytest.raises(FileExistsError, match="already holds a run"):
        created("x", str(tmp_path))


def test_a_file_in_the_way_is_an_os_error(tmp_path, monkeypatch):
    (tmp_path / "runs").write_text("")  # as in a folder that cannot be written
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OSError, match=r"runs/lab6-0-1 cannot be made .*: name .* --output-dir"):
        created("lab6-0")
    with pytest.raises(OSError, match="runs"):
        created("lab6-0", str(tmp_path / "runs" / "x"))


def test_a_folder_in_use_is_refused_and_free_again_after(tmp_path):
    with new_run_folder("x", str(tmp_path / "a")) as folder:
        write_json(folder / "config.json", {})
        for overwrite in (False, True):
            with pytest.raises(BlockingIOError, match="in use by another run: wait for its end"):
                created("x", str(folder), overwrite=overwrite)
        assert {path.name for path in folder.iterdir()} == {"config.json", ".lock"}
    # The file stays; the lock ends with the block or with the process.
    assert created("x", str(folder), overwrite=True) == folder
