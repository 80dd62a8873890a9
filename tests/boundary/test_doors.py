"""Is evidence counted once, whatever says it, and is what cannot be counted refused by name?"""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro.infer.util import log_density

from aistat_jax._errors import InputError
from aistat_jax._record import record, static
from aistat_jax.boundary.evidence import Evidence, log_likelihood
from aistat_jax.boundary.intensity import intensity, point_intensity
from aistat_jax.boundary.model import boundary_model
from aistat_jax.boundary.opinions import Own, anchors, logits, raters, term
from aistat_jax.space.curve import Curve
from aistat_jax.space.image import Image
from tests.boundary import brute

RAYS, HARMONICS = 64, 8
CHART = brute.a_chart(RAYS)
TARGET = brute.a_target(CHART)
RNG = np.random.default_rng(3)
IMAGE = brute.step_image(RNG, CHART)
BINARY = Image.from_arrays(A=(IMAGE["PT"].values[..., 0] > 2).astype(float), spacing_mm=2.0)
COUNTS = Image.from_arrays(A=np.round(np.abs(IMAGE["PT"].values[..., 0])), spacing_mm=2.0)
POINTS = CHART.centre + RNG.uniform(-20, 20, (60, 2))
VALUES = brute.step_values(RNG, CHART, POINTS)


@record
class AreaTerm:
    """A term of one's own, by the protocol: the area, with a normal error."""

    area: np.ndarray
    differentiable: bool = static(default=True)

    def statistics(self, radii):
        return 0.5 * (2 * np.pi / len(radii)) * jnp.square(radii)[:, None]

    def log_likelihood(self, sums):
        return -0.5 * jnp.square((sums[0] - self.area) / 30.0)


@record
class Pieces:
    """Evidence made of given terms."""

    terms: tuple

    def tabulate(self, target, chart):
        return self.terms


def of(*terms) -> Evidence:
    return Evidence((Pieces(terms),))


def wide(radii, at):
    return -0.5 * jnp.square((radii[0] + radii[RAYS // 2] - at) / 2.0)


KINDS = {
    "blurred": intensity(IMAGE, temper=0.5),
    "noise that grows": intensity(IMAGE, noise="poisson", temper=0.5),
    "gaussian": intensity(IMAGE, family="gaussian", temper=0.5),
    "bernoulli": intensity(BINARY, family="bernoulli", temper=0.5),
    "poisson": intensity(COUNTS, family="poisson", temper=0.5),
    "scattered": point_intensity(POINTS, VALUES, family="blurred", blur=1.5),
    "logits": logits(IMAGE, temper=0.1),
    "raters": raters([Curve(CHART.points(np.full(RAYS, 11.0)), "mm")]),
    "clicks": anchors(CHART.centre[None] + np.array([11.0, 2.0])),
    "a function": term(wide, 24.0),
    "a record": of(AreaTerm(np.asarray(450.0))),
}
NOTHING_SAID = term(lambda radii: 0.0 * radii[0])


def density_of(evidence: Evidence) -> float:
    """NumPyro's own log density of the whole model at one place."""
    place = np.random.default_rng(1)
    with jax.enable_x64(True):
        model = boundary_model(TARGET, evidence, rays=RAYS, harmonics=HARMONICS)
        x = {"amplitude": 0.13, "lengthscale": 0.6}
        x |= {"coefficients": jnp.asarray(0.05 * place.standard_normal(2 * HARMONICS + 1))}
        return float(log_density(model, (), {}, x)[0])


@pytest.fixture(scope="module")
def prior_alone() -> float:
    return density_of(NOTHING_SAID)


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_evidence_is_counted_once(name, prior_alone):
    """Nothing said changes nothing; two things said are the sum; and twice is not once."""
    here = density_of(KINDS[name])
    said = here - prior_alone
    assert abs(said) > 1e-3
    assert density_of(KINDS[name] + NOTHING_SAID) == pytest.approx(here, rel=1e-12)
    other = density_of(KINDS["clicks"]) - prior_alone
    both = density_of(KINDS["clicks"] + KINDS[name]) - prior_alone
    assert both == pytest.approx(said + other, rel=1e-10)
    assert both != pytest.approx(2 * said + other, rel=1e-6, abs=1e-6)


def test_an_array_would_count_all_the_rest_many_times():
    """What is refused below is not harmless: NumPyro sums what is added to every number of it."""
    terms = KINDS["clicks"].tabulate(TARGET, CHART)
    radii = jnp.full(RAYS, 12.0)
    once = log_likelihood(terms, radii)
    assert float((once + jnp.zeros(RAYS)).sum()) == pytest.approx(RAYS * float(once), rel=1e-5)


def array(radii, k):
    return jnp.zeros_like(radii)


def one_in_a_row(radii):
    return jnp.sum(radii)[None]


def forgets(radii):
    jnp.sum(radii)


def whole(radii):
    return 0


def imaginary(radii):
    return 1j * jnp.sum(radii)


def word(radii):
    return "likely"


def by_numpy(radii):
    return np.sin(np.asarray(radii)).sum()


def by_if(radii):
    return jnp.sum(radii) if radii[0] > 3 else -jnp.sum(radii)


def by_float(radii):
    return -float(radii[0])


def by_math(radii):
    return math.sqrt(radii[0])


def two_more(radii, a, b):
    return a * b * jnp.sum(radii)


def no_number(radii):
    return jnp.sum(jnp.log(-radii))


def impossible(radii):
    return -jnp.inf * jnp.square(radii[0])


ONE = "must be one number"
ONES_OWN = {
    "an array": (term(array, 1.0), rf"term `array` {ONE}, got an array of shape \(64,\); sum it"),
    "a row of one": (term(one_in_a_row), rf"`one_in_a_row` {ONE}, got an array of shape \(1,\)"),
    "nothing": (term(forgets), f"`forgets` {ONE}, got None; end the function"),
    "a whole number": (term(whole), f"`whole` {ONE} with a fraction, got int64"),
    "a complex number": (term(imaginary), f"`imaginary` {ONE} with a fraction, got complex128"),
    "a word": (term(word), f"`word` {ONE}, got a str"),
    "numpy": (term(by_numpy), "the term `by_numpy` cannot be traced by JAX .*jax.numpy alone"),
    "if": (term(by_if), "the term `by_if` cannot be traced by JAX .TracerBoolConversionError"),
    "float": (term(by_float), "the term `by_float` cannot be traced by JAX"),
    "math": (term(by_math), "the term `by_math` cannot be traced by JAX"),
    "too few": (term(two_more, 1.0), r"`two_more` is called with the radii and 1 value\(s\)"),
    "too many": (term(wide, 1.0, 2.0), "`wide` is called with the radii and 2 value"),
    "a part of a function": (term(partial(array, k=1.0)), f"the term `array` {ONE}"),
    "not a number": (term(no_number), "`no_number` is not a number at the circle of radius 12 "),
}


@pytest.mark.parametrize("name", ONES_OWN)
def test_a_function_that_says_no_number_is_refused_by_name(name):
    evidence, sentence = ONES_OWN[name]
    plain = boundary_model(TARGET, KINDS["clicks"], rays=RAYS, harmonics=HARMONICS)
    for build in (
        lambda: boundary_model(TARGET, evidence, rays=RAYS, harmonics=HARMONICS),
        lambda: plain + evidence,
    ):
        with pytest.raises(InputError, match=sentence) as refused:
            build()
        assert "\n" not in str(refused.value)


def test_values_that_are_no_numbers_and_what_is_no_function():
    with pytest.raises(InputError, match="the values of the term `wide` must be numbers or arrays"):
        term(wide, np.array(["24 mm"]))
    with pytest.raises(InputError, match=r"made of a function\(radii, \*values\), got a float"):
        boundary_model(TARGET, Evidence((Own((), 3.5),)))  # type: ignore[arg-type]


def test_minus_infinity_is_a_number():
    """It says that a boundary cannot be, which is evidence."""
    model = boundary_model(TARGET, term(impossible), rays=RAYS, harmonics=HARMONICS)
    assert float(log_likelihood(model.data.terms, jnp.full(RAYS, 9.0))) == -np.inf


@record
class FlatTerm(AreaTerm):
    def statistics(self, radii):
        return jnp.square(radii)


@record
class ManyTerm(AreaTerm):
    def log_likelihood(self, sums):
        return -0.5 * jnp.square(sums - self.area)


class LooseTerm:
    differentiable = True

    def statistics(self, radii):
        return radii[:, None]

    def log_likelihood(self, sums):
        return sums[0]


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (FlatTerm(np.asarray(1.0)), r"of the term `FlatTerm` .* with 64 rays, got \(64,\)"),
        (ManyTerm(np.asarray(1.0)), rf"`ManyTerm` {ONE}, got an array of shape \(1,\); sum it"),
        (LooseTerm(), "`LooseTerm` is not a record of arrays that JAX can walk through"),
        (object(), "`object` does not follow `families.Term`"),
    ],
)
def test_terms_by_the_protocol_are_held_to_it(found, sentence):
    with pytest.raises(InputError, match=sentence):
        boundary_model(TARGET, of(found), rays=RAYS, harmonics=HARMONICS)
    assert boundary_model(TARGET, of(AreaTerm(np.asarray(1.0))), rays=RAYS).data.terms
