"""Do margins cover what they promise to, by voxels and on simulated truths, and no more?"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

import aistat_jax as aj
from aistat_jax._errors import InputError
from aistat_jax._record import replace
from aistat_jax.inference.posterior import Posterior
from aistat_jax.planning.margins import covered_share
from aistat_jax.space.offset import offset_chart
from aistat_jax.space.ring import ring_chart
from aistat_jax.space.sphere import sphere_chart
from tests.helpers import TRUSTED, circle, make_posterior, make_surface, smooth_draws

TRUTHS, SHARE, PROBABILITY = 200, 0.98, 0.9
# A margin that is right covers fewer truths than this once in a thousand.
FEWEST = int(binom.ppf(0.001, TRUTHS, PROBABILITY))


def ring_posterior() -> Posterior:
    star = make_posterior(axes=(16.0, 13.0), draws=300)
    chart = ring_chart(star.chart.centre, 40.0, star.chart.plane, 128)
    wave = smooth_draws(star.chart.angles, 300, 0.05, 7)
    inner = 8.0 * np.exp(wave)
    return replace(star, chart=chart, radii=np.concatenate([star.radii, inner[None]], axis=-1))


def offset_posterior() -> Posterior:
    star = make_posterior(draws=300)
    chart = offset_chart(circle(12.0, tuple(star.chart.centre), 400), 6.0, star.chart.plane)
    angles = 2 * np.pi * np.arange(chart.sites) / chart.sites
    return replace(star, chart=chart, radii=smooth_draws(angles, 300, 1.0, 8)[None])


MADE = {
    "star": lambda: make_posterior(draws=300, swell=1.5),
    "sphere": lambda: make_surface(swell=1.0),
    "ring": ring_posterior,
    "offset": offset_posterior,
}


def voxels(posterior: Posterior) -> np.ndarray:
    """Points that fill the neighbourhood of a boundary evenly."""
    edge = posterior.chart.points(posterior.draws.max(axis=0))
    low, high = edge.min(axis=0) - 1, edge.max(axis=0) + 1
    step = 0.25 if len(low) == 2 else 1.0
    axes = [np.arange(a, b, step) for a, b in zip(low, high, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(low))


@pytest.mark.parametrize("kind", list(MADE))
def test_shares_are_those_of_voxels(kind):
    posterior = MADE[kind]()
    chart, draws = posterior.chart, posterior.draws[-20:]
    margin = aj.coverage_margin(posterior, share=0.95, probability=0.8)
    points = voxels(posterior)
    outer, inner = (chart.inside(margin.values(w)[None], points)[0] for w in ("outer", "inner"))
    for draw, region in zip(draws, chart.inside(draws, points), strict=True):
        sectors = chart.sectors(draw[None])
        counted = (region & outer).sum() / region.sum()
        found = covered_share(sectors, chart.sectors(margin.outer))[0]
        assert found == pytest.approx(counted, abs=0.004)
        assert covered_share(chart.sectors(margin.inner)[None], sectors[0])[0] == pytest.approx(
            (region & inner).sum() / inner.sum(), abs=0.004
        )
    assert (inner <= outer).all()
    assert margin.content("inner") < margin.content("median") < margin.content("outer")


@pytest.mark.parametrize("kind", list(MADE))
def test_it_is_the_least_of_its_family_and_grows_with_what_is_asked(kind):
    posterior = MADE[kind]()
    asked = [(0.9, 0.8), (0.95, 0.8), (0.95, 0.9), (0.97, 0.95)]
    found = [aj.coverage_margin(posterior, share=s, probability=p) for s, p in asked]
    sizes = [margin.content() for margin in found]
    assert sizes == sorted(sizes)
    cores = [margin.content("inner") for margin in found]
    assert cores == sorted(cores, reverse=True)
    for margin, (share, probability) in zip(found, asked, strict=True):
        assert margin.outer_covers.probability >= probability
        assert margin.inner_covered.probability >= probability
        halfway = margin.median + 0.5 * (margin.outer - margin.median)
        sectors = posterior.chart.sectors(posterior.draws)
        shares = covered_share(sectors, posterior.chart.sectors(halfway))
        assert (shares >= share).mean() < probability


def test_contours_of_probability_cost_least_for_what_they_cover_in_the_mean():
    posterior = make_posterior(swell=3.0, draws=4000)
    chart = posterior.chart
    margin = aj.coverage_margin(posterior, share=0.99, probability=None)
    assert margin.outer_covers.expected == pytest.approx(0.99, abs=0.002)
    sectors = chart.sectors(posterior.draws)
    even = margin.median + np.linspace(0, 8, 400)[:, None]  # the same all round
    shares = [covered_share(sectors, chart.sectors(each)).mean() for each in even]
    enough = even[int(np.argmax(np.array(shares) >= margin.outer_covers.expected))]
    assert margin.content() < 0.97 * float(chart.content(enough))


# ------------------------------------------------------------------------------ simulated truths


def star_truths(rng: np.random.Generator) -> list[tuple[Posterior, np.ndarray]]:
    """Posteriors whose truth is one more draw: calibrated by how they are made."""
    found = []
    for n in range(TRUTHS):
        made = make_posterior(draws=401, rays=64, swell=2.0, seed=int(rng.integers(2**31)) + n)
        found.append((replace(made, radii=made.radii[:, 1:]), made.draws[0]))
    return found


def surface_truths(rng: np.random.Generator) -> list[tuple[Posterior, np.ndarray]]:
    """The same in space, with waves of the fourth degree."""
    chart = sphere_chart(np.zeros(3), 60.0, "mm")
    basis = np.asarray(chart.basis(4).functions)
    found = []
    for _ in range(TRUTHS):
        wave = 0.05 * rng.standard_normal((201, basis.shape[1])) @ basis.T
        values = 15.0 * np.exp(wave / 2)
        found.append((Posterior(chart, values[None, 1:], {}, TRUSTED, "laplace", 0), values[0]))
    return found


@pytest.mark.parametrize("truths", [star_truths, surface_truths])
def test_simulated_truths_are_covered_and_not_without_a_margin(truths, rng):
    held, core, bare, narrow = [], [], [], []
    for posterior, truth in truths(rng):
        chart = posterior.chart
        margin = aj.coverage_margin(posterior, share=SHARE, probability=PROBABILITY)
        sectors = chart.sectors(truth[None])

        def covered(values, sectors=sectors, chart=chart):
            return covered_share(sectors, chart.sectors(values))[0] >= SHARE

        held.append(covered(margin.outer))
        bare.append(covered(margin.median))
        narrow.append(covered(margin.median + 0.5 * (margin.outer - margin.median)))
        core.append(covered_share(chart.sectors(margin.inner)[None], sectors[0])[0] >= SHARE)
    assert min(sum(held), sum(core)) >= FEWEST
    assert sum(held) <= binom.ppf(0.999, TRUTHS, PROBABILITY + 0.02)  # and does not overdo it
    assert max(sum(bare), sum(narrow)) < FEWEST


# ----------------------------------------------------------------------------------- the recipe


def still_ball(sd: float = 1.0) -> Posterior:
    chart = sphere_chart(np.array([5.0, -3.0, 40.0]), 60.0, "mm")
    rng = np.random.default_rng(0)
    scale = rng.standard_normal(4000)
    scale = (scale - np.median(scale)) / scale.std(ddof=1)
    radii = 20.0 + sd * scale[:, None] * np.ones(chart.sites)
    return Posterior(chart, radii[None], {}, TRUSTED, "laplace", 0)


def test_the_recipe_is_what_van_herk_says_along_every_axis():
    margin = aj.van_herk_margin(
        still_ball(), systematic_mm=(1.0, 2.0, 3.0), random_mm=(0.5, 1.0, 2.0)
    )
    for letters, systematic, random in zip(
        ("RL", "AP", "SI"), (1.0, 2.0, 3.0), (0.5, 1.0, 2.0), strict=True
    ):
        wanted = 2.5 * np.hypot(1.0, systematic) + 0.7 * random
        for letter in letters:
            assert margin.by_axis()[letter] == pytest.approx(wanted, rel=0.01)
    along = margin.directions
    systematic = np.sqrt(1 + (along**2 * [1.0, 4.0, 9.0]).sum(axis=1))
    random = np.linalg.norm(along * [0.5, 1.0, 2.0], axis=1)
    assert np.allclose(margin.by_site(), 2.5 * systematic + 0.7 * random, rtol=0.01)
    assert margin.outer_covers.probability == pytest.approx(1.0)
    with pytest.raises(InputError, match="no inner contour"):
        margin.surface("inner")


def test_an_error_of_the_whole_shape_is_a_margin_along_the_normal():
    flat = make_posterior(axes=(16.0, 10.0), sd=1e-6, rays=256)
    margin = aj.van_herk_margin(flat, systematic_mm=2.0)
    outer, median = margin.surface(), margin.surface("median")
    away = median.distance_to(outer.points)
    assert np.allclose(away, 5.0, atol=0.3)
    along_rays = aj.Curve(flat.chart.points(margin.median + 5.0))  # the control
    assert median.distance_to(along_rays.points).min() < 4.65


def test_axes_are_the_patient_s_and_follow_the_side_that_is_uncertain():
    posterior = make_posterior(swell=4.0, swell_at=np.pi)  # the patient's left is -x
    margin = aj.coverage_margin(posterior)
    axes = margin.by_axis()
    assert set(axes) == {"R", "L", "A", "P"}
    assert axes["L"] > 2 * axes["R"]
    for letter, direction in (("R", (1, 0)), ("L", (-1, 0)), ("A", (0, 1)), ("P", (0, -1))):
        reach = [float((margin.surface(w).points @ direction).max()) for w in ("outer", "median")]
        assert axes[letter] == pytest.approx(reach[0] - reach[1])
    assert np.allclose(np.linalg.norm(margin.directions, axis=1), 1.0)
    assert "expected coverage margin, mm: R" in str(margin)


def test_a_ring_s_margin_grows_into_its_hole():
    posterior = ring_posterior()
    margin = aj.coverage_margin(posterior)
    half = posterior.chart.sites // 2
    assert (margin.by_site() > -1e-9).all()
    assert (margin.outer[half:] < margin.median[half:]).all()
    assert np.allclose(margin.directions[:half], -margin.directions[half:])


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"share": 1.0}, "share must lie strictly between 0 and 1"),
        ({"probability": 0.0}, "probability must lie strictly"),
        ({"probability": 0.9999}, "fit again with more draws"),
    ],
)
def test_what_cannot_be_told_is_refused(asked, words):
    with pytest.raises(InputError, match=words):
        aj.coverage_margin(make_posterior(draws=200, sd=0.3), **asked)


def test_draws_that_others_say_nothing_of_are_refused():
    posterior = make_posterior(draws=400, sd=0.02)
    wide = np.concatenate([posterior.radii[:, :200], 3 * posterior.radii[:, 200:]], axis=1)
    with pytest.raises(InputError, match="no contour .* covers as much"):
        aj.coverage_margin(replace(posterior, radii=wide))


def test_recipes_refuse_what_is_no_length():
    posterior = make_posterior(draws=200)
    with pytest.raises(InputError, match="systematic_mm must be one length"):
        aj.van_herk_margin(posterior, systematic_mm=(1.0, 2.0))
    with pytest.raises(InputError, match="random_mm must be one length"):
        aj.van_herk_margin(posterior, random_mm=-1.0)
    with pytest.raises(InputError, match="the image has no spacing"):
        aj.van_herk_margin(make_posterior(spacing=None))
    with pytest.raises(InputError, match="at least 100 posterior draws"):
        aj.van_herk_margin(make_posterior(draws=50))
    with pytest.raises(InputError, match="outer, median or inner"):
        aj.van_herk_margin(posterior).surface("middle")


def test_an_error_along_one_axis_moves_what_faces_it():
    """Of an ellipse seen from its middle: at its flat side all of it, at its ends nothing."""
    flat = make_posterior(axes=(30.0, 10.0), sd=1e-6, rays=256)
    across = aj.van_herk_margin(flat, systematic_mm=(0.0, 0.4, 0.0)).by_axis()
    assert across["A"] == pytest.approx(1.0, abs=0.1)
    assert across["R"] < 0.3
    along = aj.van_herk_margin(flat, systematic_mm=(0.4, 0.0, 0.0)).by_axis()
    assert along["R"] == pytest.approx(1.0, abs=0.1)
    assert along["A"] < 0.3
