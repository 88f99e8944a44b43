from pathlib import Path

import jax
import pytest

import jaxconv
from experiments import draw as script
from jaxconv.runs.trained import Trained


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = jaxconv.ConvNet(hidden=(2,))
    state = jaxconv.classifier(model, jaxconv.rmsprop()).init(jax.random.key(0), (28, 28, 1))
    Path("run").mkdir()
    Trained(model, (state,), (28, 28, 1), experiment="mine").save("run/model.safetensors")
    return Path("run")


@pytest.mark.parametrize("given", ["run", "run/model.safetensors"])
@pytest.mark.parametrize("output", [None, "mine.html"])
def test_the_page_lands_in_the_runs_folder_or_where_it_is_told(given, output, run, capsys):
    path = script.main(given, output)
    assert path == Path(output or "run/draw.html")
    assert "As you draw, mine answers: 1,600 parameters" in path.read_text()
    assert capsys.readouterr().out == f"Draw: {path} (0.0 MB)\n"


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("run/model.safetensors", r"a file such as draw.html, not 'run/model.safetensors'"),
        ("away/draw.html", "There is no folder away: make it, or name another"),
    ],
)
def test_it_replaces_pages_alone_and_makes_no_folder(output, message, run):
    before = (run / "model.safetensors").read_bytes()
    with pytest.raises((ValueError, OSError), match=message):
        script.main("run", output)
    assert (run / "model.safetensors").read_bytes() == before
    assert [x.name for x in run.iterdir()] == ["model.safetensors"]
