import doctest
import json

import jax
import numpy as np
import pytest

from experiments.records import record
from experiments.records.record import Row

ROWS = [Row(0, 0.99, 1.25, "a"), Row(1, 0.992, 1.75, "b"), Row(2, 0.991, 9.0, "c")]


def test_the_examples_are_right():
    assert doctest.testmod(record).failed == 0


def test_rows_are_kept_with_their_machine_and_settings(tmp_path):
    path = tmp_path / "record.json"
    record.keep(path, ROWS, samples=300)
    facts, rows = record.kept(path)
    assert rows == ROWS
    assert facts["samples"] == 300
    assert facts["jax_version"] == jax.__version__
    assert [row["seed"] for row in json.loads(path.read_text())["seeds"]] == [0, 1, 2]
    with pytest.raises(FileNotFoundError, match=r"none\.json does not exist: .* --seeds first"):
        record.kept(tmp_path / "none.json")


def test_a_claim_is_of_all_seeds(tmp_path):
    record.keep(tmp_path / "x.json", ROWS)
    first, second = record.claim(*record.kept(tmp_path / "x.json")).splitlines()
    assert first.startswith("Test accuracy 0.9910 ± 0.0010 (mean ± std of 3 seeds;")
    assert second.startswith("1.75 s a seed (1.25 to 9.00), compiled, on ")
    gpu = {"backend": "gpu", "device_kind": "NVIDIA H100", "cpu_count": 2, "cpu": "A CPU"}
    alone = record.claim({**gpu, "jax_version": "0.12"}, ROWS[:1])
    assert alone.startswith("Test accuracy 0.9900 (1 seed)\n")
    assert "compiled, on NVIDIA H100, jax 0.12" in alone


def test_other_bits_are_explained_by_another_machine(tmp_path):
    path = tmp_path / "x.json"
    record.keep(path, ROWS)
    facts, rows = record.kept(path)
    assert "to the bit" in record.compare(Row(1, 0.992, 5.0, "b"), facts, rows)
    assert "accuracy 0.9920: they should be" in record.compare(Row(1, 0.9, 5.0, "x"), facts, rows)
    elsewhere = {**facts, "cpu": "Another CPU"}
    assert "trained with cpu Another CPU" in record.compare(Row(1, 0.9, 1.0, "x"), elsewhere, rows)


def test_a_digest_sees_every_bit():
    params = {"kernel": np.ones((2, 3), np.float32), "bias": np.zeros(3, np.float32)}
    before = record.digest(params)
    assert record.digest({"bias": params["bias"], "kernel": params["kernel"]}) == before
    params["kernel"][1, 2] = np.nextafter(np.float32(1), np.float32(2))
    assert record.digest(params) != before
