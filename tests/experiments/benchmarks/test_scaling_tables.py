import pytest

from experiments.benchmarks import scaling_tables
from experiments.benchmarks.scaling_model import Load


def row(net, processes, **more):
    """Two rounds of one case, in which steps take a second a sample."""
    reports = []
    for times in (1.0, 3.0):
        seconds = {"seconds": times, "fastest": times / 2}
        counted = {"instructions": 2, "arrays": 12, "bytes": 4008}
        counted |= {"xla": {"instructions": 2, "arrays": 12, "bytes": 1008}}
        step = {**seconds, "reduce": seconds, **counted}
        sizes = more.get("batches") or more["floats"]
        reports.append({str(n): step if net else seconds for n in sizes} | {"params": 250})
    return {"net": net, "processes": processes, "reports": reports, **more}


def test_the_tables_show_medians_ranges_and_the_breaking_points():
    rows = [
        row("strided", 1, batches=[1, 2, 4, 8, 16, 32]),
        row(None, 2, floats=[1, 256]),
        row("strided", 2, batches=[32, 64]),
    ]
    text = "\n".join(scaling_tables.measured_tables(rows))
    assert "| strided | 32 | 2,000 (1,000 to 3,000) | 62.500 |" in text
    assert "| strided | 2 | 64 | 1,000 | 2 | 12 | 4,008 | 2 | 12 | 1,008 | 4.01 |" in text
    assert "| 2 | 1,024 | 2,000 (1,000 to 3,000) | 500 |" in text
    with pytest.raises(ValueError, match="Each line needs 2 cells"):
        scaling_tables.table("A table:", ["a", "b"], [["1"]])
    text = "\n".join(scaling_tables.derived_tables(rows, ["strided"], devices=(8, 512)))
    assert "`strided`, strong scaling, 32 samples in all:" in text
    weak = text.partition("weak scaling")[2]
    (line,) = [line for line in weak.splitlines() if line.startswith("| 512 |")]
    assert line.startswith("| 512 | 16,384 | 4 | 8 | 2 | 2,000 | ")
    assert line.endswith("|  |"), "NVLink ends at 256"
    assert "| 1,875 |" in weak.partition("Where it breaks")[2]


def test_gpus_add_up_fewer_bytes_in_fewer_rings():
    case = row("strided", 2, batches=[32, 64])
    assert scaling_tables.load_of(case, 32, grouped=False) == Load(12, 4008)
    assert scaling_tables.load_of(case, 32, grouped=True) == Load(2, 1008)
