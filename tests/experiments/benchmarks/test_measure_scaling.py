from experiments.benchmarks import measure_scaling

HLO = """
HloModule jit_step, num_partitions=2
%region (a: f32[], b: f32[]) -> f32[] {
  ROOT %add.1 = f32[] add(%a, %b)
}
ENTRY %main {
  %all-reduce.1 = s32[] all-reduce(%count), channel_id=1, to_apply=%region
  %all-reduce.2 = (f32[16]{0}, f32[3,3,1,16]{3,2,1,0:T(8,128)}, /*index=5*/bf16[10]{0}, pred[])\
 all-reduce(%x, %y, %z, %p), channel_id=2, to_apply=%region
  %start = f32[64,10]{1,0} all-reduce-start(%w), to_apply=%region
  %done = f32[64,10]{1,0} all-reduce-done(%start)
  %out = f32[16]{0} get-tuple-element(%all-reduce.2), index=0
}
"""


def test_the_all_reduces_of_a_program_are_read():
    found = measure_scaling.all_reduces(HLO)
    assert found == [
        [("s32", ())],
        [("f32", (16,)), ("f32", (3, 3, 1, 16)), ("bf16", (10,)), ("pred", ())],
        [("f32", (64, 10))],
    ]
    size = 4 + 4 * 16 + 4 * 144 + 2 * 10 + 1 + 4 * 640
    assert measure_scaling.count_arrays(found) == {"instructions": 3, "arrays": 6, "bytes": size}
    assert measure_scaling.all_reduces("%x = f32[2]{0} add(%a, %b)") == []
