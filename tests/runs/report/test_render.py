import dataclasses
import html
import importlib
import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from experiments import report as script
from jaxconv.runs import prepare, resume, run_folder, session
from jaxconv.runs.files import read_arrays, write_arrays
from jaxconv.runs.report.render import write_report
from tests.support import ROOT
from tests.support.run_folders import read_rows


def run(net: str, folder: Path, digits, **settings) -> dict:
    module = importlib.import_module(f"experiments.{net}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare, "load_dataset", lambda *_, **__: digits)
        return module.main(module.CONFIG.replace(output_dir=str(folder), quiet=True, **settings))


@pytest.fixture(scope="module")
def finished(tmp_path_factory, digits) -> Path:
    """A run of one seed, and one of three."""
    folder = tmp_path_factory.mktemp("runs")
    run("dropout", folder / "one", digits, epochs=2, seed=3)
    run("strided", folder / "three", digits, epochs=2, seeds="3", group=2)
    return folder


@pytest.fixture
def one(finished, tmp_path) -> Path:
    return Path(shutil.copytree(finished / "one", tmp_path / "one"))


@pytest.fixture
def three(finished, tmp_path) -> Path:
    return Path(shutil.copytree(finished / "three", tmp_path / "three"))


def text_of(page: str) -> str:
    body = re.sub(r"<style>.*?</style>", "", page[page.index("<body>") :], flags=re.S)
    return html.unescape(re.sub(r"<[^>]*>", " ", body))


def confusion_of(page: str) -> list[list[str]]:
    (matrix,) = re.findall(r'<table class="confusion">(.*?)</table>', page, re.S)
    rows = re.findall(r"<tr>(.*?)</tr>", matrix)[1:]
    return [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in rows]


def test_it_holds_the_numbers_of_the_run(one):
    page = (one / "report.html").read_text()
    text, result = text_of(page), json.loads((one / "result.json").read_text())
    for name in ("test_accuracy", "test_loss"):
        assert f"{result[name]:.4f}" in text
    for row in read_rows(one):
        assert all(f"{row[name]:.4f}" in text for name in ("loss", "val_loss", "val_accuracy"))
    assert text.count("34,826") == 2  # above, and in the layers' total
    assert "trainable" not in text.partition("Model")[2]
    assert shlex.join(sys.argv) in text
    assert result["jax_version"] in text
    assert "conv1 Conv (26, 26, 32) 320 194,688" in " ".join(text.split())

    diagnostics = read_arrays(one / "diagnostics.npz")
    cells = confusion_of(page)
    for i, row in enumerate(cells):
        mine = diagnostics["prediction"][diagnostics["label"] == i]
        assert [int(n or 0) for n in row[:10]] == [int((mine == j).sum()) for j in range(10)]
        assert row[10:] == [f"{len(mine):,}", f"{(mine == i).mean():.2%}"]
    right = (diagnostics["prediction"] == diagnostics["label"]).sum()
    assert right == round(result["test_accuracy"] * 70)
    assert f"{right} of 70 test samples" in text
    assert page.count("taken for") >= len(diagnostics["mistake"])


def test_it_needs_nothing_from_elsewhere_and_is_made_the_same_again(one, three):
    for folder in (one, three):
        page = (folder / "report.html").read_bytes()
        assert b"<script" not in page
        assert b"default-src 'none'; style-src 'unsafe-inline'; img-src data:" in page
        assert b">train</text>" in page
        assert b"var(--train)" in page
        assert b"currentColor" in page
        assert b"#0b6e99" not in page[page.index(b"<body>") :]
        sources = re.findall(rb'(?:src|href)="([^"]{1,5})', page)
        assert {*sources} <= {b"data:"} | {x for x in sources if x.startswith(b"#")}
        (folder / "report.html").unlink()
        assert script.main(str(folder)).read_bytes() == page


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0212, "0.02"), (3.7884, "3.79"), (20.8259, "20.8"), (1234.5, "1234")],
)
def test_seconds_have_three_digits(one, seconds, text):
    path = one / "result.json"
    result = json.loads(path.read_text()) | {"seconds_train": seconds}
    path.write_text(json.dumps(result))
    rows = [row | {"seconds": seconds} for row in read_rows(one)]
    (one / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = write_report(one).read_text()
    assert f"training<b>{text} s</b>" in page
    assert page.count(f'<td class="number">{text}</td>') == len(rows)


def test_statistics_and_layers_that_are_not_counted_are_told_apart(one):
    diagnostics = read_arrays(one / "diagnostics.npz")
    diagnostics["layer_params"][0] += 64
    diagnostics["layer_macs"][0] = -1
    write_arrays(one / "diagnostics.npz", diagnostics)
    text = " ".join(text_of(write_report(one).read_text()).split())
    assert "trainable parameters 34,826" in text
    assert "conv1 Conv (26, 26, 32) 384 not counted" in text
    macs = diagnostics["layer_macs"][1:].sum()
    assert f"total 34,890 {macs:,} + not counted trainable 34,826" in text


def test_classes_have_their_names(one):
    diagnostics = read_arrays(one / "diagnostics.npz")
    names = [f"<name {i}>" for i in range(10)]
    write_arrays(one / "diagnostics.npz", diagnostics | {"class_name": np.array(names)})
    page = write_report(one).read_text()
    assert "<name" not in page
    text = " ".join(text_of(page).split())
    assert " ".join(["label", *names, "samples accuracy", names[0]]) in text
    first = diagnostics["mistake"][0]
    label, prediction = (names[diagnostics[x][first]] for x in ("label", "prediction"))
    assert f"{label}, taken for {prediction} ({diagnostics['confidence'][first]:.1%})" in text
    assert f"label {names[diagnostics['label'][0]]}, prediction <name " in text


def test_several_seeds_have_their_table_and_curves(three):
    page = (three / "report.html").read_text()
    text = " ".join(text_of(page).split())
    result = json.loads((three / "result.json").read_text())
    for seed, accuracy in enumerate(result["test_accuracy_by_seed"]):
        assert re.search(rf"\b{seed} [\d. ]*{accuracy:.4f}", text)
    assert f"{result['test_accuracy']:.4f} ± {result['test_accuracy_std']:.4f}" in text
    assert "recognised by seed 0" in text
    assert "seeds 0 to 2" in text
    alone = round(result["test_accuracy_by_seed"][0] * 70)
    assert f"{alone} of 70 test samples" in text


def test_a_seed_that_diverged_is_named(three):
    path = three / "result.json"
    result = json.loads(path.read_text())
    result["diverged"], result["test_accuracy_by_seed"][1] = [1], None
    rows = read_rows(three)
    for row in rows:
        row["loss"] = None if row["seed"] == 1 else row["loss"]
    (three / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path.write_text(json.dumps(result))
    text = text_of(write_report(three).read_text())
    assert "Diverged and left out of the means: seed 1" in text
    assert "not finite" in text
    assert "1 of 3 diverged" in text


def test_the_page_names_a_missing_or_damaged_file(one, capsys):
    (one / "diagnostics.npz").write_bytes(b"PK")
    text = text_of(write_report(one).read_text())
    assert "The net's predictions are left out: " in text
    assert "diagnostics.npz is damaged" in text
    (one / "diagnostics.npz").unlink()
    (one / "metrics.jsonl").write_text('{"epoch": 1, "seed": 8, "loss": 1}\n')
    text = text_of(write_report(one).read_text())
    assert "metrics.jsonl has a row of another run" in text
    assert "No such file" in text
    for line in ("5", "null", '{"seed": [1]}', "{"):
        (one / "metrics.jsonl").write_text(line + "\n")
        assert "The epochs are left out: " in text_of(write_report(one).read_text())
    (one / "metrics.jsonl").unlink()
    text = text_of(write_report(one).read_text())
    assert text.count("No such file") == 2
    np.save(one / "array.npy", np.arange(3))
    (one / "array.npy").rename(one / "diagnostics.npz")
    assert "diagnostics.npz is damaged" in text_of(write_report(one).read_text())
    assert "The epochs are left out: " in capsys.readouterr().out


def test_the_page_names_a_file_of_another_version(one):
    diagnostics = read_arrays(one / "diagnostics.npz")
    del diagnostics["filters_count"]
    write_arrays(one / "diagnostics.npz", diagnostics)
    text = text_of(write_report(one).read_text())
    assert "diagnostics.npz is of another version ('filters_count')" in text
    result = json.loads((one / "result.json").read_text())
    del result["params_count"]
    (one / "result.json").write_text(json.dumps(result))
    with pytest.raises(ValueError, match=r"is of another version \('params_count'\)"):
        write_report(one)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "config.json: name the folder of a finished run"),
        ({"config.json": "{}"}, "result.json: name the folder of a finished run"),
        ({"config.json": "{", "result.json": "{}"}, "config.json is damaged"),
        ({"config.json": "{}", "result.json": "[1]"}, "result.json is damaged"),
        ({"config.json": "{}", "result.json": "{}"}, "holds no run of an experiment"),
    ],
)
def test_a_folder_without_a_run_is_refused(files, message, tmp_path):
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    command = [sys.executable, str(ROOT / "experiments" / "report.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {*files}


def test_names_from_elsewhere_are_text(one):
    path = one / "result.json"
    result = json.loads(path.read_text()) | {"dataset": "<script>alert(1)</script>"}
    path.write_text(json.dumps(result))
    page = write_report(one).read_text()
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_a_figure_that_a_result_lacks_is_left_out(one):
    path = one / "result.json"
    result = json.loads(path.read_text())
    assert "predictions and feature maps for this page" in text_of(write_report(one).read_text())
    del result["device_kind"]
    path.write_text(json.dumps(result | {"seconds_report": None, "xla_flags": ""}))
    text = text_of(write_report(one).read_text())
    assert "predictions and feature maps for this page" not in text
    assert "xla flags" not in text


def test_the_table_of_one_epoch_has_no_test(one):
    rows = read_rows(one)
    last = json.dumps(rows[-1] | {"epoch": 1})
    (one / "metrics.jsonl").write_text(last + "\n")
    page = write_report(one).read_text()
    heads = re.findall(r"<th [^>]*>(.*?)</th>", page[: page.index("Predictions")])
    assert heads[0] == "epoch"
    assert {*heads} == {"epoch", "loss", "accuracy", "seconds", "val loss", "val accuracy"}


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_images_of_any_channels_and_many_classes_are_shown(one, channels):
    diagnostics = read_arrays(one / "diagnostics.npz")
    rng = np.random.default_rng(0)
    diagnostics["label"], diagnostics["prediction"] = rng.integers(0, 40, (2, 500), dtype=np.int32)
    diagnostics["prediction"][::2] = diagnostics["label"][::2]  # right, and no confusion
    diagnostics["label"][diagnostics["label"] == 17] = 18  # a class without a sample
    diagnostics["probabilities"] = np.full(40, 1 / 40, np.float32)
    count = len(diagnostics["mistake"])
    diagnostics["mistake_image"] = rng.integers(0, 255, (count, 9, 8, channels), dtype=np.uint8)
    diagnostics["image"] = rng.random((9, 8, channels), dtype=np.float32)
    diagnostics["filters"] = rng.standard_normal((3, 3, channels, 4), dtype=np.float32)
    write_arrays(one / "diagnostics.npz", diagnostics)
    page = write_report(one).read_text()
    text = " ".join(text_of(page).split())
    assert "confusion" not in re.findall(r'<table class="(\w+)"', page)
    assert " 17 0 none " in text
    wrong = Counter(
        zip(diagnostics["label"].tolist(), diagnostics["prediction"].tolist(), strict=True)
    )
    (i, j), most = max((x for x in wrong.items() if x[0][0] != x[0][1]), key=lambda x: (x[1], x[0]))
    assert f"confused samples {i} taken for {j} {most} " in text
    assert (f"means over {channels} channels" in text) == (channels > 1)
    assert page.count("<img") == count + 2 + len(diagnostics["map_layer"])


def test_a_net_without_mistakes_has_a_page(one):
    diagnostics = read_arrays(one / "diagnostics.npz")
    diagnostics["prediction"] = diagnostics["label"]
    diagnostics["mistake"], diagnostics["mistake_image"] = (
        diagnostics["mistake"][:0],
        diagnostics["mistake_image"][:0],
    )
    write_arrays(one / "diagnostics.npz", diagnostics)
    assert "every test sample is recognised" in text_of(write_report(one).read_text())


def test_a_page_that_cannot_be_written_ends_no_run(tmp_path, digits, monkeypatch, capsys):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    def broken(*_, **__):
        raise KeyError("aux")

    for module in (run_folder, resume):
        monkeypatch.setattr(module, "write_report", full)
    monkeypatch.setattr(session, "save_diagnostics", broken)
    result = run("dense", tmp_path / "a", digits, epochs=1)
    printed = capsys.readouterr().err
    assert "report.html WAS NOT WRITTEN" in printed
    assert "diagnostics.npz WAS NOT WRITTEN: KeyError: 'aux'" in printed
    assert json.loads((tmp_path / "a" / "result.json").read_text()) == result
    monkeypatch.undo()
    run(
        "dense", tmp_path / "a", digits, epochs=1, resume=True
    )  # finished: only the page is missing
    assert f"{result['test_accuracy']:.4f}" in (tmp_path / "a" / "report.html").read_text()


@pytest.mark.parametrize("settings", [{}, {"seeds": "2"}])
def test_a_run_resumed_at_its_end_writes_the_diagnostics(settings, tmp_path, digits):
    options = {"epochs": 1, "save_every": "epoch", **settings}
    digits = dataclasses.replace(digits, class_names=tuple("abcdefghij"))
    run("dense", tmp_path / "a", digits, **options)
    whole = read_arrays(tmp_path / "a" / "diagnostics.npz")
    assert whole["class_name"].tolist() == list(digits.class_names)
    for name in ("diagnostics.npz", "result.json", "report.html"):
        (tmp_path / "a" / name).unlink()
    result = run("dense", tmp_path / "a", digits, resume=True, **options)
    assert result["seconds_evaluation"] >= 0
    again = read_arrays(tmp_path / "a" / "diagnostics.npz")
    assert all((again[name] == x).all() for name, x in whole.items())
    assert "taken for" in (tmp_path / "a" / "report.html").read_text()


def test_a_real_browser_shows_it(finished, tmp_path):
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no Chromium: apt-get install chromium")
    many = shutil.copytree(finished / "one", finished / "many")
    arrays = read_arrays(many / "diagnostics.npz")
    arrays["label"], arrays["prediction"] = np.divmod(np.arange(25 * 25, dtype=np.int32), 25)
    arrays["class_name"] = np.array([f"a rather long name {i}" for i in range(25)])
    write_arrays(many / "diagnostics.npz", arrays)
    write_report(many)
    for name in ("one", "three", "many"):
        path, picture = finished / name / "report.html", tmp_path / f"{name}.png"
        command = [
            sys.executable,
            str(ROOT / "tests" / "runs" / "report" / "browser_check.py"),
            chromium,
        ]
        done = subprocess.run([*command, str(path), str(picture)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        seen = json.loads(done.stdout)
        assert seen["console"] == []
        assert len(seen["requests"]) == 1  # the page itself
        assert len(seen["pictures"]) == path.read_text().count("<img")
        assert all(width > 0 for width in seen["pictures"])
        result = json.loads((finished / name / "result.json").read_text())
        figures = ("test_accuracy", "test_loss", "train_loss")
        assert all(f"{result[figure]:.4f}" in seen["text"] for figure in figures)
        assert f"{result['params_count']:,}" in seen["text"]
        assert seen["light"] == seen["paper"] == "rgb(255, 255, 255)"
        assert seen["dark"] == "rgb(22, 25, 29)"
        for width, sizes in seen["sizes"].items():
            assert sizes["content"] <= int(width)
            assert sizes["stretched"] < 0.05
            assert sizes["text"] > 9
            assert sizes["lines"] == 1
            assert sizes["row"] < 30  # one line
        assert picture.stat().st_size > 50_000
        assert seen["pdf"] > 20_000
