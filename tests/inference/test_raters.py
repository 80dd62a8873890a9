"""Are bias, habit and noise of raters recovered, and contours that were left out foretold?"""

from __future__ import annotations

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import aistat_jax as aj
from aistat_jax._record import replace
from aistat_jax.boundary.drawings import Drawing, basis_of, read_case
from aistat_jax.boundary.opinions import Raters
from aistat_jax.inference.diagnostics import Diagnostics
from aistat_jax.inference.rater_program import (
    case_scale,
    error_variance,
    expected,
    log_likelihoods,
    log_presence,
    probability_drawn,
    shape_variance,
)
from aistat_jax.inference.rater_sampling import around_mode, prior_means
from aistat_jax.inference.raters import RaterModel, fit_raters, pack
from aistat_jax.space.basis import host_variance
from aistat_jax.space.chart import slant
from aistat_jax.space.curve import Curve
from aistat_jax.space.grid import Plane
from aistat_jax.space.mesh import Mesh
from aistat_jax.space.sphere import sphere_chart
from aistat_jax.space.star import star_chart

BIAS = {"Ada": 1.2, "Bea": -0.8, "Cy": 0.0, "Dot": -0.4}
NOISE = {"Ada": 0.6, "Bea": 0.6, "Cy": 0.6, "Dot": 1.3}


def drawings(
    cases: int, seed: int, bias: dict[str, float] = BIAS, noise: dict[str, float] = NOISE,
    drawn: float = 1.0, centre: float = 0.0,
) -> list[Drawing]:  # fmt: skip
    """Contours of wobbly discs: dilated by each rater's bias, with a quarter of constant error."""
    rng = np.random.default_rng(seed)
    plane = Plane(np.zeros(2), np.ones(2), 0.0, 1.0, np.eye(3), shape=(2, 2), unit="mm")
    chart = star_chart(np.full(2, centre), 100.0, plane, 128)
    basis = chart.basis(16)
    functions = np.asarray(basis.functions)

    def field(amplitude: float, length: float, smoothness: float) -> np.ndarray:
        variance = host_variance(basis.eigenvalues, amplitude, length, smoothness)
        return functions @ (np.sqrt(variance) * rng.standard_normal(len(variance)))

    found = []
    for case in range(cases):
        size = 15 * np.exp(0.2 * rng.standard_normal())
        shape = size * (1 + field(0.1, 0.45, 1.5))
        secant = 1 / slant(chart, shape)
        for rater in bias:
            error = np.sqrt(0.75) * field(1.0, 4 / size, 0.5) + 0.5 * rng.standard_normal()
            values = shape + secant * (bias[rater] + noise[rater] * error)
            shown = rng.random() < drawn or rater == "Ada"
            found.append(Drawing(f"P{case}", rater, chart.surface(values) if shown else None))
    return found


@pytest.fixture
def double() -> Iterator[None]:
    """The precision in which raters are fitted: constants of a module are traced in one alone."""
    with jax.enable_x64(True):
        yield


def unfitted(given: list[Drawing], **settings: object) -> RaterModel:
    """What `fit_raters` knows before it samples, for identities that need no draws."""
    names = dict.fromkeys(each.case for each in given)
    cases = {n: read_case([each for each in given if each.case == n]) for n in names}
    model = RaterModel(
        {}, cases, 0.05, 1.0, 15.0, tuple(dict.fromkeys(each.rater for each in given)), ("",),
        False, 0, False, "mm", Diagnostics(True, np.inf), 0,
    )  # fmt: skip
    return replace(model, **settings)


# -------------------------------------------------------------------------------- identities


def test_offsets_are_along_normals_and_come_back():
    angles = 2 * np.pi * np.arange(400) / 400
    ellipse = np.stack([30 * np.cos(angles), 18 * np.sin(angles)], axis=1)
    normal = np.stack([18 * np.cos(angles), 30 * np.sin(angles)], axis=1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    pair = [Drawing("P", name, Curve(ellipse + by * normal)) for name, by in (("A", 1), ("B", -1))]
    case = read_case(pair)
    first = case.coefficients @ np.asarray(basis_of(2)[0].functions).T + case.rest
    assert np.allclose(first[0] - first[1], 2.0, atol=0.05)
    radial = case.chart.values_of(pair[0].contour) - case.chart.values_of(pair[1].contour)
    assert np.ptp(radial) > 0.2  # along rays the same dilation is not constant
    assert np.allclose(case.values(case.offsets(pair[0].contour)), case.reference + radial / 2,
                       atol=0.05)  # fmt: skip


def test_a_point_in_common_is_found_where_no_middle_is():
    horseshoe = np.array([[0, 0], [30, 0], [30, 20], [25, 20], [25, 4], [5, 4], [5, 20], [0, 20]])
    tall = np.array([[1, 1], [4, 1], [4, 90], [1, 90]])
    pair = [Drawing("P", "A", Curve(horseshoe * 1.0)), Drawing("P", "B", Curve(tall * 1.0))]
    centre = read_case(pair).chart.centre
    assert all(each.contour.contains(centre[None])[0] for each in pair)


@pytest.mark.usefixtures("double")
def test_likelihood_is_that_of_a_dense_normal():
    given = drawings(3, seed=0)
    given = [each for each in given if (each.case, each.rater) != ("P1", "Cy")]
    model = unfitted(given)
    data = pack(list(model.cases.values()), model)
    rng = np.random.default_rng(1)
    sites = {
        "noise": 0.8, "constant_share": 0.3, "correlation": 4.0, "size_exponent": 0.2,
        "hardness": 0.4, "shape_sd": 0.1, "shape_lengthscale": 0.45,
        "bias": rng.standard_normal(4), "spread": 0.3 * rng.standard_normal(4),
    }  # fmt: skip
    found = np.asarray(jax.jit(log_likelihoods)(data, sites))
    off = np.asarray(data.coefficients) - np.asarray(expected(data, sites))
    off = off - np.asarray(data.circle)[:, None]
    shape, error = np.asarray(shape_variance(data, sites)), np.asarray(error_variance(data, sites))
    scale = np.asarray(case_scale(data, sites))
    weights = np.polynomial.hermite_e.hermegauss(len(found))[1]
    for case, drawing in enumerate(model.cases.values()):
        rows = len(drawing.rest)
        who = [model.raters.index(each.rater) for each in drawing.drawings]
        dense = np.log(weights / weights.sum())
        for node in range(len(found)):
            noise = 0.8 * np.exp(sites["spread"][who]) * scale[node, case]
            least = (0.02 * data.scale) ** 2 / off.shape[-1]
            own = noise**2 * error[case, :, None] + least  # (basis, drawing)
            cov = own[..., None] * np.eye(rows) + shape[case, :, None, None]
            here = off[case, :rows].T
            square = np.einsum("kd,kd->", here, np.linalg.solve(cov, here[..., None])[..., 0])
            dense[node] -= 0.5 * (square + np.linalg.slogdet(cov)[1].sum())
        assert np.allclose(found[:, case], dense, rtol=1e-9)


def test_everything_turns_and_moves_with_the_drawings():
    one, other = drawings(1, seed=3), drawings(1, seed=3, centre=200.0)
    first, second = read_case(one), read_case(other)
    assert np.allclose(first.coefficients, second.coefficients, atol=1e-6)
    assert np.isclose(first.size, second.size)
    angle = 2 * np.pi * 5 / 64  # five of the rays on which drawings are read
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    turned = read_case([replace(each, contour=Curve(each.contour.points @ turn)) for each in one])
    functions = np.asarray(basis_of(2)[0].functions)
    assert np.isclose(first.size, turned.size)
    assert np.allclose(np.roll(first.reference, 5), turned.reference, atol=1e-6)
    for found in ("coefficients", "circle"):
        before, after = (getattr(case, found) @ functions.T for case in (first, turned))
        assert np.allclose(np.roll(before, 5, axis=-1), after, atol=1e-6)


# --------------------------------------------------------------------------------- refusals


def refused(given: list[Drawing], sentence: str) -> None:
    with pytest.raises(aj.InputError, match=sentence):
        fit_raters(given)


def test_refusals():
    good = drawings(2, seed=0)
    refused([each for each in good if each.rater == "Ada"], "all drawings are by Ada")
    refused([*good, good[0]], "Ada has two drawings of case P0; name a second one by its tool")
    refused([*good, replace(good[0], tool="pen")], "tools '' and 'pen' are the same to the last")
    refused([replace(each, contour=None) for each in good], "no drawing has a contour")
    empty = [replace(each, contour=None) if each.case == "P1" else each for each in good]
    refused(empty, "case P1 has no contour, only empty drawings")
    alone = [each for n, each in enumerate(good) if n in (0, 5)]
    refused(alone, "no case was drawn by two raters")
    pixels = replace(good[0].contour, unit="px")
    refused([replace(good[0], contour=pixels), *good[1:]], "Curve in mm and Curve in px")
    away = Curve(good[0].contour.points + 500.0)
    refused([replace(good[0], contour=away), *good[1:]], "rater Ada drew elsewhere than the others")
    broken = good[0].contour.points.copy()
    broken[3] = np.nan
    refused([replace(good[0], contour=Curve(broken)), *good[1:]], "case P0 by rater Ada has points")
    point = Curve(good[0].contour.points[:2])
    refused([replace(good[0], contour=point), *good[1:]], "2 points, which close no curve")
    line = Curve(np.array([[0.0, 0.0], [0.1, 0.3], [0.2, 0.6]]) + 7.0)
    refused([replace(good[0], contour=line), *good[1:]], "case P0 by rater Ada encloses no area")
    flat = Mesh(np.array([[0.0, 0.0, 90.1], [9.0, 1.0, 90.1], [2.0, 8.0, 90.1], [3.0, 3.0, 90.1]]),
                np.array([[0, 1, 3], [1, 2, 3], [2, 0, 3], [0, 2, 1]]))  # fmt: skip
    refused([Drawing("P0", name, flat) for name in ("Ada", "Bea")], "rater Ada encloses no volume")
    refused([], "no drawing has a contour")


def test_refusals_of_a_model():
    good = drawings(2, seed=0)
    model = unfitted(good)
    some = [good[0], replace(good[1], contour=None)]
    for ask, sentence in (
        (lambda: model.predict("P7"), "case 'P7' was not fitted; pass its drawings"),
        (lambda: model.predict("P0", rater="Eve"), "rater 'Eve' is none of those fitted"),
        (lambda: model.predict("P0", tool="pen"), "tool 'pen' is none of those fitted"),
        (lambda: model.predict(good), "drawings of one case are needed, got those of P0, P1"),
        (lambda: model.predict([]), "there are no drawings"),
        (lambda: model.predict(some), "case P0 by rater Bea is empty and none that was fitted is"),
        (lambda: replace(model, exchangeable=True).bias, "exchangeable raters have no names"),
    ):
        with pytest.raises(aj.InputError, match=sentence):
            ask()


# --------------------------------------------------------------------------------- evidence


def known(tools: tuple[str, str]) -> RaterModel:
    """Two raters and two tools of which all is known, with one case that both drew."""
    given = [replace(each, tool=tools[0]) for each in drawings(1, seed=4)[:2]]
    habit = np.zeros((1, 2, 6))
    habit[0, :, 0] = 0.4, -0.4
    samples = {
        "noise": [0.2], "constant_share": [0.3], "correlation": [4.0], "size_exponent": [1.0],
        "hardness": [0.1], "shape_sd": [1.0], "shape_lengthscale": [0.45], "bias": [[0.5, -0.5]],
        "spread": [[0.3, -0.3]], "tool": [[1.0, -1.0]], "habit": habit,
    }  # fmt: skip
    arrays = {name: np.array(value) for name, value in samples.items()}
    return unfitted(given, samples=arrays, rest=0.0, tools=tools, habits=6)


def test_evidence_agrees_with_the_consensus_whoever_drew_and_with_whichever_tool():
    model = known(("pen", "brush"))
    drawn = model.cases["P0"].drawings[0]
    for rater, spread in (("Ada", 0.3), ("Bea", -0.3)):
        means = []
        for tool in model.tools:
            one = [replace(drawn, rater=rater, tool=tool)]
            (piece,) = model.evidence(one).pieces
            assert isinstance(piece, Raters)
            consensus = model.consensus(one)
            values = consensus.chart.values_of(piece.curves[0])
            assert np.abs(values - consensus.estimate).max() < 0.1
            assert np.isclose(piece.sd, 0.2 * np.exp(spread) * read_case(one).size / 15.0)
            means.append(values.mean())
        assert means[1] - means[0] > 1.8  # the pen draws 2 mm further out


def test_a_tool_named_like_a_rater_has_a_whisker_of_its_own():
    figure = aj.plot_raters(known(("pen", "Bea")), "P0")
    labels = [each.get_text() for each in figure.axes[1].get_yticklabels()]
    assert labels == ["Ada", "Bea", "tool pen", "tool Bea"]


# --------------------------------------------------------------------------------- presence


@pytest.mark.usefixtures("double")
def test_presence_is_bernoulli_given_that_somebody_drew():
    given = drawings(6, seed=5, drawn=0.5)
    model = unfitted(given, empties=True)
    data = pack(list(model.cases.values()), model)
    effect = np.array([0.3, -0.4, 1.0, 0.0])
    sites = {"presence_level": 0.5, "presence_case_sd": 1e-6, "presence_rater": effect}
    chance = 1 / (1 + np.exp(-(0.5 + effect)))
    drawn = np.asarray(data.drawn)
    each = np.where(drawn > 0, np.log(chance), np.log1p(-chance)).sum()
    somebody = len(drawn) * np.log1p(-np.prod(1 - chance))
    assert np.isclose(float(log_presence(data, sites)), each - somebody, rtol=1e-4)
    # where cases differ, what the others did tells of one more; where they do not, nothing does
    alike = np.asarray(probability_drawn(data, sites, jnp.zeros(())))
    assert np.ptp(alike) < 1e-4
    apart = np.asarray(probability_drawn(data, sites | {"presence_case_sd": 2.0}, jnp.zeros(())))
    assert np.corrcoef(apart, drawn.sum(axis=1))[0, 1] > 0.9


# --------------------------------------------------------------------------------- recovery

TOOLED = {"Ada pen": 1.6, "Ada brush": 0.0, "Bea pen": 0.4, "Bea brush": -1.2}


def with_tools(cases: int, seed: int) -> list[Drawing]:
    """Two raters, each with two tools of which one draws 1.6 mm further out."""
    found = []
    for each in drawings(cases, seed, bias=TOOLED, noise=dict.fromkeys(TOOLED, 0.4)):
        rater, tool = each.rater.split()
        found.append(replace(each, rater=rater, tool=tool))
    return found


def test_about_the_mode_the_tools_differ_by_what_they_do():
    given = with_tools(4, seed=7)
    model = unfitted(given, tools=("pen", "brush"), habits=6)
    data = pack(list(model.cases.values()), model)
    with jax.enable_x64(True):
        mode, spread, unravel = around_mode(data, prior_means(data))
        difference = jax.grad(lambda x: jnp.array([1.0, -1.0]) @ unravel(x)["tool"])
        along = np.asarray(difference(jnp.asarray(mode)))
    assert unravel(mode)["habit"].shape == (12,)
    assert abs(along @ mode - 1.6) < 1.96 * np.linalg.norm(along @ spread) < 0.4


@pytest.mark.slow
def test_a_tools_difference_is_within_its_interval_beside_habits():
    model = fit_raters(with_tools(5, seed=7), draws=300)
    assert model.diagnostics.converged
    assert model.samples["habit"].shape == (300, 2, 6)
    for found, truth in ((model.tool["pen"], 0.8), (model.bias["Ada"], 0.6)):
        assert found.lower < truth < found.upper < found.lower + 0.4
    for drawing in with_tools(1, seed=9):
        (piece,) = model.evidence([drawing]).pieces
        consensus = model.consensus([drawing])
        values = consensus.chart.values_of(piece.curves[0])
        assert abs(values.mean() - consensus.estimate.mean()) < 0.15


@pytest.mark.slow
def test_surfaces_are_fitted_and_foretold():
    rng = np.random.default_rng(0)
    chart = sphere_chart(np.array([5.0, -3.0, 40.0]), 80.0, "mm", 8)
    functions = np.asarray(chart.basis(4).functions)[:, 1:]
    given = []
    for case in range(6):
        shape = 12 * np.exp(0.2 * rng.standard_normal())
        shape = shape * (1 + 0.03 * functions @ rng.standard_normal(functions.shape[1]))
        for rater, bias in (("Ada", 0.8), ("Bea", -0.8)):
            error = 0.2 * rng.standard_normal()
            error = error + 0.04 * functions @ rng.standard_normal(functions.shape[1])
            given.append(Drawing(f"P{case}", rater, chart.surface(shape + bias + error)))
    model = fit_raters(given[:-2], habit=False, draws=300)
    found = model.bias["Ada"]
    assert abs(found.mean - 0.8) < found.upper - found.lower < 0.6
    ada, bea = given[-2:]
    foretold = model.predict([bea], rater="Ada", draws=200)
    truth, known = (foretold.chart.values_of(each.contour) for each in (ada, bea))
    assert abs((foretold.estimate - truth).mean()) < 0.4 * abs((known - truth).mean())


@pytest.fixture(scope="module")
def fitted() -> RaterModel:
    return fit_raters(drawings(8, seed=1), habit=False, draws=300, seed=0)


@pytest.mark.slow
def test_biases_and_noise_are_recovered(fitted):
    mean = np.mean(list(BIAS.values()))
    for rater, truth in BIAS.items():
        found = fitted.bias[rater]
        wide = 0.5 * (found.upper - found.lower)
        # intervals of 95% doubled: one of four misses by chance in fewer than 1 of 1000 runs
        assert abs(found.mean - (truth - mean)) < 2 * wide
        assert wide < 0.6
    assert fitted.noise["Dot"].lower > max(fitted.noise[name].mean for name in ("Ada", "Bea", "Cy"))
    rng = np.random.default_rng(0)
    shuffled = []
    for case in fitted.cases.values():
        names = rng.permutation([each.rater for each in case.drawings])
        pairs = zip(case.drawings, names, strict=True)
        shuffled += [replace(each, rater=str(name)) for each, name in pairs]
    control = fit_raters(shuffled, habit=False, draws=300, seed=0)
    spread = [np.ptp([each.mean for each in model.bias.values()]) for model in (fitted, control)]
    assert spread[1] < 0.5 * spread[0]


@pytest.mark.slow
def test_a_known_raters_contour_is_foretold(fitted):
    new = drawings(12, seed=2)
    held = {"Ada": [], "Bea": []}
    for start in range(0, len(new), 4):
        case = new[start : start + 4]
        for name in held:
            posterior = fitted.predict(case[1:], rater=name, seed=start)
            truth = posterior.chart.values_of(case[0].contour)  # Ada's
            low, high = np.quantile(posterior.draws, [0.1, 0.9], axis=0)
            held[name].append(((truth >= low) & (truth <= high)).mean())
    assert np.mean(held["Ada"]) > 0.65
    assert np.mean(held["Bea"]) < np.mean(held["Ada"]) - 0.15  # who thinks it is Bea's is wrong
    consensus = fitted.consensus(new[1:4])
    further = fitted.predict(new[1:4])
    assert consensus.draws.std(axis=0).mean() < further.draws.std(axis=0).mean()
    evidence = fitted.evidence(new[1:4])
    target = aj.Target(np.zeros(2), 15.0, consensus.chart.plane)
    assert len(aj.boundary_model(target, evidence).data.terms) == 3
