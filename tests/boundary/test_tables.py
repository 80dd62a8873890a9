"""Is a look-up in the tables the sum over voxels it stands for, with its derivatives?"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from aistat_jax.boundary.evidence import log_likelihood
from aistat_jax.boundary.intensity import intensity, point_intensity
from aistat_jax.boundary.opinions import anchors, logits, raters
from aistat_jax.boundary.samples import poisson_precisions
from aistat_jax.boundary.tables import NODES_PER_BLUR, smooth_table
from aistat_jax.space.curve import Curve
from aistat_jax.space.image import Image
from tests.boundary import brute

RELATIVE = 1e-9
HYPER = {
    "gaussian": (0.4, 0.3, 1.5, 0.8),
    "bernoulli": (1.3, 2.1, 0.0, 0.0),
    "poisson": (1.7, 0.6, 0.0, 0.0),
}


def close(a: float, b: float) -> bool:
    return abs(a - b) <= RELATIVE * max(abs(b), 1.0)


def hard_values(family: str, rng: np.random.Generator, level: np.ndarray) -> np.ndarray:
    if family == "bernoulli":
        return (rng.uniform(size=level.shape) < 0.2 + 0.15 * level).astype(float)
    if family == "poisson":
        return rng.poisson(np.maximum(2 * level, 0.1)).astype(float)
    return level


# ------------------------------------------------------------------------ blurred step


@pytest.mark.parametrize("eta", [1.0, 0.13])
def test_blurred_step_on_a_grid_is_the_sum_over_voxels(rng, eta):
    chart = brute.a_chart()
    image = brute.step_image(rng, chart)
    evidence = intensity(image, blur=2.3, temper=eta, prior=brute.STEP_PRIOR, curved=False)
    points, y, width = brute.voxels_of(image, "PT", chart)
    shared = chart.share(points, width)
    blur = np.sqrt(2.3**2 + width**2 / 12)
    for radii in brute.boundaries(chart):
        value = brute.table_value(evidence, chart, radii)
        assert close(value, brute.blurred(shared, y, radii, blur, eta))
        # negative controls: a boundary off by a nanometre, a blur off by 0.1%, another temper
        assert not close(value, brute.blurred(shared, y, radii + 1e-6, blur, eta))
        assert not close(value, brute.blurred(shared, y, radii, 1.001 * blur, eta))
        assert not close(value, brute.blurred(shared, y, radii, blur, 0.99 * eta))


def test_blurred_step_standardises_unless_given_a_prior(rng):
    chart = brute.a_chart()
    image = brute.step_image(rng, chart)
    points, y, width = brute.voxels_of(image, "PT", chart)
    shared = chart.share(points, width)
    weak = brute.StepPrior(np.zeros(2), np.full(2, 1e-4), np.asarray(0.5), np.asarray(0.05))
    blur = np.sqrt(3.0**2 + width**2 / 12) if image["PT"].quantity == "SUV" else None
    assert blur is not None
    radii = brute.boundaries(chart, 1)[0]
    value = brute.table_value(intensity(image, temper=1.0, curved=False), chart, radii)
    z = (y - np.median(y)) / y.std()
    assert close(value, brute.blurred(shared, z, radii, blur, prior=weak))
    assert not close(value, brute.blurred(shared, y, radii, blur, prior=weak))


def test_blurred_step_at_scattered_points_reaches_past_the_chart(rng):
    """Points beyond the chart's outer radius are evidence too; so are boundaries at its edge."""
    chart = brute.a_chart()
    points = chart.centre + rng.uniform(-34, 34, (1500, 2))
    y = brute.step_values(rng, chart, points)
    evidence = point_intensity(points, y, family="blurred", blur=2.7, prior=brute.STEP_PRIOR)
    shared = chart.share(points)
    for radii in [*brute.boundaries(chart), np.full(64, chart.radius_max)]:
        value = brute.table_value(evidence, chart, radii)
        assert close(value, brute.blurred(shared, y, radii, 2.7))
        assert not close(value, brute.blurred(shared, y, radii + 1e-6, 2.7))


def test_blurred_step_is_a_multivariate_t_density(rng):
    """Points on the rays are not shared, so that the likelihood is a density of the image."""
    chart = brute.a_chart()
    ray = rng.integers(0, 64, 150)
    radius = rng.uniform(2, 25, 150)
    points = chart.centre + radius[:, None] * chart.directions[ray]
    y = brute.step_values(rng, chart, points)
    evidence = point_intensity(points, y, family="blurred", blur=1.9, prior=brute.STEP_PRIOR)
    for radii in brute.boundaries(chart):
        h, off = (stats.norm.cdf((r[ray] - radius) / 1.9) for r in (radii, radii + 1e-5))
        value = brute.table_value(evidence, chart, radii)
        assert close(value, brute.student(y, h, brute.STEP_PRIOR))
        assert not close(value, brute.student(y, off, brute.STEP_PRIOR))


def test_noise_that_grows_with_uptake_has_a_density_of_its_own(rng):
    """sqrt(v) y is a regression with equal noise; the density of y has sqrt(v) besides."""
    chart = brute.a_chart()
    image = brute.step_image(rng, chart)
    points, y, width = brute.voxels_of(image, "PT", chart)
    near = chart.polar(chart.plane.points())[0] <= chart.radius_max
    v = poisson_precisions(image["PT"].values[:, :, 0])[near]
    v = v / v.mean()
    shared, eta = chart.share(points, width), 0.4
    blur = np.sqrt(2.3**2 + width**2 / 12)
    how = {"blur": 2.3, "temper": eta, "prior": brute.STEP_PRIOR, "curved": False}
    radii = brute.boundaries(chart, 1)[0]
    value = brute.table_value(intensity(image, noise="poisson", **how), chart, radii)
    h = stats.norm.cdf(radii[shared.site], loc=shared.position, scale=blur)
    x, weight = np.stack([np.ones_like(h), h], axis=1), eta * shared.share * v[shared.voxel]
    equal = brute.linear_regression(y[shared.voxel], x, weight, brute.STEP_PRIOR)
    assert close(value, equal + 0.5 * eta * np.log(v).sum())
    assert not close(value, equal)


# --------------------------------------------------------------------------- hard steps


@pytest.mark.parametrize("family", list(HYPER))
@pytest.mark.parametrize("eta", [1.0, 0.3])
def test_hard_steps_on_a_grid_are_the_sum_over_voxels(rng, family, eta):
    chart = brute.a_chart()
    level = np.clip(brute.step_values(rng, chart, chart.plane.points()), 0, 5)
    image = Image.from_arrays(PT=hard_values(family, rng, level), spacing_mm=2.0)
    evidence = intensity(image, family=family, temper=eta, hyper=HYPER[family])
    points, y, width = brute.voxels_of(image, "PT", chart)
    shared = chart.share(points, width)
    for radii in brute.boundaries(chart):
        value = brute.table_value(evidence, chart, radii)
        assert close(value, brute.hard(shared, y, radii, family, HYPER[family], eta))
        # negative control: half a voxel further out (less may meet no voxel)
        assert not close(value, brute.hard(shared, y, radii + 1.0, family, HYPER[family], eta))
        assert not close(value, brute.hard(shared, y, radii, family, HYPER[family], 0.99 * eta))


@pytest.mark.parametrize("family", list(HYPER))
def test_hard_steps_at_scattered_points_are_the_sum_over_points(rng, family):
    chart = brute.a_chart()
    points = chart.centre + rng.uniform(-34, 34, (1500, 2))
    y = hard_values(family, rng, np.clip(brute.step_values(rng, chart, points), 0, 5))
    evidence = point_intensity(points, y, family=family, hyper=HYPER[family])
    shared = chart.share(points)
    for radii in brute.boundaries(chart):
        value = brute.table_value(evidence, chart, radii)
        assert close(value, brute.hard(shared, y, radii, family, HYPER[family]))
        assert not close(value, brute.hard(shared, y, 1.05 * radii, family, HYPER[family]))


def test_a_smoothed_hard_step_is_blurred_by_its_own_width(rng):
    chart = brute.a_chart()
    points = chart.centre + rng.uniform(-20, 20, (400, 2))
    y = brute.step_values(rng, chart, points)
    with jax.enable_x64(True):
        terms = point_intensity(points, y).tabulate(brute.a_target(chart), chart)
        surrogate = terms[0].smoothed()
        radii = brute.boundaries(chart, 1)[0]
        sums = np.asarray(surrogate.statistics(radii)).sum(axis=0)
    shared = chart.share(points)
    width = np.sqrt(np.pi * chart.radius_max**2 / 400)
    h = shared.share * stats.norm.cdf((radii[shared.site] - shared.position) / width)
    assert surrogate.differentiable
    assert not terms[0].differentiable
    np.testing.assert_allclose(sums[0], h.sum(), rtol=1e-9)


# ------------------------------------------------------------------------------ opinions


def test_logits_are_summed_over_what_lies_inside(rng):
    chart = brute.a_chart()
    image = Image.from_arrays(L=rng.normal(0, 3, (32, 32)), spacing_mm=2.0)
    points, y, width = brute.voxels_of(image, "L", chart)
    shared = chart.share(points, width)
    for radii in brute.boundaries(chart):
        depth = (radii[shared.site] - shared.position) / (width / np.sqrt(12))
        inside = shared.share * y[shared.voxel] * stats.norm.cdf(depth)
        value = brute.table_value(logits(image, temper=0.4), chart, radii)
        scale = np.abs(inside).sum()  # the sum itself may cancel to nothing
        assert abs(value - 0.4 * inside.sum()) < RELATIVE * scale
        assert abs(value - 0.4 * (inside.sum() + 1e-6 * scale)) > RELATIVE * scale


def test_raters_are_a_multivariate_normal(rng):
    chart = brute.a_chart()
    drawn = [r * (1 + 0.05 * np.sin(3 * chart.angles)) for r in (11.0, 12.0, 12.5)]
    curves = [chart.surface(radii) for radii in drawn]
    evidence = raters(curves, sd=1.2, constant_share=0.4, correlation=5.0)
    turn = np.abs(np.subtract.outer(chart.angles, chart.angles))
    arc = np.minimum(turn, 2 * np.pi - turn) * np.mean(drawn)
    covariance = 1.44 * (0.4 + 0.6 * np.exp(-arc / 5.0))
    for radii in brute.boundaries(chart):
        value = brute.table_value(evidence, chart, radii)
        normal = stats.multivariate_normal(radii, covariance)
        assert close(value, normal.logpdf(np.array(drawn)).sum())
        assert not close(value, normal.logpdf(np.array(drawn) + 1e-6).sum())


@pytest.mark.parametrize("heavy", [False, True])
@pytest.mark.parametrize(("kind", "side"), [("edge", 0), ("inside", 1), ("outside", -1)])
def test_anchors_are_densities_and_tails_of_their_law(rng, kind, side, heavy):
    law = stats.t(2) if heavy else stats.norm
    chart = brute.a_chart()
    points = chart.centre + rng.normal(0, 9, (5, 2))
    radius, angle = chart.polar(points)
    for radii in brute.boundaries(chart):
        at = np.interp(angle, np.append(chart.angles, 2 * np.pi), np.append(radii, radii[0]))
        z = (at - radius) / 1.7
        each = law.logcdf(side * z) if side else law.logpdf(z) - np.log(1.7)
        clicks = anchors(points, kind=kind, sd=1.7, heavy=heavy)
        assert close(brute.table_value(clicks, chart, radii), each.sum())
        assert not close(brute.table_value(clicks, chart, radii + 1e-6), each.sum())


# --------------------------------------------------------------------------- derivatives


def every_term(rng):
    chart = brute.a_chart(rays=40)
    image = brute.step_image(rng, chart)
    circle = Curve(chart.points(np.full(40, 12.0)), "mm")
    evidence = (
        intensity(image, blur=2.0, temper=0.5)
        + logits(image, temper=0.1)
        + raters([circle])
        + anchors(chart.centre + np.array([[11.0, 2.0], [-3.0, 12.0]]))
        + anchors(chart.centre + np.array([[4.0, 2.0]]), kind="inside")
        + anchors(chart.centre + np.array([[9.0, -4.0]]), heavy=True)
    )
    return chart, evidence.tabulate(brute.a_target(chart), chart)


def test_gradient_and_hessian_agree_with_differences(rng):
    """Fourth-order central differences, good to about 1e-7 of the scale of each."""
    with jax.enable_x64(True):
        chart, terms = every_term(rng)

        @jax.jit
        def value(radii):
            return log_likelihood(terms, radii)

        gradient = jax.jit(jax.grad(value))
        radii = jnp.asarray(brute.boundaries(chart, 1)[0])
        step = 1e-3
        moves = step * jnp.eye(40)

        def differences(f):
            out = [f(radii + c * m) for m in moves for c in (-2, -1, 1, 2)]
            a, b, c, d = np.moveaxis(np.array(out).reshape(40, 4, -1), 1, 0)
            return (a - 8 * b + 8 * c - d) / (12 * step)

        slope = np.asarray(gradient(radii))
        np.testing.assert_allclose(
            differences(value)[:, 0], slope, rtol=0, atol=1e-7 * np.abs(slope).max()
        )
        bend = np.asarray(jax.jit(jax.hessian(value))(radii))
        np.testing.assert_allclose(
            differences(gradient), bend, rtol=0, atol=1e-7 * np.abs(bend).max()
        )
        np.testing.assert_allclose(bend, bend.T, rtol=0, atol=1e-10 * np.abs(bend).max())
        # negative control: the gradient a thousandth of a millimetre away is another one
        assert np.abs(np.asarray(gradient(radii + 1e-3)) - slope).max() > 1e-6 * np.abs(slope).max()


def test_tables_and_two_derivatives_are_continuous_at_their_nodes(rng):
    with jax.enable_x64(True):
        chart = brute.a_chart(rays=8)
        points = chart.centre + rng.uniform(-20, 20, (200, 2))
        table = smooth_table(chart, chart.share(points), [(rng.normal(size=200), 2)], 2.0)
        read = [lambda r: table(r)[:, 0]]
        for _ in range(2):
            last = read[-1]
            read.append(lambda r, f=last: jax.jvp(f, (r,), (jnp.ones(8),))[1])
        nodes = jnp.full(8, 2.0 / NODES_PER_BLUR * 40)
        for f in map(jax.jit, read):
            np.testing.assert_allclose(f(nodes - 1e-9), f(nodes + 1e-9), rtol=0, atol=1e-7)


@pytest.mark.parametrize("x64", [True, False])
def test_beyond_the_last_node_nothing_changes(rng, x64):
    with jax.enable_x64(x64):
        chart = brute.a_chart(rays=40)
        image = brute.step_image(rng, chart)
        term = intensity(image, blur=2.0, curved=False).tabulate(brute.a_target(chart), chart)
        last = term[0].table.pieces.shape[1] * float(term[0].table.step)
        assert last >= chart.radius_max
        read = jax.jit(jax.value_and_grad(lambda r: log_likelihood(term, r)))
        far, further, edge, near = (
            read(jnp.full(40, r)) for r in (last * 1.001, last + 20, last * (1 - 1e-6), 12.0)
        )
        assert float(far[0]) == float(further[0])
        np.testing.assert_allclose(float(edge[0]), float(far[0]), rtol=1e-5)
        assert not np.asarray(further[1]).any()
        # negative control: on the table the value and the gradient differ
        assert np.asarray(near[1]).any()
        assert near[0] != far[0]


def test_hard_steps_have_no_gradient(rng):
    chart = brute.a_chart(rays=40)
    points = chart.centre + rng.uniform(-20, 20, (300, 2))
    terms = point_intensity(points, brute.step_values(rng, chart, points)).tabulate(
        brute.a_target(chart), chart
    )
    slope = jax.jit(jax.grad(lambda r: log_likelihood(terms, r)))(jnp.full(40, 12.0))
    assert not np.asarray(slope).any()
