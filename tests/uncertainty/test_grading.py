"""Do grades follow their stated cut-offs, and say why in words a physicist understands?"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

import numpy as np
import pytest

from aistat_jax._errors import InputError
from aistat_jax._record import replace
from aistat_jax.inference.posterior import Diagnostics, Finding, Posterior
from aistat_jax.space.directions import direction_letter, direction_words
from aistat_jax.space.mesh import Mesh
from aistat_jax.space.offset_mesh import offset_mesh_chart
from aistat_jax.space.sphere_sites import sphere_sites
from aistat_jax.uncertainty.grading import (
    expected_surface_dice,
    grade,
    grades_of,
    trust_in_words,
)
from aistat_jax.uncertainty.surface_distance import surface_distances
from tests.helpers import make_posterior, make_surface


def test_sharp_posterior_is_green_everywhere():
    result = grade(make_posterior(sd=0.02))
    assert result.case == "green"
    assert result.fraction == {"green": pytest.approx(1.0), "amber": 0.0, "red": 0.0}
    assert result.expected_surface_dice > 0.99
    assert result.tolerance_mm == 2.0
    assert any("No part of the boundary" in reason for reason in result.reasons)


def test_vague_posterior_is_red():
    result = grade(make_posterior(sd=0.35))
    assert result.case == "red"
    assert result.fraction["red"] > 0.9


def test_cases_get_worse_as_the_posterior_widens():
    order = ["green", "amber", "red"]
    cases = [order.index(grade(make_posterior(sd=sd)).case) for sd in (0.02, 0.1, 0.13, 0.3)]
    assert cases == sorted(cases)
    assert set(cases) == {0, 1, 2}


def test_local_grade_is_the_exceedance_cut_at_5_and_25_percent():
    posterior = make_posterior(sd=0.07, swell=2.5)
    result = grade(posterior)
    brute = np.mean(np.abs(posterior.draws - posterior.estimate) > 2.0, axis=0)
    assert np.array_equal(result.exceedance, brute)
    assert np.array_equal(result.local, np.where(brute < 0.05, 0, np.where(brute <= 0.25, 1, 2)))
    assert sum(result.fraction.values()) == pytest.approx(1.0)
    assert set(result.local) == {0, 1, 2}


@pytest.mark.parametrize(
    ("angle", "words"),
    [
        (np.pi, "towards the patient's left ("),
        (0.0, "towards the patient's right ("),
        (np.pi / 2, "towards the patient's front ("),
        (-np.pi / 2, "towards the patient's back ("),
        (-3 * np.pi / 4, "towards the patient's "),
    ],
)
def test_reason_names_the_worst_direction(angle, words):
    posterior = make_posterior(axes=(12.0, 12.0), sd=0.05, swell=4.0, swell_at=angle)
    sentence = grade(posterior).reasons[1]
    assert "of the boundary may be off by more than 2.0 mm" in sentence
    assert words in sentence
    assert "half-width" in sentence


def test_directions_follow_the_frame_of_the_slice():
    plane = make_posterior(draws=100).chart.plane
    assert direction_words(plane, (-1.0, -1.0)) == "towards the patient's left and back"
    assert [direction_letter(plane, d) for d in ((1.0, 0.0), (-1.0, 0.1), (0.0, 1.0))] == [
        "R",
        "L",
        "A",
    ]
    coronal = replace(plane, frame=np.array([[1.0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]]))
    assert direction_words(coronal, (0.0, 1.0)) == "towards the patient's head"
    assert direction_letter(coronal, (0.0, -1.0)) == "I"


def test_a_fit_that_failed_is_red_everywhere_with_its_reasons():
    """Negative control: the same draws are green when the diagnostics pass."""
    failed = Diagnostics(converged=False, ess_min=12.0, khat=1.4, reasons=("khat is 1.40",))
    result = grade(make_posterior(sd=0.02, diagnostics=failed))
    assert result.case == "red"
    assert np.all(result.local == 2)
    assert result.fraction["red"] == pytest.approx(1.0)
    assert "Khat is 1.40." in result.reasons
    assert grade(make_posterior(sd=0.02)).case == "green"


def test_expected_surface_dice_equals_the_metric_averaged_over_draws():
    posterior = make_posterior(sd=0.12, draws=120)
    estimate = posterior.chart.surface(posterior.estimate)
    brute = np.mean(
        [surface_distances(curve, estimate).surface_dice(2.0) for curve in posterior.curves(120)]
    )
    assert expected_surface_dice(posterior, 2.0) == pytest.approx(brute, abs=0.01)


def test_grade_does_not_depend_on_the_unit_or_place():
    small, large = make_posterior(sd=0.1), make_posterior(sd=0.1, axes=(140.0, 100.0))
    first, second = grade(small, 2.0), grade(large, 20.0)
    assert np.array_equal(first.local, second.local)
    assert first.expected_surface_dice == pytest.approx(second.expected_surface_dice)
    moved = make_posterior(sd=0.1, centre=(-50.0, 300.0))
    assert grade(moved, 2.0).expected_surface_dice == pytest.approx(first.expected_surface_dice)


def test_a_wider_tolerance_never_makes_it_worse():
    posterior = make_posterior(sd=0.1)
    results = [grade(posterior, tolerance) for tolerance in (0.5, 1.0, 2.0, 4.0)]
    for tight, wide in itertools.pairwise(results):
        assert np.all(wide.exceedance <= tight.exceedance)
        assert wide.expected_surface_dice >= tight.expected_surface_dice


def test_every_reason_is_one_sentence():
    for sd in (0.02, 0.1, 0.3):
        for reason in grade(make_posterior(sd=sd)).reasons:
            assert not reason[0].islower()
            assert reason.endswith(".")
            assert "\n" not in reason


def test_pixels_need_their_own_tolerance():
    pixels = make_posterior(spacing=None, sd=0.05)
    with pytest.raises(InputError, match="pass `tolerance_px`"):
        grade(pixels)
    with pytest.raises(InputError, match="pass `tolerance_px`"):
        grade(pixels, tolerance_mm=2.0)
    with pytest.raises(InputError, match="pass `tolerance_mm`"):
        grade(make_posterior(), tolerance_px=2.0)
    result = grade(pixels, tolerance_px=2.0)
    assert result.unit == "px"
    assert "degrees counter-clockwise" in result.reasons[1]
    with pytest.raises(InputError, match="not millimetres"):
        _ = result.tolerance_mm


@pytest.mark.parametrize("tolerance", [0.0, -1.0, float("nan"), float("inf")])
def test_a_tolerance_must_be_a_positive_length(tolerance):
    with pytest.raises(InputError, match="positive length"):
        grade(make_posterior(), tolerance)


def test_grading_is_quick():
    posterior = make_posterior(draws=2000)
    grade(posterior)
    start = time.perf_counter()
    grade(posterior)
    assert time.perf_counter() - start < 2.0


def test_a_doubtful_target_is_no_better_than_amber_and_an_unlikely_one_red():
    sharp = make_posterior(sd=0.005)
    assert grade(sharp).case == "green"
    cases = [grade(replace(sharp, presence=p)).case for p in (0.96, 0.94, 0.51, 0.49)]
    assert cases == ["green", "amber", "amber", "red"]
    assert "probability 49% only" in grade(replace(sharp, presence=0.49)).reasons[0]
    assert len(grade(replace(sharp, presence=0.96)).reasons) == len(grade(sharp).reasons)


def test_an_uncertain_size_is_no_better_than_amber():
    """Half the 95% interval of the area: 2 sd of the mean log radius times 2."""
    sizes = [make_posterior(axes=(4.0, 3.5), sd=sd) for sd in (0.05, 0.2, 0.6)]
    graded = [grade(posterior, 5.0) for posterior in sizes]
    assert [g.case for g in graded] == ["green", "amber", "red"]
    assert "The area is known to within" in graded[1].reasons[0]
    assert graded[1].trusted_to is None


def test_a_finding_caps_the_grade_everywhere_and_says_so():
    sharp = make_posterior(sd=0.005)
    for cap, code in (("amber", 1), ("red", 2)):
        checks = replace(sharp.diagnostics, findings=(Finding(cap, "the image disagrees"),))
        graded = grade(replace(sharp, diagnostics=checks))
        assert graded.case == cap
        assert (graded.local == code).all()
        assert graded.reasons[0] == "The image disagrees."
        assert graded.trusted_to is None


def test_what_a_contour_can_be_trusted_to_is_said():
    posterior = make_posterior(sd=0.1)
    tight, wide = grade(posterior, 0.5), grade(posterior, 20.0)
    assert wide.case == "green"
    assert tight.trusted_to == wide.trusted_to
    assert tight.trusted_to is not None
    assert grade(posterior, tight.trusted_to + 1e-9).case == "green"
    assert grade(posterior, 0.9 * tight.trusted_to).case != "green"
    assert tight.reasons[-1].startswith("At a tolerance of")
    assert "is green" in tight.reasons[-1]


BODIES = {
    "a slice": make_posterior(sd=0.05, swell=1.0, seed=4),
    "pixels": make_posterior(sd=0.07, spacing=None),
    "few draws": make_posterior(sd=0.08, draws=101),
    "a surface": make_surface(draws=200, sd=0.06),
}


@pytest.mark.parametrize("posterior", BODIES.values(), ids=BODIES)
def test_it_is_green_from_the_tolerance_it_is_trusted_to_on_and_below_it_not(posterior):
    """The whole, and every place by itself: the rule of the grade turned around, exactly."""
    graded = grades_of(posterior)
    one = graded(1.0)
    assert one.trusted_to is not None
    assert graded(one.trusted_to * (1 + 1e-9)).case == "green"
    assert graded(one.trusted_to * 0.99).case != "green"
    assert one.local_trusted_to.shape == one.local.shape
    for site, needed in enumerate(one.local_trusted_to):
        if site % (1 + len(one.local) // 24) == 0:
            assert graded(needed * (1 + 1e-9)).local[site] == 0
            assert graded(needed * 0.99).local[site] > 0
    every = np.sort(one.local_trusted_to)
    assert (graded(every[-1]).local == 0).all()
    assert graded(every[0]).fraction["green"] < 0.1  # negative control: one place's is not all's
    assert graded(7.0).trusted_to == one.trusted_to
    np.testing.assert_array_equal(graded(7.0).local_trusted_to, one.local_trusted_to)


def test_no_place_is_trusted_where_something_speaks_against_the_whole():
    sharp = make_posterior(sd=0.02)
    assert np.isfinite(grade(sharp).local_trusted_to).all()
    checks = sharp.diagnostics
    for doubted in (
        replace(checks, findings=(Finding("amber", "the image disagrees"),)),
        replace(checks, converged=False, reasons=("khat is 1.40",)),
    ):
        graded = grade(replace(sharp, diagnostics=doubted), 1e3)
        assert graded.case != "green"
        assert np.isinf(graded.local_trusted_to).all()
        assert graded.trusted_to is None
        assert graded.trust == "trusted at no tolerance"
        assert any(word in graded.reasons[0] for word in ("disagrees", "did not pass"))


def test_what_it_is_trusted_to_is_never_said_too_small():
    for length in (4.02, 4.0, 0.96, 0.04321, 12.3999, 1.1, 0.3):
        words = trust_in_words(length, "mm")
        assert length <= float(words.split()[2]) <= 1.06 * length + 0.1
    assert trust_in_words(0.04321, "mm") == "trusted to 0.044 mm"


def test_below_half_a_pixel_nothing_is_green():
    sharp = make_posterior(sd=0.005)
    coarse = replace(sharp, diagnostics=replace(sharp.diagnostics, voxel=5.0))
    assert grade(sharp, 2.0).case == "green"
    graded = grade(coarse, 2.0)
    assert graded.case == "amber"
    assert graded.trusted_to == 2.5
    assert (graded.local_trusted_to == 2.5).all()  # no place is told finer than that either
    assert "At 2.0 mm no contour of this image can be green" in graded.reasons[-1]
    assert grade(coarse, 2.5).case == "green"


@pytest.fixture(scope="module")
def confined() -> Callable[[float], Posterior]:
    """Offsets of a ball of 10 mm, up to 5 mm and on a tenth of it 2 mm, of which draws are spread
    evenly over a share of the room."""
    sites = sphere_sites(8)
    ball = offset_mesh_chart(Mesh(10.0 * sites.directions, sites.triangles), 5.0, 1.0, 81)
    right = sites.directions[:, 0] > 0.8
    ends = np.where(right, 2.0, 5.0)
    chart = replace(ball, limits=np.stack([-ends, ends], axis=1))
    level = np.linspace(-1.0, 1.0, 400)[:, None]

    def made(share: float) -> Posterior:
        draws = (share * level * ends)[None]
        return Posterior(chart, draws, {}, Diagnostics(True, 400.0), "laplace", 0, "ball")

    return made


def test_where_boundaries_have_no_room_nothing_is_green_or_trusted(confined):
    lost = confined(1.0)
    for tolerance in (1.95, 2.05, 4.9, 20.0):
        found = grade(lost, tolerance_mm=tolerance)
        assert found.case != "green"
        assert found.local.min() >= 1
        assert found.trusted_to is None
        assert np.isinf(found.local_trusted_to).all()
        assert "less room" in " ".join(found.reasons)
    known = grade(confined(0.1), tolerance_mm=1.0)
    assert known.case == "green"
    assert known.local.max() == 0
    assert known.trusted_to is not None
    assert known.local_trusted_to.max() < 1.0
