"""Do a source, a prior, a method and a chart from outside of the package take part everywhere?

All that is of a kind of its own here is written in this file; the package knows none of it.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import numpyro
import pytest
from numpyro import distributions as dist

import aistat_jax as aj
from aistat_jax._record import record, replace, static
from aistat_jax.boundary.answers import Observation
from aistat_jax.boundary.evidence import Evidence, voxels_around
from aistat_jax.boundary.observed import Voxels
from aistat_jax.boundary.tables import smooth_table
from aistat_jax.inference import chart_store
from aistat_jax.inference.conflict import sources_of
from aistat_jax.inference.log_density import log_densities
from aistat_jax.space.star import StarChart
from tests.inference.cases import SMALL

IMAGE = "A"
OUTSIDE, INSIDE, NOISE, SD = 1.0, 4.0, 0.5, 0.5
THIN = 40

# ---------------------------------------------------------- an image whose levels are known


@record
class KnownLevels:
    """What `Voxels` ask: the law of levels that are known is the same for every boundary."""

    seen: Any

    def parameters(self, inside, rng):
        return np.tile([OUTSIDE, INSIDE, NOISE], (len(inside), 1))

    def log_density(self, inside, parameters):
        mean = OUTSIDE + (INSIDE - OUTSIDE) * inside
        error = (self.seen.counted[self.seen.shared.voxel] - mean) / NOISE
        return -0.5 * error**2 - np.log(NOISE) - 0.5 * np.log(2 * np.pi)

    def predict(self, inside, parameters, rng):
        mean = OUTSIDE + (INSIDE - OUTSIDE) * inside
        return mean + NOISE * rng.standard_normal(inside.shape)


@record
class KnownTerm:
    """The sum over voxels inside of the log ratio of their two densities, from a table."""

    table: Any
    eta: Any
    differentiable: bool = static(default=True)

    def statistics(self, radii):
        return self.table(radii)

    def log_likelihood(self, sums):
        return self.eta * sums[0]

    width = property(lambda self: 0.0)

    def edges(self, radii):
        return radii

    def within(self, position, edge, dims):
        return (position < edge).astype(float)

    def levels(self, seen):
        return KnownLevels(seen)


@record
class KnownImage:
    """An image of two known levels and normal noise."""

    image: aj.Image
    channels: tuple[str, ...] = static(default=(IMAGE,))
    names = property(lambda self: self.channels)

    def tabulate(self, target, chart):
        voxels = voxels_around(self.image, self.channels[0], target, chart)
        outer, inner = (((voxels.values - at) / NOISE) ** 2 for at in (OUTSIDE, INSIDE))
        shared = chart.share(voxels.points, voxels.width)
        ratio = 0.5 * (outer - inner)
        table = smooth_table(chart, shared, [(ratio, 1)], voxels.width / np.sqrt(12))
        return (KnownTerm(table, np.asarray(1.0)),)

    def redrawn(self, rng, read, truth):
        channel = self.image[self.channels[0]]
        part = read.target.part_of(channel, np.inf)
        inside = read.chart.inside(truth.values[None], part.points())[0]
        drawn = np.where(inside, INSIDE, OUTSIDE) + NOISE * rng.standard_normal(inside.shape)
        values = channel.values.copy()
        values[channel.place_of(part)] = drawn
        changed = {**self.image.channels, channel.name: replace(channel, values=values)}
        return replace(self, image=replace(self.image, channels=changed))

    def counted(self, read):
        name = self.channels[0]
        found = voxels_around(self.image, name, read.target, read.chart)
        shared, even = read.chart.share(found.points, found.width), np.ones(len(found.values))
        return [
            Voxels(
                name, read.terms[0], shared, found.points, np.asarray(found.values, float), even,
                found.width, 0.0, 1.0, self.image[name],
            )
        ]  # fmt: skip


# ------------------------------------------------------- readings, a prior and a sampler


def secant(values: Any, readings: Any, xp: Any = np) -> Any:
    """Log density of errors SD times a hyperbolic secant variable."""
    z = (values - readings) / SD
    return xp.log(2 / (np.pi * SD)) - xp.logaddexp(z, -z)


@record
class Secants:
    """A table of one's own: the log density of the error of the reading at each site."""

    readings: np.ndarray
    length = property(lambda self: np.shape(self.readings)[0])

    def __call__(self, values):
        return secant(jnp.asarray(values), self.readings, jnp)[:, None]

    def of_length(self, length):
        return self


@record
class ReadingTerm:
    table: Any
    differentiable: bool = static(default=True)

    def statistics(self, radii):
        return self.table(radii)

    def log_likelihood(self, sums):
        return sums[0]


@record
class Calliper:
    """The edge read along every ray, with errors of a hyperbolic secant law."""

    readings: np.ndarray
    names = property(lambda self: ("the calliper",))

    def tabulate(self, target, chart):
        return (ReadingTerm(Secants(self.readings)),)

    def redrawn(self, rng, read, truth):
        share = rng.uniform(size=len(self.readings))
        return replace(self, readings=truth.values + SD * np.log(np.tan(0.5 * np.pi * share)))

    def observations(self, rng, read, draws, chosen):
        logs = secant(draws, self.readings)
        return [Observation("calliper", logs, "reading", self.readings, draws[chosen], "reading")]


@record
class Mute:
    """A source that says what it must, and no more."""

    readings: np.ndarray

    def tabulate(self, target, chart):
        return (ReadingTerm(Secants(self.readings)),)


@record
class PowerLaw:
    """Coefficients of sd (1 + k^2)^(-power / 2) / 5, the power not known."""

    @property
    def reach(self) -> float:
        return 2.2

    def on(self, target, chart, order):
        return self, np.full(chart.sites, np.log(target.radius)), chart.basis(order or 6)

    def scale(self, basis):
        power = numpyro.sample("power", dist.LogNormal(jnp.log(1.5), 0.1))
        return 0.2 * (1 + jnp.asarray(basis.eigenvalues)) ** (-0.5 * power)

    def bend(self, field, sd):
        return field

    straighten = bend


class Independence:
    """Metropolis chains of proposals from a Student t law about the mean of a Laplace fit."""

    def sample(self, model, *, draws, seed):
        rng, density = np.random.default_rng(seed), aj.log_density(model)
        rough = aj.Laplace(fallback=False).sample(model, draws=400, seed=seed)
        known = density.unconstrain(rough.samples).reshape(-1, density.dim)
        middle, root = known.mean(axis=0), np.linalg.cholesky(np.cov(known.T))
        size = (4, THIN * draws // 4)
        step = rng.standard_normal((*size, density.dim)) / np.sqrt(rng.gamma(2.5, 0.4, (*size, 1)))
        places = middle + step @ root.T
        worse = 0.5 * (5 + density.dim) * np.log1p(np.square(step).sum(axis=-1) / 5)
        gain = log_densities(density, places) + worse
        for chain, worth in zip(places, gain, strict=True):
            for n in range(1, len(chain)):
                if np.log(rng.uniform()) > worth[n] - worth[n - 1]:
                    chain[n], worth[n] = chain[n - 1], worth[n - 1]
        return aj.as_posterior(model, places[:, ::THIN], method="independence", seed=seed)


# ------------------------------------------------------------------------------- the tests


def an_image(core: float = INSIDE) -> aj.Image:
    away = np.hypot(*(np.indices((40, 40)) - 19.5))
    mean = np.where(away < 9, np.where(away < 5.5, core, INSIDE), OUTSIDE)
    noise = NOISE * np.random.default_rng(0).standard_normal(away.shape)
    return aj.Image.from_arrays(**{IMAGE: mean + noise})


PLACE = aj.Target(np.array([19.5, 19.5]), 8.0, an_image().primary.grid.plane(0), "disc")


def a_model(evidence: Evidence) -> Any:
    return aj.boundary_model(PLACE, evidence, prior=PowerLaw(), **SMALL)


def known(image: aj.Image) -> Evidence:
    return Evidence((KnownImage(image),))


def read_at(radius: float) -> Evidence:
    return Evidence((Calliper(np.full(48, radius)),))


@pytest.fixture(scope="module")
def posterior() -> aj.Posterior:
    return aj.fit(a_model(known(an_image()) + read_at(9.0)), Independence(), draws=800, seed=1)


def test_it_is_fitted_checked_and_graded(posterior):
    assert posterior.method == "independence"
    assert posterior.samples["power"].shape == (4, 200)
    assert posterior.diagnostics.converged, posterior.diagnostics.reasons
    assert posterior.diagnostics.findings == ()
    assert posterior.diagnostics.voxel == 1.0  # of the image that it says it reads
    assert np.abs(posterior.estimate - 9.0).mean() < 0.5
    assert aj.grade(posterior, tolerance_px=2.0).case == "green"
    assert aj.simultaneous_band(posterior).contains(np.full(48, 9.0))


def test_an_image_that_is_not_as_it_says_is_noticed(posterior):
    cold = a_model(known(an_image(core=2.0)) + read_at(9.0))
    found = aj.as_posterior(cold, posterior.samples).diagnostics.findings
    assert [each.cap for each in found] == ["red"]
    assert f"{IMAGE} does not look as one level inside" in found[0].text


def test_sources_that_contradict_each_other_are_called_by_their_names(posterior):
    model = a_model(known(an_image()) + read_at(13.0))
    assert sources_of(model) == [(IMAGE, 0), ("the calliper", 1)]
    silent = a_model(Evidence((Mute(np.full(48, 9.0)),)) + aj.anchors([[28.5, 19.5]]))
    assert sources_of(silent) == [("the mute", 0)]  # clicks are none
    found = aj.fit(model, draws=200, fallback=False).diagnostics.findings
    said = [each.text for each in found if each.kind == "sources"]
    assert len(said) == 1
    assert said[0].startswith(f"{IMAGE} and the calliper contradict each other")


def test_names_are_one_a_term():
    class Twice(Calliper):
        names = property(lambda self: ("one", "two"))

    with pytest.raises(aj.InputError, match="of kind Twice has 1 terms and 2 names"):
        a_model(Evidence((record(Twice)(np.full(48, 9.0)),)))


def test_its_data_are_drawn_anew(posterior):
    """Seed 0; 4.5 standard errors."""
    radii = np.full(48, 11.0)
    image = aj.simulate_image(posterior.model, radii)
    away = np.hypot(*(np.indices((40, 40)) - 19.5))
    values = image[IMAGE].values[:, :, 0]
    ring = (away > 9.5) & (away < 10.5)
    off = 4.5 * NOISE / np.sqrt(ring.sum())
    assert abs(values[ring].mean() - INSIDE) < off
    assert abs(an_image()[IMAGE].values[:, :, 0][ring].mean() - INSIDE) > off  # as it was
    again: Any = aj.simulate(posterior.model, radii).pieces[1]
    assert again.readings.mean() == pytest.approx(11.0, abs=0.4)
    with pytest.raises(aj.InputError, match=r"kind Mute .* give it a method redrawn\(rng, read"):
        aj.simulate(a_model(Evidence((Mute(radii),))), radii)


def test_it_is_kept_in_a_file_and_goes_to_arviz(posterior, tmp_path):
    (loaded,) = aj.load_posterior(aj.save_posterior(tmp_path / "own.nc", posterior))
    np.testing.assert_array_equal(loaded.draws, posterior.draws)
    np.testing.assert_array_equal(loaded.samples["power"], posterior.samples["power"])
    assert loaded.method == "independence"
    data = posterior.to_arviz(["log_likelihood", "observed_data", "posterior_predictive"])
    assert set(data.log_likelihood.data_vars) == {IMAGE, "calliper"}
    assert data.log_likelihood["calliper"].shape == (4, 200, 48)
    np.testing.assert_array_equal(data.observed_data["calliper"], np.full(48, 9.0))
    predicted = data.posterior_predictive[IMAGE].mean(("chain", "draw"))
    assert np.corrcoef(predicted, data.observed_data[IMAGE])[0, 1] > 0.9


# --------------------------------------------------------------------------- a chart of one's own


@record
class TurnedChart:
    """A star that is told apart by a word, with the star as a field."""

    star: StarChart
    turn: float
    shift: np.ndarray
    word: str = static(default="turned")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "star":
            raise AttributeError(name)
        return getattr(self.star, name)


def test_a_chart_is_kept_by_its_name_and_missed_in_a_sentence(posterior, tmp_path, monkeypatch):
    monkeypatch.setattr(chart_store, "CHARTS", dict(chart_store.CHARTS))
    chart = TurnedChart(posterior.chart, 0.25, np.arange(3.0))
    own = replace(posterior, chart=chart, model=None)
    with pytest.raises(
        aj.InputError, match=r'register its class by a name: register_chart\("name"'
    ):
        aj.save_posterior(tmp_path / "own.nc", own)
    assert aj.register_chart("turned star")(TurnedChart) is TurnedChart
    path = aj.save_posterior(tmp_path / "own.nc", [own, posterior])
    first, second = aj.load_posterior(path)
    assert type(first.chart) is TurnedChart
    assert (first.chart.turn, first.chart.word) == (0.25, "turned")
    np.testing.assert_array_equal(first.chart.shift, np.arange(3.0))
    np.testing.assert_array_equal(first.chart.star.angles, posterior.chart.angles)
    assert first.chart.star.plane.index == second.chart.plane.index
    assert aj.area_posterior(first).mean == aj.area_posterior(second).mean
    del chart_store.CHARTS["turned star"]
    with pytest.raises(
        aj.InputError,
        match=r"kind 'turned star' \(class tests.*TurnedChart\).* import the module that defines",
    ):
        aj.load_posterior(path)


def test_what_covers_a_region_says_so_itself():
    import shapely

    class Box:
        def region(self, plane=None):
            return shapely.MultiPolygon([shapely.box(0.0, 0.0, 2.0, 1.5)])

    assert aj.to_shapely(Box()).area == 3.0


def test_names_of_charts_are_not_taken_from_each_other():
    with pytest.raises(aj.InputError, match="charts called 'star' are .*StarChart; choose another"):
        aj.register_chart("star")(TurnedChart)
    with pytest.raises(aj.InputError, match="Independence is no record"):
        aj.register_chart("nothing")(Independence)
