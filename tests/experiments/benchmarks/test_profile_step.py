import pytest

from experiments.benchmarks.profile_step import Operation, main, operations, part_of, report

PROGRAM = """
%body (x: f32[64,288]) -> f32[64,10] {
  %x = f32[64,288]{1,0} parameter(0)
  %k = f32[288,10]{1,0} parameter(1)
  %ynn_fusion.1 = f32[64,10]{1,0} fusion(%x, %k), kind=kCustom, metadata={op_name="jit(f)/while/body/jvp(ConvNet)/conv2/dot_general"}
  %sum = f32[10]{0} fusion(%ynn_fusion.1), metadata={op_name="jit(f)/while/body/transpose(jvp(ConvNet))/conv2/reduce_sum"}
  %image = u8[64,28,28,1]{3,2,1,0} fusion(%ynn_fusion.1), metadata={op_name="jit(f)/while/body/gather"}
  %both = (f32[10]{0}, u8[10]{0}) fusion(%sum), metadata={op_name="jit(f)/while/body/jvp(ConvNet)/stack"}
  ROOT %call = f32[64,10]{1,0} call(%ynn_fusion.1), to_apply=%g
}
"""  # noqa: E501


def test_operations_have_the_flops_of_their_product_and_the_bytes_that_they_touch():
    found = operations(PROGRAM)
    assert set(found) == {"ynn_fusion.1", "sum", "image", "both"}
    product = found["ynn_fusion.1"]
    assert product.flops == pytest.approx(2 * 64 * 288 * 10)
    assert (product.part, product.shape) == ("conv2, forward", "f32[64,10]")
    assert found["sum"] == Operation("conv2, backward", "f32[10]", 0.0, 4 * (10 + 640))
    assert (found["both"].part, found["both"].bytes) == ("joining parts", 40 + 10 + 40)
    assert found["image"] == Operation("batch", "u8[64,28,28,1]", 0.0, 64 * 784 + 4 * 640)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("jit(f)/while/body/transpose(jvp(ConvNet))/conv1/jit(_patches)/add", "conv1, backward"),
        ("jit(f)/while/body/jvp(ConvNet)/logits/dot_general", "logits, forward"),
        ("jit(f)/while/body/jvp()/exp", "scaling, loss and metrics"),
        ("jit(f)/while/body/add", "optimizer and the rest"),
        ("", "optimizer and the rest"),
    ],
)
def test_the_part_of_the_step_is_in_the_name(name, part):
    assert part_of(name) == part


def test_a_report_adds_up_what_ran_with_the_slowest_part_first():
    seconds = {"ynn_fusion.1": 2e-3, "sum": 5e-3}
    lines = report(operations(PROGRAM), seconds, 1e9, 1e6, each=False).splitlines()
    assert lines[2:] == [
        "| conv2, backward | 1 | 0.00 | 2.60 | 5.00 |",
        "| conv2, forward | 1 | 0.37 | 0.00 | 2.00 |",
        "| all | 2 | 0.37 | 2.60 | 7.00 |",
    ]
    lines = report(operations(PROGRAM), seconds, 1e9, 1e6, each=True).splitlines()
    assert lines[2] == "| conv2, backward: sum f32[10] | 1 | 0.00 | 2.60 | 5.00 |"


def test_a_traced_epoch_shows_its_layers(capsys):
    text = main("dense", steps=3)
    parts = [line.split(" | ")[0][2:] for line in text.splitlines()[2:]]
    assert {"dense1, forward", "dense1, backward", "logits, forward"} < set(parts)
    assert "dense, batch 128: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("lab5", 1), r"Unknown net 'lab5' \(did you mean 'lab6'"),
        (("lab6", 0), "steps must be a positive integer, not 0"),
        (("lab6", 938), "steps must be at most 937, not 938"),
    ],
)
def test_bad_input_measures_nothing(arguments, message):
    with pytest.raises(ValueError, match=message):
        main(*arguments)
