import os

import pytest

from jaxconv.runs._checksums import check_sums, write_sums


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "a").write_bytes(b"jaxconv")
    (tmp_path / "b").write_bytes(b"")
    (tmp_path / "\u00fc\n c").write_bytes(b"an odd name")
    write_sums(tmp_path)
    check_sums(tmp_path)
    return tmp_path


def test_the_lines_are_those_of_sha256sum(folder):
    """The closed form: the SHA-256 of nothing."""
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  b\n"
    assert empty in (folder / "SHA256SUMS").read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: (x / "deep" / "er" / "a").write_bytes(b"jaxconw"), "deep/er/a is not what"),
        (lambda x: (x / "deep" / "er" / "a").unlink(), "deep/er/a is not what"),
        (lambda x: (x / "deep" / "er" / "a").rename(x / "deep" / "er" / "z"), "er/a, deep/er/z"),
        (lambda x: (x / "more").write_bytes(b""), "more is not what was written"),
        (lambda x: (x / "deep" / "SHA256SUMS").write_bytes(b""), "deep/SHA256SUMS is not what"),
        (lambda x: (x / "SHA256SUMS").unlink(), "there is no SHA256SUMS"),
        (lambda x: (x / "link").symlink_to(x / "b"), "link is not a plain file"),
        (lambda x: (x / "link").symlink_to(x / "deep"), "link is not a plain file"),
        (lambda x: os.mkfifo(x / "pipe"), "pipe is not a plain file"),
    ],
)
def test_a_difference_is_named(change, message, folder):
    change(folder)
    with pytest.raises(ValueError, match=message):
        check_sums(folder)


def test_every_bit_of_the_sums_counts(folder):
    content = (folder / "SHA256SUMS").read_bytes()
    for place in range(len(content)):
        for bit in range(8):
            changed = bytearray(content)
            changed[place] ^= 1 << bit
            (folder / "SHA256SUMS").write_bytes(changed)
            with pytest.raises(ValueError, match="is not what was written"):
                check_sums(folder)
    (folder / "SHA256SUMS").write_bytes(content)
    check_sums(folder)
