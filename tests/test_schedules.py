"""Courses over a training, against tables worked by hand from the papers. Learning rates are in `test_losses.py`."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage import schedules


def test_phi_of_annealing_is_two_epochs_each_for_seven_temperatures_in_fourteen_epochs():
    per_epoch = 5
    table = [1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7]
    found = [schedules.annealed(step, 14 * per_epoch, 7) for step in range(14 * per_epoch)]
    assert found == pytest.approx([level / 7 for level in table for _ in range(per_epoch)])


def test_phi_of_annealing_stays_at_one_where_the_published_code_overshoots():
    """20 epochs of 7 temperatures: floor(20 / 7) = 2 epochs each would pass 1 in the 15th epoch and end at 10 / 7."""
    found = [schedules.annealed(epoch, 20, 7) for epoch in range(20)]
    table = [3, 3, 3, 3, 3, 3, 2]
    shares = [found.count(pytest.approx(level / 7)) for level in range(1, 8)]
    assert sorted(shares) == sorted(table) and max(found) == 1.0
    beyond = [schedules.annealed(epoch, 20, 7) for epoch in (20, 21, 500)]
    assert beyond == [1.0] * 3


@given(st.integers(1, 400), st.integers(1, 30))
def test_temperatures_of_annealing_last_equally_long_within_a_step_and_none_is_left_out(steps, levels):
    levels = min(levels, steps)
    found = [schedules.annealed(step, steps, levels) for step in range(steps)]
    counts = [sum(abs(phi - (k + 1) / levels) < 1e-9 for phi in found) for k in range(levels)]
    assert sum(counts) == steps and max(counts) - min(counts) <= 1 and min(counts) > 0
    assert found == sorted(found) and found[0] == pytest.approx(1 / levels) and found[-1] == 1.0


def test_algorithm_1_on_cifar_by_hand():
    """n = 200, T_max = 20, so k = 10: T is 20 for nine epochs, then falls at 10, 20, ...; at 200 it would be 0 and stays 1."""
    at = {1: 20, 9: 20, 10: 19, 19: 19, 20: 18, 99: 11, 100: 10, 189: 2, 190: 1, 199: 1, 200: 1}
    for epoch, temperature in at.items():
        assert schedules.algorithm_1(epoch, 200, 20) == pytest.approx(1 - (temperature - 1) / 20), epoch
    assert schedules.algorithm_1(1, 200, 20) == pytest.approx(0.05)


def test_algorithm_1_on_glue_by_hand():
    """n = 30, T_max = 10, so k = 3."""
    temperatures = [10, 10, 9, 9, 9, 8, 8, 8, 7, 7, 7, 6, 6, 6, 5, 5, 5, 4, 4, 4, 3, 3, 3, 2, 2, 2, 1, 1, 1, 1]
    found = [schedules.algorithm_1(epoch, 30, 10) for epoch in range(1, 31)]
    assert found == pytest.approx([1 - (t - 1) / 10 for t in temperatures])


@given(st.integers(1, 300), st.integers(1, 40))
def test_algorithm_1_is_the_papers_loop_with_t_kept_at_one(epochs, levels):
    levels = min(levels, epochs)
    temperature, k = levels, epochs // levels
    for i in range(1, epochs + 1):
        if i % k == 0:
            temperature -= 1
        assert schedules.algorithm_1(i, epochs, levels) == pytest.approx(1 - (max(1, temperature) - 1) / levels)


def test_psi_on_cifar_is_equation_7():
    found = [schedules.label_share(i, 200, "images") for i in range(1, 201)]
    assert found == pytest.approx([float(Fraction(i, 150)) for i in range(1, 151)] + [1.0] * 50)


def test_psi_on_glue_is_equation_8_with_its_jump_from_a_half_to_one():
    found = [schedules.label_share(i, 30, "glue") for i in range(1, 31)]
    assert found == pytest.approx([float(Fraction(i, 40)) for i in range(1, 21)] + [1.0] * 10)
    assert found[19] == pytest.approx(0.5) and found[20] == 1.0


@pytest.mark.parametrize("form", ["glue", "images"])
@given(st.integers(1, 500))
def test_psi_of_any_number_of_epochs_never_falls_and_ends_at_one(form, epochs):
    found = [schedules.label_share(i, epochs, form) for i in range(1, epochs + 1)]
    assert found == sorted(found) and found[0] > 0 and found[-1] == 1.0
    edge = Fraction(2, 3) if form == "glue" else Fraction(3, 4)
    assert all((psi == 1.0) == (Fraction(i, epochs) > edge) for i, psi in enumerate(found, 1)) or form == "images"


@pytest.mark.parametrize("epochs", [3, 6, 9, 33, 60, 300])
def test_psi_on_glue_jumps_after_two_thirds_also_for_other_numbers_of_epochs(epochs):
    found = [schedules.label_share(i, epochs, "glue") for i in range(1, epochs + 1)]
    assert found.index(1.0) == 2 * epochs // 3 and found[2 * epochs // 3 - 1] == pytest.approx(0.5)
