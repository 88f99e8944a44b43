import pytest

from jaxconv.data import load_dataset


def test_unknown_names_are_refused():
    with pytest.raises(
        ValueError,
        match=r"Unknown data set 'minst' \(did you mean 'mnist'\?\): use one of mnist, tfds:NAME",
    ):
        load_dataset("minst")
    with pytest.raises(ValueError, match="data_dir='/somewhere' is for"):
        load_dataset("mnist", data_dir="/somewhere")
