"""Does the harness pass what is right, fail what is overconfident, and say its cost before?

The model is a normal mean whose posterior is known exactly, so that only chance can alarm: under
1% of seeds by construction, and the seed is fixed.
"""

from __future__ import annotations

import numpy as np
import pytest

from aistat_jax._errors import InputError
from aistat_jax._record import replace
from aistat_jax.uncertainty.sbc import in_time, simulation_based_calibration
from tests.helpers import make_posterior


def simulate(seed: int):
    """mean ~ N(0, 1)^2, three observations each with sd 1."""
    rng = np.random.default_rng([seed, 7])
    mean = rng.standard_normal(2)
    truth = {"mean": mean, "gap": mean[1] - mean[0], "fixed": 3.0}
    return truth, mean + rng.standard_normal((3, 2))


def fit_as(scale: float = 1.0, shift: float = 0.0):
    """The exact posterior N(3 / 4 of the observed mean, 1 / 4), scaled and shifted."""

    def fit(data, seed: int):
        rng = np.random.default_rng([seed, 8])
        draws = 0.75 * data.mean(axis=0) + shift + scale * 0.5 * rng.standard_normal((400, 2))
        return {"mean": draws, "gap": draws[:, 1] - draws[:, 0], "fixed": np.full(400, 3.0)}

    return fit


def quiet(text: str) -> None:
    """Nobody listens."""


def test_an_exact_posterior_passes_and_wrong_ones_fail_with_the_reason():
    right = simulation_based_calibration(simulate, fit_as(), say=quiet)
    assert right.ranks.names == ("mean[0]", "mean[1]", "gap")  # what is fixed has no rank
    assert right.ranks.values.shape == (200, 3)
    assert right.seconds.shape == (200,)
    assert right.passed
    assert right.findings == {}
    for name, rows in right.ranks.central_coverage().items():
        for one in rows:
            assert abs(one.share - one.level) < 4 * np.sqrt(one.level * (1 - one.level) / 200), name
    for scale, shift, words in (
        (0.6, 0.0, "too narrow"), (1.7, 0.0, "too wide"), (1.0, -0.25, "too low"),
        (1.0, 0.25, "too high"),
    ):  # fmt: skip
        wrong = simulation_based_calibration(simulate, fit_as(scale, shift), say=quiet)
        assert not wrong.passed
        assert words in wrong.findings["mean[0]"]
    narrow = simulation_based_calibration(simulate, fit_as(0.6), say=quiet)
    assert narrow.ranks.central_coverage()["gap"][2].high < 0.95


def test_the_same_seed_gives_the_same_ranks():
    one, two, other = (
        simulation_based_calibration(simulate, fit_as(), replicates=20, seed=s, say=quiet)
        for s in (0, 0, 1)
    )
    assert (one.ranks.values == two.ranks.values).all()
    assert (one.ranks.values != other.ranks.values).any()


def test_its_cost_is_said_before_it_runs():
    import time

    said, fitted = [], []

    def slow(data, seed):
        fitted.append(len(said))
        time.sleep(0.01)
        return fit_as()(data, seed)

    simulation_based_calibration(simulate, slow, replicates=20, say=said.append)
    (text,) = said
    assert text.startswith("2 of 20 replications took 0.0")
    assert "the other 18 will take about 0." in text
    assert fitted == [0, 0] + 18 * [1]  # two before it was said, the others after
    with pytest.raises(InputError, match=r"10000 replications would .* more than 2 s; ask for at"):
        simulation_based_calibration(simulate, slow, replicates=10_000, at_most_s=2.0, say=quiet)
    with pytest.raises(InputError, match="make the fit cheaper"):
        simulation_based_calibration(simulate, slow, at_most_s=0.001, say=quiet)
    assert [in_time(s) for s in (0.25, 119.0, 300.0, 3 * 3600.0)] == [
        "0.25 s", "119 s", "5 min", "3 h",
    ]  # fmt: skip


def test_discrete_quantities_are_ranked_among_their_ties():
    """A fair coin that data say nothing of: without ties put on either side it would alarm."""

    def coin(seed: int):
        return {"side": float(np.random.default_rng([seed, 1]).integers(2))}, None

    def guess(data, seed: int):
        return {"side": np.random.default_rng([seed, 2]).integers(0, 2, 200).astype(float)}

    found = simulation_based_calibration(coin, guess, say=quiet)
    assert found.passed
    flat = replace(found.ranks, values=(found.ranks.values > 100) * 100)
    assert flat.p < 1e-6  # negative control: ties all on one side


def test_posteriors_of_boundaries_are_ranked_by_their_quantities():
    blank = make_posterior(draws=1, rays=32)

    def circles(log_radius: np.ndarray):
        radii = np.exp(log_radius)[None, :, None] * np.ones(32)
        return replace(blank, radii=radii, samples={"size": log_radius[None]})

    def simulate_circle(seed: int):
        rng = np.random.default_rng([seed, 3])
        truth = 2 + 0.1 * rng.standard_normal(1)
        return circles(truth), truth[0] + 0.1 * rng.standard_normal()

    def fit_circle(seen, seed: int, scale: float = 1.0):
        rng = np.random.default_rng([seed, 4])
        centre = 2 + (seen - 2) / 2
        return circles(centre + scale * 0.1 / np.sqrt(2) * rng.standard_normal(400))

    found = simulation_based_calibration(simulate_circle, fit_circle, say=quiet)
    assert found.ranks.names == (*[f"radius {a}°" for a in (0, 90, 180, 270)], "area", "size")
    assert found.passed
    narrow = simulation_based_calibration(
        simulate_circle, lambda seen, seed: fit_circle(seen, seed, 0.6), say=quiet
    )
    assert not narrow.passed


def test_what_cannot_be_ranked_is_refused():
    exact = fit_as()

    def run(simulate=simulate, fit=exact, **options):
        return simulation_based_calibration(simulate, fit, say=quiet, **options)

    with pytest.raises(InputError, match="20 replicates or more, got 5"):
        run(replicates=5)
    with pytest.raises(InputError, match="multiple of 10"):
        run(draws=200)
    with pytest.raises(InputError, match=r"ranks among 499 draws need as many, got 400 of mean"):
        run(draws=499)
    with pytest.raises(InputError, match=r"no draws of fixed; it has mean"):
        run(fit=lambda data, seed: {k: v for k, v in fit_as()(data, seed).items() if k != "fixed"})
    with pytest.raises(InputError, match="one number for mean"):
        run(fit=lambda data, seed: {"mean": 1.0})
    with pytest.raises(InputError, match="not finite"):
        run(fit=lambda data, seed: {k: v * np.nan for k, v in fit_as()(data, seed).items()})
    with pytest.raises(InputError, match="the same in all truths"):
        run(simulate=lambda seed: ({"fixed": 3.0}, np.zeros((3, 2))))
    with pytest.raises(InputError, match="no quantity in common"):
        run(simulate=lambda seed: ({}, np.zeros((3, 2))))

    def fails(data, seed):
        raise ZeroDivisionError("by hand")

    with pytest.raises(ZeroDivisionError) as caught:
        run(fit=fails)
    assert "in replication 0 of simulation-based calibration, seed" in caught.value.__notes__[0]
