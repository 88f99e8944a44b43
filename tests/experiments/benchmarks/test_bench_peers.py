import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxconv
from experiments.benchmarks import bench_peers
from experiments.benchmarks.peers import flax_peer, jaxconv_peer
from experiments.benchmarks.peers.peer_main import Digits
from experiments.benchmarks.recipes import NOTEBOOKS
from tests.support import ROOT

PARAMS = {"lab6": 104_202, "intro": 93_322, "strided": 40_394, "dropout": 34_826, "dense": 407_050}


@pytest.fixture
def peers(monkeypatch):
    """Peers whose speed is known; the list of the measurements that they were asked for."""
    asked = []

    def fake(peer, net, cache, *arguments):
        name = next(name for name, known in bench_peers.PEERS.items() if known is peer)
        asked.append((net, name, *arguments))
        number = sum(1 for entry in asked if entry[:2] == (net, name))
        if name == "stock Flax":
            return {"error": "Out of memory"}
        if name == "PyTorch":
            return {"error": "ModuleNotFoundError: No module named 'torch'"}
        if name == "Keras on JAX" and number == 2:
            return {"error": "ended by SIGKILL"}
        seconds = number * {"Keras on TensorFlow": 3.0, "jaxconv": 2.0}.get(name, 1.0)
        job = {} if arguments else {"accuracy": 0.9 + number / 100}
        job |= {"evaluation_seconds": seconds / 10} if arguments else {}
        return {"seconds": seconds, "peak_rss_bytes": 2**30, "versions": {name: "1"}, **job}

    monkeypatch.setattr(bench_peers, "measure", fake)
    return asked


def test_rounds_take_the_peers_in_turn_and_ratios_are_taken_within_a_round(peers, tmp_path, capsys):
    path = bench_peers.main(["strided"], steps=100, rounds=2, output=tmp_path / "new" / "x.json")
    warm = [entry for entry in peers if len(entry) > 2]
    assert warm == [("strided", name, "--steps", "100") for name in bench_peers.PEERS] * 2
    assert [name for _, name, *more in peers if not more] == [
        "jaxconv",  # cold
        *["Keras on TensorFlow", "PyTorch", "jaxconv"] * 3,
    ]
    content = json.loads(path.read_text())
    assert content["versions"]["jaxconv"] == "1"
    assert (content["steps"], content["rounds"]) == (100, 2)
    rows = {row["case"]: row for row in content["rows"]}
    scale = 60_000 / 32 / 100
    assert rows["strided, warm, jaxconv"]["samples"] == [2 * scale, 4 * scale]
    assert rows["strided, warm, PyTorch"]["samples"] == [None, None]
    assert rows["strided, job, jaxconv, first run"]["samples"] == [6.0]
    out = capsys.readouterr().out
    lines = {line.split("|")[1].strip(): line for line in out.splitlines() if line.startswith("| ")}
    assert lines["Keras on TensorFlow"] == (
        "| Keras on TensorFlow | 84.4 (56.2 to 112.5) | 1.50 (1.50 to 1.50) | "
        "0.45 (0.30 to 0.60) | 1.50 (1.50 to 1.50) | 12.0 (9.0 to 15.0) | "
        "1.20 (1.12 to 1.25) | 0.9400 (0.9300 to 0.9500) | 1024 |"
    )
    assert lines["Keras on JAX"].startswith(
        "| Keras on JAX | 18.8, failed in 1 of 2 rounds | 0.50 |"
    )
    install = "`pip install -e '.[peers]'`"
    assert f"| PyTorch |{f' not installed: {install} |  |' * 3}" in out
    assert f"| stock Flax | failed: {install} |" in out
    assert "Out of memory (pip install -e '.[peers]')" in out
    assert lines["jaxconv"].split("|")[3].strip() == "1.00 (1.00 to 1.00)"
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_an_epoch_has_the_samples_that_are_not_held_out(peers, tmp_path):
    path = bench_peers.main(["dropout"], 10, 1, jobs=False, output=tmp_path / "x.json")
    content = json.loads(path.read_text())
    rows = {(row["kind"], row["peer"]): row for row in content["rows"]}
    assert rows["warm", "jaxconv"]["samples"] == [pytest.approx(2 * 54_000 / 128 / 10)]
    assert rows["evaluation", "jaxconv"]["samples"] == [0.2]
    assert {kind for kind, _ in rows} == {"warm", "evaluation"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps must be a positive integer, not 0"),
        ({"steps": 500}, "steps must be at most 468, an epoch's, not 500"),
        ({"rounds": -1}, "rounds must be a positive integer, not -1"),
        ({"output": Path("x")}, "output must be a NAME.json, not 'x'"),
        ({"output": Path(__file__).with_name("y.json")}, "is there already"),
    ],
)
def test_bad_input_measures_nothing(options, message, peers, monkeypatch):
    monkeypatch.setattr(Path, "exists", lambda self: self.name == "y.json")
    with pytest.raises((ValueError, FileExistsError), match=message):
        bench_peers.main(["dropout"], **options)
    assert peers == []


def test_a_peer_that_is_not_installed_gives_the_reason(tmp_path):
    if importlib.util.find_spec("torch"):
        pytest.skip("torch is installed")
    report = bench_peers.measure(bench_peers.PEERS["PyTorch"], "lab6", str(tmp_path))
    assert report == {"error": "ModuleNotFoundError: No module named 'torch'"}


@pytest.mark.parametrize("net", NOTEBOOKS)
def test_stock_flax_has_the_notebooks_nets(net):
    """With jaxconv's weights, which the tests of Keras hold, it gives jaxconv's logits."""
    model, ours = flax_peer.CNN(**flax_peer.KINDS[net]), jaxconv.create_model(net)
    image = jax.random.uniform(jax.random.key(1), (2, 28, 28, 1))
    params = ours.init(jax.random.key(0), image)["params"]
    convs = [name for name in params if name.startswith("conv")]
    dense = [name for name in params if name.startswith("dense")] + ["logits"]
    names = {f"Conv_{i}": name for i, name in enumerate(sorted(convs))}
    names |= {f"Dense_{i}": name for i, name in enumerate(dense)}
    theirs = {name: params[own] for name, own in names.items()}
    logits = model.apply({"params": theirs}, image, train=False)
    np.testing.assert_allclose(logits, ours.apply({"params": params}, image), atol=1e-5)
    dropped = model.apply(
        {"params": theirs}, image, train=True, rngs={"dropout": jax.random.key(2)}
    )
    assert bool((dropped != logits).any()) == (net == "dropout")


@pytest.mark.parametrize("net", NOTEBOOKS)
def test_torch_has_the_notebooks_nets(net):
    pytest.importorskip("torch")
    from experiments.benchmarks.peers import torch_peer

    parameters = torch_peer.Torch(net, NOTEBOOKS[net]).model.parameters()
    assert sum(x.numel() for x in parameters) == PARAMS[net]


def zeros(samples: int) -> Digits:
    return Digits(np.zeros((samples, 28, 28, 1), np.uint8), np.zeros(samples, np.int32))


@pytest.mark.parametrize(
    ("net", "trained", "validated"), [("lab6", 10, None), ("dropout", 9, 1), ("strided", 10, 4)]
)
def test_a_job_validates_as_the_notebook_does(net, trained, validated, monkeypatch):
    """On nothing, on the last tenth, on the test set; and warm steps on nothing."""
    notebook, seen = NOTEBOOKS[net], []

    def fit(net, state, data, *, validation, **_):
        seen.append((len(data["label"]), validation and len(validation["label"])))
        return state, [{"seconds": 1.5}]

    monkeypatch.setattr(jaxconv, "fit", fit)
    ours = jaxconv_peer.Jaxconv(net, notebook)
    assert ours.fit(ours.prepare(zeros(10)), notebook, 1, ours.prepare(zeros(4))) == 1.5
    ours.fit(ours.prepare(zeros(10)), notebook, 1, None)
    assert seen == [(trained, validated), (10, None)]

    flax, evaluated = flax_peer.Flax(net, notebook), []
    monkeypatch.setattr(flax_peer, "train_step", lambda state, image, *_: (state, 0.0, len(image)))
    monkeypatch.setattr(flax, "accuracy", lambda digits: evaluated.append(len(digits.label)))
    flax.fit(flax.prepare(zeros(10)), notebook, 1, flax.prepare(zeros(4)))
    assert flax.means[1] == trained
    flax.fit(flax.prepare(zeros(10)), notebook, 1, None)
    assert evaluated == ([validated] if validated else [])


@pytest.mark.slow
@pytest.mark.parametrize("peer", bench_peers.PEERS)
def test_every_peer_learns(peer, tmp_path):
    """An epoch of `dense`, which every library has to bring to about the same accuracy."""
    package = {"Keras on TensorFlow": "tensorflow", "Keras on torch": "torch"}.get(peer, "jax")
    package = "torch" if peer.startswith("PyTorch") else package
    if not importlib.util.find_spec(package):
        pytest.skip(f"{package} is not installed")
    chosen = bench_peers.PEERS[peer]
    job = bench_peers.measure(chosen, "dense", str(tmp_path), "--epochs", "1")
    assert 0.94 < job["accuracy"] < 0.98
    assert job["peak_rss_bytes"] > 2**27
    warm = bench_peers.measure(chosen, "dense", str(tmp_path), "--steps", "20")
    assert min(warm["seconds"], warm["evaluation_seconds"]) > 0
    assert "accuracy" not in warm


@pytest.mark.slow
def test_the_first_job_compiles_and_the_next_finds_all_programs(tmp_path):
    ours = bench_peers.PEERS[bench_peers.JAXCONV]
    first, second = (
        bench_peers.measure(ours, "dense", str(tmp_path), "--epochs", "1") for _ in range(2)
    )
    assert first["programs_from_cache"] == 0
    assert second["programs_from_cache"] == second["programs"] == first["programs"]
    assert second["accuracy"] == first["accuracy"]


@pytest.mark.parametrize("module", ["keras_nets", "peers.peer_main"])
def test_a_peer_starts_without_jax(module):
    """These modules import NumPy alone: a peer's start and memory are its own."""
    code = f"import sys, experiments.benchmarks.{module}; "
    code += "print({'jax', 'jaxconv', 'keras'} & {*sys.modules})"
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout == "set()\n"


def row(net: str, kind: str, peer: str, samples: list) -> dict:
    return {"net": net, "kind": kind, "peer": peer, "samples": samples}


def test_every_peer_that_ran_has_a_bar(drawn, tmp_path):
    rows = [
        row("lab6", "warm", "PyTorch", [3.0, 1.0, 2.0]),
        row("lab6", "warm", "stock Flax", [None, None]),
        row("lab6", "warm", "jaxconv", [None, 0.5]),
        row("intro", "warm", "jaxconv", [4.0]),
        row("lab6", "job", "jaxconv, first run", [200.0]),
    ]
    bench_peers.plot_peers(rows, tmp_path / "x.png", title="a title")
    (figure,) = drawn
    assert figure.get_suptitle() == "a title"
    lab6, intro, job, _ = figure.axes
    assert [axes.get_title() for axes in (lab6, intro)] == ["lab6", "intro"]
    assert [bar.get_width() for bar in lab6.patches] == [2.0, 0.5]
    assert [bar.get_width() for bar in intro.patches] == [4.0]
    assert [text.get_text().strip() for text in job.texts] == ["200"]
    labels = [label.get_text() for label in lab6.get_yticklabels()]
    assert labels == ["PyTorch", "stock Flax", "jaxconv"]
    whisker = lab6.collections[0].get_segments()[0]
    assert sorted(x for x, _ in whisker) == [1.0, 3.0]
