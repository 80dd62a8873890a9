"""Does the triage name the contours that are wrong, and leave those alone that go together?"""

from __future__ import annotations

import numpy as np
import pytest

from aistat_jax._record import replace
from aistat_jax.inference.posterior import Diagnostics, Finding
from aistat_jax.uncertainty.contour import contour_of
from aistat_jax.uncertainty.triage import count_grades, triage
from tests.helpers import make_posterior


def stack(radii, sd=0.02, shift=0.0):
    """Concentric slices of these radii, 3 mm apart, each with its own error of the centre."""
    rng = np.random.default_rng(1)
    found = []
    for k, radius in enumerate(radii):
        one = make_posterior(axes=(radius, radius), sd=sd, draws=200, seed=k)
        plane = replace(one.chart.plane, thickness=3.0, offset=3.0 * k)
        centre = one.chart.centre + shift * rng.standard_normal(2)
        chart = replace(one.chart, plane=plane, centre=centre)
        found.append(replace(one, chart=chart, target_id=f"z{k:03d}"))
    return found


def ball(radius=20.0):
    heights = np.arange(-radius + 1.5, radius, 3.0)
    return np.sqrt(radius**2 - heights**2)


def reasons(posteriors, tolerance=2.0):
    return triage([contour_of(p, tolerance_mm=tolerance) for p in posteriors])


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_slices_of_a_ball_go_together(shift):
    assert reasons(stack(ball(), shift=shift)) == ()


def test_a_tapering_lesion_goes_together():
    assert reasons(stack(np.linspace(20.0, 4.0, 12))) == ()


def test_a_slice_that_is_elsewhere_comes_first_though_it_is_green():
    """Negative control of the two tests above: one slice of the ball is moved by its radius."""
    slices = stack(ball())
    odd = slices[6]
    slices[6] = replace(odd, chart=replace(odd.chart, centre=odd.chart.centre + 15.0))
    found = reasons(slices)
    assert [one.target_id for one in found] == ["z006"]
    assert found[0].place == 6
    assert found[0].grade == "green"
    assert "z005 and z007 overlap by" in found[0].reason


def test_a_step_between_two_slices_names_both():
    found = reasons(stack([20, 20, 20, 20, 8, 8, 8, 8]))
    assert {one.target_id for one in found} == {"z003", "z004"}
    assert found[0].reason.startswith("jumps against z004: the two overlap by ")


def test_order_is_contradiction_then_refusal_then_width():
    slices = stack([14.0] * 6, sd=0.02)
    slices[1] = make_wide(slices[1], 0.25)
    slices[2] = make_wide(slices[2], 0.14)
    failed = Diagnostics(
        converged=False, ess_min=9.0, khat=1.2, reasons=("khat 1.20 is too large",)
    )
    slices[4] = replace(slices[4], diagnostics=failed)
    slices[5] = replace(slices[5], presence=0.4)
    found = reasons(slices)
    assert [one.target_id for one in found] == ["z004", "z005", "z001", "z002"]
    assert found[0].reason == "its fit did not pass its own checks: khat 1.20 is too large"
    assert "40%" in found[1].reason
    assert found[2].reason.startswith("95% band ± ")
    assert str(found[0]).startswith("z004 (red): its fit")


def make_wide(posterior, sd):
    wide = make_posterior(axes=(14.0, 14.0), sd=sd, draws=200)
    return replace(posterior, radii=wide.radii)


def test_another_reason_for_a_grade_is_told():
    posterior = make_posterior(sd=0.01)
    sure = contour_of(posterior, tolerance_mm=2.0)
    assert triage([sure]) == ()
    why = ("The inside has a cold core.", *sure.grade.reasons)
    (found,) = triage([replace(sure, grade=replace(sure.grade, case="red", reasons=why))])
    assert found.reason == "the inside has a cold core"


def test_what_the_image_has_against_a_contour_is_told_before_its_width():
    posterior = make_posterior(sd=0.1)
    checks = replace(
        posterior.diagnostics, findings=(Finding("amber", "The inside has a cold core."),)
    )
    (found,) = reasons([replace(posterior, diagnostics=checks)])
    assert found.reason == "the inside has a cold core"
    (plain,) = reasons([posterior])
    assert plain.reason.startswith("95% band ± ")


def test_several_targets_of_one_slice_are_not_held_against_each_other():
    slices = stack(ball())
    twin = replace(slices[6], chart=replace(slices[6].chart, centre=np.array([20.0, 20.0])))
    assert reasons([*slices, twin]) == ()


def test_of_two_lesions_side_by_side_the_slice_that_is_elsewhere_is_named():
    """Each is held against its own neighbours, whatever the slices are numbered."""
    slices = stack(ball())
    away = np.array([50.0, 0.0])
    twins = [replace(p, chart=replace(p.chart, centre=p.chart.centre + away)) for p in slices]
    twins = [replace(p, target_id=f"{p.target_id}.2") for p in twins]
    assert reasons([*slices, *twins]) == ()
    odd = twins[6]
    twins[6] = replace(odd, chart=replace(odd.chart, centre=odd.chart.centre + 15.0))
    assert [one.target_id for one in reasons([*slices, *twins])] == ["z006.2"]


def test_grades_are_counted_in_words():
    assert count_grades(["green"]) == "1 contour: none red, none amber, 1 green"
