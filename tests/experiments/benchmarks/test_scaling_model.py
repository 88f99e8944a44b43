import math

import pytest

from experiments.benchmarks import scaling_model as model
from experiments.benchmarks.scaling_model import Load, Point

TABLE = {1: 0.5, 2: 1.0, 4: 2.0, 8: 4.0}
"""Seconds of a step that are proportional to its batch."""


def test_a_ring_of_two_sends_every_array_once():
    assert model.sent_bytes(2, 1000) == 1000
    assert model.ring_seconds(2, Load(1, 1000), 0.25, 500.0) == 2 * 0.25 + 2.0
    assert model.ring_seconds(2, Load(3, 1000), 0.25, 500.0) == 3 * 2 * 0.25 + 2.0


def test_a_ring_of_many_sends_twice_the_bytes_and_waits_for_every_neighbour():
    assert model.ring_seconds(1, Load(5, 1000), 0.25, 500.0) == 0
    assert model.ring_seconds(4, Load(1, 1000), 0.0, 500.0) == 2 * 3 / 4 * 1000 / 500
    assert model.sent_bytes(4096, 1000) == pytest.approx(2000, rel=1e-3)
    assert model.ring_seconds(4096, Load(1, 0), 1e-6, 500.0) == pytest.approx(2 * 4095e-6)


def test_the_fit_finds_latency_and_bandwidth():
    sizes = [(devices, 4 * 8**i) for devices in (2, 4) for i in range(7)]
    exact = [(d, n, model.ring_seconds(d, Load(1, n), 3e-5, 2e9)) for d, n in sizes]
    assert model.fit_ring(exact) == pytest.approx((3e-5, 2e9))
    noisy = [(d, n, t * (1.1 if i % 2 else 0.9)) for i, (d, n, t) in enumerate(exact)]
    assert model.fit_ring(noisy) == pytest.approx((3e-5, 2e9), rel=0.15)


def test_the_fit_has_no_negative_part():
    latency, bandwidth = model.fit_ring([(2, 4, 2.0), (2, 4000, 1.0)])
    assert latency > 0
    assert bandwidth == math.inf
    latency, bandwidth = model.fit_ring([(2, 10, 1.0), (2, 1000, 200.0)])
    assert latency == 0
    assert 5 < bandwidth < 10
    with pytest.raises(ValueError, match="need two sizes"):
        model.fit_ring([(2, 4, 1.0), (4, 4, 2.0)])


def test_a_step_lies_between_the_measured_ones():
    assert model.interpolated({1: 1.0, 2: 4.0, 4: 6.0}, 2) == 4.0
    assert model.interpolated({1: 1.0, 2: 4.0, 4: 6.0}, 3) == 5.0
    for samples in (0, 9):
        with pytest.raises(ValueError, match=f"A batch of {samples} lies outside"):
            model.interpolated(TABLE, samples)


def test_without_communication_linear_compute_scales_perfectly():
    for devices in (1, 2, 4, 8):
        point = model.strong(devices, 8, TABLE, lambda _: 0.0)
        assert point == Point(devices, 8 // devices, 4.0 / devices, 0.0, 1.0)
    for devices in (1, 8, 4096):
        assert model.weak(devices, 8, TABLE, lambda _: 0.0) == Point(devices, 8, 4.0, 0.0, 1.0)


def test_efficiency_follows_its_definition():
    assert model.strong(3, 8, TABLE, lambda _: 0.0).samples == 3
    last = model.strong(16, 8, TABLE, lambda devices: devices / 10)
    assert (last.samples, last.seconds) == (1, 0.5 + 1.6)
    assert last.efficiency == pytest.approx(4.0 / (16 * 2.1))
    assert model.weak(4, 8, TABLE, lambda _: 1.0).efficiency == 4.0 / 5.0


def test_the_data_set_ends_weak_scaling():
    assert model.epoch_steps(1, 64) == 938
    assert model.epoch_steps(937, 64) == 2
    assert model.epoch_steps(938, 64) == model.epoch_steps(4096, 64) == 1
    assert model.epoch_steps(1875, 32) == 1


@pytest.mark.parametrize(
    ("latency", "bandwidth"),
    [(1e-5, 1e9), (1e-5, math.inf), (1e-3, 1e6), (0.0, 1.5e8), (1e-9, 1e5)],
)
def test_at_break_even_all_reduces_take_as_long_as_the_step(latency, bandwidth):
    load = Load(12, 1_000_000)
    devices = model.break_even(0.01, load, latency, bandwidth)
    assert devices > 1
    assert model.ring_seconds(devices, load, latency, bandwidth) == pytest.approx(0.01)


def test_without_latency_a_fast_network_never_breaks_even():
    assert model.break_even(1.0, Load(1, 1000), 0.0, 2000.0) == math.inf
    assert model.break_even(1.0, Load(1, 1000), 0.0, math.inf) == math.inf
    assert model.break_even(1.0, Load(1, 0), 0.05, 1e9) == pytest.approx(1 + 1.0 / (2 * 0.05))


def test_among_equal_steps_that_of_fewer_devices_is_the_fastest():
    points = [Point(d, 1, 1.0, 0.0, 1.0) for d in (4, 2, 8)] + [Point(1, 2, 3.0, 0.0, 1.0)]
    assert model.fastest(points).devices == 2
