import io
import sys

import pytest

import jaxconv


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_stdout_that_is_not_utf_8_gets_plain_lines(encoding, monkeypatch):
    model, written = jaxconv.create_model("dense", hidden=()), io.BytesIO()
    with monkeypatch.context() as patch, io.TextIOWrapper(written, encoding) as stdout:
        patch.setattr(sys, "stdout", stdout)
        jaxconv.summary(model, (28, 28, 1))
        jaxconv.explain(model, (28, 28, 1))
        stdout.flush()
        text = written.getvalue().decode(encoding)
    plain = encoding != "utf-8"
    assert ("-----" in text) == plain
    assert ("logits (Dense): (784,) -> (10,)" in text) == plain
    assert ("784\N{MIDDLE DOT}10 = 7,840" in text) == (not plain)
