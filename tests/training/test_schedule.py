import pytest

from jaxconv.training.schedule import Schedule


@pytest.mark.parametrize(
    ("epoch", "start", "chunks", "save_every", "ends"),
    [
        (0, 0, 1, None, [10]),
        (0, 0, 3, 5, [4, 5, 8, 10]),
        (1, 0, 1, 7, [4, 10]),
        (1, 4, 1, 7, [10]),
        (3, 0, 1, 7, [5, 10]),
        (7, 0, 1, 7, [7, 10]),
        (0, 9, 3, 3, [10]),
        (0, 0, 1000, None, [*range(1, 11)]),
    ],
)
def test_chunks_end_where_a_save_is_due(epoch, start, chunks, save_every, ends):
    schedule = Schedule(9, 1, chunks=chunks, save_every=save_every)
    assert schedule.chunk_ends(epoch, start, 10) == ends
