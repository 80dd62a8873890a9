"""Are simulated data those of the likelihood that is fitted to them?"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

import aistat_jax as aj
from aistat_jax._errors import InputError
from aistat_jax.boundary.evidence import NOTHING, Evidence
from aistat_jax.boundary.families import StepPrior
from aistat_jax.boundary.model import BoundaryModel
from aistat_jax.boundary.observed import voxels_of
from tests.boundary import brute

LEVELS = (1.0, 4.0, 0.5)


def a_model(evidence: Evidence | None = None, **how: object) -> BoundaryModel:
    chart = brute.a_chart()
    if evidence is None:
        image = brute.step_image(np.random.default_rng(0), chart)
        evidence = aj.intensity(image, temper=1.0, **({"blur": 2.3} | how))
    return aj.boundary_model(
        brute.a_target(chart), evidence, rays=64, radius_max=brute.RADIUS_MAX, harmonics=8
    )


def boundary(model: BoundaryModel) -> np.ndarray:
    return brute.boundaries(model.chart, 1)[0]


def test_an_image_has_the_stated_levels_noise_and_blurred_bent_edge():
    """Seed 3; each bound is 4.5 standard errors: false alarms below 1e-5."""
    model = a_model()
    radii = boundary(model)
    image = aj.simulate_image(model, radii, levels=LEVELS, seed=3)
    again = a_model(aj.intensity(image, blur=2.3, temper=1.0))
    (voxels,) = voxels_of(again)
    shared, term = voxels.shared, again.data.terms[0]
    seen = np.asarray(term.apparent(radii))
    h = stats.norm.cdf((seen[shared.site] - shared.position) / float(term.blur))
    inside = np.bincount(shared.voxel, shared.share * h)
    noise = voxels.values - 1.0 - 3.0 * inside
    count = len(noise)
    assert abs(noise.mean()) < 4.5 * 0.5 / np.sqrt(count)
    assert abs(noise.std() / 0.5 - 1) < 4.5 / np.sqrt(2 * count)
    edge = np.abs(inside - 0.5) < 0.4
    assert edge.sum() > 50
    slope = (noise * (inside - 0.5))[edge]
    assert abs(slope.mean()) < 4.5 * slope.std() / np.sqrt(edge.sum())
    straight = stats.norm.cdf((radii[shared.site] + 2 - shared.position) / float(term.blur))
    wrong = voxels.values - 1.0 - 3.0 * np.bincount(shared.voxel, shared.share * straight)
    assert abs(wrong.mean()) > 4.5 * 0.5 / np.sqrt(count)  # another boundary is noticed


def test_levels_come_from_the_prior_of_the_term():
    """Seeds 0 to 299 at far voxels: the outside level is a t about its prior mean, KS at 1e-3."""
    prior = StepPrior(np.array([2.0, 3.0]), np.array([1.0, 4.0]), np.asarray(8.0), np.asarray(8.0))
    far = np.array([[60.0, 0.0]] * 200) + brute.CENTRE
    points = np.concatenate([far, brute.CENTRE + np.eye(2)])
    evidence = aj.point_intensity(points, np.arange(202.0), family="blurred", blur=1.0, prior=prior)
    model = a_model(evidence)
    radii = boundary(model)
    means = []
    for seed in range(300):
        (piece,) = aj.simulate(model, radii, seed=seed).pieces
        means.append(piece.values[:200].mean())
    law = stats.t(16, loc=2.0, scale=np.sqrt(1.0 + 1 / 200))
    assert stats.kstest(means, law.cdf).pvalue > 1e-3
    assert stats.kstest(np.array(means) + 0.3, law.cdf).pvalue < 1e-3


def test_noise_can_be_alike_among_neighbours_or_grow_with_uptake():
    model = a_model()
    radii = boundary(model)
    white, smooth = (
        aj.simulate_image(model, radii, levels=(0.0, 0.0, 1.0), correlation_px=c, seed=1)
        for c in (0.0, 2.0)
    )
    neighbours = [
        np.mean(image["PT"].values[1:] * image["PT"].values[:-1]) for image in (white, smooth)
    ]
    assert abs(neighbours[0]) < 4.5 / np.sqrt(white["PT"].values.size)
    assert abs(neighbours[1] - np.exp(-0.25)) < 0.25
    uneven = a_model(noise="poisson")
    depth = uneven.chart.polar(uneven.chart.plane.points())[0]
    core, far = [], []
    for seed in range(10):
        image = aj.simulate_image(uneven, radii, levels=(1.0, 9.0, 0.5), seed=seed)
        core.append(image["PT"].values[depth < 4, 0].std())
        far.append(image["PT"].values[depth > 25, 0].std())
    assert 2.2 < np.mean(core) / np.mean(far) < 3.6  # the root of nine, less the smoothing


def test_raters_and_clicks_are_drawn_about_the_boundary():
    """Seed 4: mean squares against chi-square, false alarms of 1e-3 each."""
    chart = brute.a_chart()
    radii = brute.boundaries(chart, 1)[0]
    circle = chart.surface(np.full(64, brute.RADIUS))
    clicks = chart.points(radii)[::2]
    evidence = aj.raters([circle] * 30, sd=0.4) + aj.anchors(clicks, sd=0.3)
    drawn = aj.simulate(a_model(evidence), radii, seed=4).pieces
    errors = [chart.values_of(curve) - radii for curve in drawn[0].curves]
    spread = np.mean([error[5] for error in errors]), np.std([error[5] for error in errors])
    assert abs(spread[0]) < 3.3 * 0.4 / np.sqrt(30)
    assert stats.chi2(30).ppf(5e-4) < 30 * (spread[1] / 0.4) ** 2 < stats.chi2(30).ppf(1 - 5e-4)
    off = (chart.polar(drawn[1].points)[0] - radii[::2]) / 0.3
    assert stats.chi2(32).ppf(5e-4) < (off**2).sum() < stats.chi2(32).ppf(1 - 5e-4)


@pytest.mark.parametrize("heavy", [False, True])
def test_clicks_are_drawn_of_their_law(heavy):
    """Seed 5, false alarms of 1e-3; the control is the other law."""
    chart = brute.a_chart()
    radii = brute.boundaries(chart, 1)[0]
    model = a_model(aj.anchors(np.tile(chart.points(radii)[::2], (80, 1)), sd=0.1, heavy=heavy))
    drawn = aj.simulate(model, radii, seed=5).pieces[0].points
    off = (chart.polar(drawn)[0] - np.tile(radii[::2], 80)) / 0.1
    one, other = (stats.t(2), stats.norm) if heavy else (stats.norm, stats.t(2))
    assert stats.kstest(off, one.cdf).pvalue > 1e-3
    assert stats.kstest(off, other.cdf).pvalue < 1e-6


def test_hard_steps_are_drawn_in_their_own_family():
    counts = np.random.default_rng(0).poisson(3.0, (32, 32))
    image = aj.Image.from_arrays(PT=counts, spacing_mm=2.0)
    model = a_model(aj.intensity(image, family="poisson", temper=1.0))
    radii = boundary(model)
    values = aj.simulate_image(model, radii, levels=(2.0, 9.0), seed=0)["PT"].values[:, :, 0]
    depth = model.chart.polar(model.chart.plane.points())[0]
    assert (values == np.rint(values)).all()
    assert abs(values[depth < 5].mean() - 9) < 4.5 * 3 / np.sqrt((depth < 5).sum())
    assert abs(values[depth > 25].mean() - 2) < 4.5 * np.sqrt(2 / (depth > 25).sum())


def test_what_cannot_be_simulated_is_refused():
    model = a_model()
    radii = boundary(model)
    with pytest.raises(InputError, match=r"state levels=\(outside, inside, sd\)"):
        aj.simulate(model, radii)
    with pytest.raises(InputError, match=r"levels must be \(outside, inside, sd\)"):
        aj.simulate(model, radii, levels=(1.0, 2.0))
    with pytest.raises(InputError, match="64 values above 0"):
        aj.simulate(model, -radii, levels=LEVELS)
    own = a_model(aj.term(lambda r: r.sum()))
    with pytest.raises(InputError, match="does not say how its data come about"):
        aj.simulate(own, radii)
    clicks = a_model(aj.anchors([[31.0, 20.0]]))
    with pytest.raises(InputError, match="reads no image"):
        aj.simulate_image(clicks, radii)
    with pytest.raises(InputError, match="keeps no evidence"):
        aj.simulate(aj.replace(model, evidence=NOTHING), radii)
