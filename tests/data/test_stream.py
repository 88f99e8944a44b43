import functools
import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxconv
from jaxconv import data
from jaxconv.data import stream
from jaxconv.data.stream import Stream, open_streamed
from jaxconv.data.tfds import Source
from tests.support.command_line_runs import run_cli
from tests.support.made_sets import enlarge, prepare
from tests.support.oracles import bits
from tests.support.run_folders import without_seconds

# TFDS and its imports emit warnings that this project cannot fix.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="session")
def on_disk(tmp_path_factory, digits) -> str:
    """The few hundred digits as a TFDS set, in the same order."""
    folder = tmp_path_factory.mktemp("tfds")
    prepare(folder, "digits", train=digits.train, test=digits.test)
    return str(folder)


@pytest.fixture
def streamed(on_disk):
    return functools.partial(open_streamed, "tfds:digits", data_dir=on_disk)


def training(dtype="float32", augment=None, **settings):
    model = jaxconv.create_model(
        "dropout", filters=(3, 4), dtype=dtype, param_dtype=dtype, **settings
    )
    net = jaxconv.classifier(model, jaxconv.adam(), augment=augment)
    return net, net.init(jax.random.key(1), (28, 28, 1))


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("start", [0, 3])
def test_an_epoch_has_each_sample_once_in_its_order(streamed, digits, start, workers):
    data = streamed(workers=workers)
    order = np.asarray(jaxconv.epoch_permutation(jax.random.key(0), 2, len(data.train)))
    batches = list(data.train.batches(order, 64, start))
    assert [len(batch["label"]) for batch in batches] == [64, 64, 64, 64, 44][start:]
    for name, x in digits.train.batch().items():
        read = np.concatenate([batch[name] for batch in batches])
        assert read.dtype == x.dtype
        np.testing.assert_array_equal(read, x[order[64 * start :]])
    direct = data.train.batch(order, 64, 4)
    np.testing.assert_array_equal(direct["image"], batches[-1]["image"])


@pytest.mark.parametrize(
    "settings", [{}, {"augment": data.warp(rotation=10, shift=1.0), "batch_norm": True}]
)
def test_a_streamed_training_equals_the_resident_one(streamed, digits, settings):
    net, state = training(**settings)
    found, history = jaxconv.fit(net, state, streamed().train, epochs=2, batch_size=64)
    alone, expected = jaxconv.fit(net, state, digits.train, epochs=2, batch_size=64)
    for a, b in zip(jax.tree.leaves(found.params), jax.tree.leaves(alone.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)
    assert [row["accuracy"] for row in history] == [row["accuracy"] for row in expected]


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_a_streamed_training_in_float64_equals_the_resident_one(streamed, digits):
    net, state = training("float64")
    found, _ = jaxconv.fit(net, state, streamed().train, epochs=4, batch_size=64)
    alone, _ = jaxconv.fit(net, state, digits.train, epochs=4, batch_size=64)
    assert int(found.step) == 20
    for a, b in zip(jax.tree.leaves(found.params), jax.tree.leaves(alone.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-9)


def test_a_streamed_training_resumes_anywhere_to_the_bit(streamed):
    data, (net, state) = streamed().train, training()
    kept = []
    whole, history = jaxconv.fit(
        net,
        state,
        data,
        epochs=2,
        chunks=5,
        save=lambda *x: kept.append(jax.device_get(x)),
        batch_size=64,
    )
    assert [position.step for _, position in kept] == list(range(1, 11))
    for saved, position in kept[::3]:
        again, rows = jaxconv.fit(net, saved, data, epochs=2, resume=position, batch_size=64)
        assert bits(again) == bits(whole)
        assert without_seconds(rows) == without_seconds(history)


def test_an_epoch_is_read_once_for_all_its_chunks(streamed, monkeypatch):
    opened, batches = [], Stream.batches

    def counted(self, order, batch_size, start):
        opened.append(start)
        return batches(self, order, batch_size, start)

    monkeypatch.setattr(Stream, "batches", counted)
    net = jaxconv.classifier(jaxconv.create_model("dense"), jaxconv.adam())
    state = net.init(jax.random.key(1), (28, 28, 1))
    jaxconv.fit(net, state, streamed().train, epochs=2, chunks=5, batch_size=64)
    assert opened == [0, 0]  # once per epoch


def test_a_stream_trains_one_seed(streamed):
    net, _ = training()
    keys = jax.random.split(jax.random.key(0), 2)
    with pytest.raises(ValueError, match="A stream trains one seed, not 2, which would each read"):
        jaxconv.training.fit_seeds(
            net,
            lambda key: net.init(key, (28, 28, 1)),
            keys,
            streamed().train,
            epochs=1,
            batch_size=64,
        )


def test_the_last_part_is_held_out_and_not_trained_on(streamed, digits):
    data = streamed(validation_split=0.1)
    expected = digits.split_validation(0.1)
    assert len(data.train) == 270
    np.testing.assert_array_equal(data.validation.image, expected.validation.image)
    np.testing.assert_array_equal(data.test.label, digits.test.label)
    (read,) = data.train.batches(np.arange(270), 270, 0)
    np.testing.assert_array_equal(read["image"], expected.train.image)
    assert data.train.identity != streamed().train.identity
    assert streamed().validation is None


def test_a_process_reads_only_its_own_rows(streamed, monkeypatch):
    data, rows = streamed().train, range(2, 5)
    monkeypatch.setattr(
        stream, "process_rows", lambda samples, mesh: rows if samples == 7 else range(0)
    )
    requested = []
    read = Source.read
    monkeypatch.setattr(Source, "read", lambda self, x: requested.append(list(x)) or read(self, x))
    batch = data.batch(np.arange(20, 34), 7, 1)
    assert requested == [[29, 30, 31]]
    assert len(batch["label"]) == 3
    rows = range(7, 7)  # no row: one sample to pad with
    assert data.batch(np.arange(14), 7, 1)["image"].shape == (1, 28, 28, 1)


def test_a_source_can_be_sent_to_another_process(on_disk, digits):
    import pickle

    source = Source("digits", "test", on_disk)
    sent = pickle.loads(pickle.dumps(source))
    assert (len(sent), sent.num_classes, sent.identity) == (70, 10, source.identity)
    np.testing.assert_array_equal(sent.read([3, 1])["label"], digits.test.label[[3, 1]])


def test_sets_that_cannot_be_streamed_are_refused(on_disk, monkeypatch):
    with pytest.raises(ValueError, match="tfds:NAME, not 'mnist'"):
        open_streamed("mnist")
    with pytest.raises(ValueError, match="workers must be a positive integer or 0, not -1"):
        open_streamed("tfds:digits", data_dir=on_disk, workers=-1)
    with pytest.raises(ValueError, match=r"must be in \[0, 1\), not 1"):
        open_streamed("tfds:digits", data_dir=on_disk, validation_split=1)
    source = Source("digits", "train", on_disk)
    with pytest.raises(ValueError, match=r"samples must be in \[1, 300\], not 301"):
        Stream(source, 301, num_classes=10)
    few = Stream(source, num_classes=9)
    with pytest.raises(ValueError, match=r"is 9, outside \[0, 9\). It is among the samples \[0, 1"):
        list(few.batches(np.arange(300), 64, 0))
    monkeypatch.setitem(sys.modules, "grain", None)
    with pytest.raises(ModuleNotFoundError, match=r"grain\. .*pip install 'jaxconv\[stream\]'"):
        open_streamed("tfds:digits", data_dir=on_disk)


def test_an_experiment_streams_and_resumes(monkeypatch, capsys, tmp_path, on_disk):
    options = ["--epochs", "2", "--dataset", "tfds:digits", "--data-dir", on_disk]
    results = {}
    for name, more in (("resident", []), ("streamed", ["--stream", "--save-every", "2"])):
        where = ["--output-dir", str(tmp_path / name)]
        code, output = run_cli(monkeypatch, capsys, "dense", *options, *more, *where)
        assert code == 0, output
        results[name] = json.loads((tmp_path / name / "result.json").read_text())
    for figure in ("test_loss", "train_loss"):
        assert results["streamed"][figure] == pytest.approx(results["resident"][figure], rel=1e-5)
    (tmp_path / "streamed" / "result.json").unlink()
    again = ["--stream", "--save-every", "2", "--resume"]
    code, output = run_cli(monkeypatch, capsys, "dense", *options, *again, *where)
    assert (code, "Resumed in" in output) == (0, True)
    resumed = json.loads((tmp_path / "streamed" / "result.json").read_text())
    assert resumed["test_loss"] == results["streamed"]["test_loss"]
    code, output = run_cli(monkeypatch, capsys, "dense", *options, *again[1:], *where)
    assert (code, "stream: True then, False now" in output) == (2, True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--stream"], "tfds:NAME, not 'mnist'"),
        (["--workers", "1"], "add --stream"),
        (["--stream", "--seeds", "2"], "leave --stream or --seeds out"),
        (["--stream", "--workers", "-1"], "workers must be a positive integer or 0, not -1"),
    ],
)
def test_options_that_make_no_sense_are_refused(monkeypatch, capsys, tmp_path, options, message):
    folder = tmp_path / "run"
    code, output = run_cli(monkeypatch, capsys, "dense", *options, "--output-dir", str(folder))
    assert (code, message in output) == (2, True), output
    assert not folder.exists()


@pytest.mark.slow
def test_four_times_the_data_takes_no_more_memory(tmp_path):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (2000, 128, 128, 3), np.uint8)  # 98 MB, and 393 MB
    label = rng.integers(0, 10, 2000).astype(np.int32)
    whole, few = jaxconv.Split(image, label), jaxconv.Split(image[:10], label[:10])
    prepare(tmp_path / "once", "pictures", train=whole, test=few)
    enlarge(tmp_path / "once", "pictures", 4, tmp_path / "four")
    peaks = []
    for folder, samples in (("once", 2000), ("four", 8000)):
        command = [sys.executable, str(Path(__file__).with_name("stream_memory.py"))]
        output = subprocess.check_output([*command, str(tmp_path / folder)], text=True)
        assert int(output.split()[0]) == samples
        peaks.append(int(output.split()[1]))
    assert peaks[1] < 1.1 * peaks[0]
