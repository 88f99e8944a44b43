import jax
import pytest

from jaxconv import parallel

LOST = "UNKNOWN: Gloo all-reduce failed: [x/pair.cc:538] Read error: Connection reset by peer"


def test_an_error_on_the_first_process_is_raised_there():
    def fail():
        raise FileExistsError("there")

    with pytest.raises(FileExistsError, match="there"):
        parallel.on_first(fail)


@pytest.mark.parametrize(
    ("error", "processes", "lost"),
    [
        (ValueError(LOST), 2, True),
        (RuntimeError("INTERNAL: NCCL operation failed: connection closed"), 2, True),
        (ValueError(LOST), 1, False),
        (ValueError("no file /data/gloo/peer"), 2, False),
        (parallel.AgreedError(LOST), 2, False),
    ],
)
def test_only_a_lost_connection_is_explained_as_a_lost_process(monkeypatch, error, processes, lost):
    monkeypatch.setattr(jax, "process_count", lambda: processes)
    expected = ConnectionError if lost else type(error)
    with pytest.raises(expected) as caught, parallel.name_lost_peer():
        raise error
    assert ("Process 0 of 2 has lost another one" in str(caught.value)) is lost
