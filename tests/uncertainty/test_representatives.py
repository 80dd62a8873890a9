"""Do a few boundaries stand for all draws better than as many at random?"""

from __future__ import annotations

import numpy as np
import pytest

from aistat_jax._errors import InputError
from aistat_jax._record import replace
from aistat_jax.uncertainty.probability import draw_masks, sample_masks
from aistat_jax.uncertainty.readers import ged_squared, pairwise_iou
from aistat_jax.uncertainty.representatives import nearest_to, representatives, sector_distance
from tests.helpers import make_posterior


def star_distance(a, b):
    return sector_distance(np.square(a), np.square(b))


def _energy(posterior, radii, nothing):
    """Squared energy distance of radii and so many times nothing to a posterior, by hand."""
    all_draws, p = posterior.draws, posterior.presence
    count = len(radii) + nothing
    across = p * (star_distance(radii, all_draws).mean(axis=1).sum() + nothing) / count
    across += (1 - p) * len(radii) / count
    among = (star_distance(radii, radii).sum() + 2 * len(radii) * nothing) / count**2
    within = p**2 * star_distance(all_draws, all_draws).mean() + 2 * p * (1 - p)
    return 2 * across - among - within


def test_the_distance_of_stars_is_that_of_their_masks():
    posterior = make_posterior(draws=12, sd=0.2, size=160, spacing=0.5)
    masks, sectors = draw_masks(posterior), posterior.chart.sectors(posterior.draws)
    np.testing.assert_allclose(
        sector_distance(sectors, sectors), 1 - pairwise_iou(masks, masks), atol=0.01
    )


@pytest.mark.parametrize("presence", [1.0, 0.6, 0.1])
def test_closer_than_nearly_all_random_choices(presence):
    posterior = replace(make_posterior(draws=300, sd=0.2), presence=presence)
    few = representatives(posterior, 16)
    kept = round(16 * few.presence)
    best = _energy(posterior, few.draws[:kept], 16 - kept)
    rng, random = np.random.default_rng(0), []
    for _ in range(200):
        there = rng.random(16) < presence
        random.append(
            _energy(posterior, posterior.draws[rng.integers(300, size=there.sum())], (~there).sum())
        )
    assert 0 <= best < np.quantile(random, 0.05)
    assert best < 0.35 * np.mean(random)
    assert few.presence == pytest.approx(presence, abs=1.5 / 16)


def test_no_exchange_of_one_would_help_and_one_alone_is_the_medoid(rng):
    points = rng.normal(size=(40, 2))
    distance = np.linalg.norm(points[:, None] - points, axis=-1)
    weights = rng.dirichlet(np.ones(40))

    def energy(chosen):
        return 2 * (distance @ weights)[chosen].mean() - distance[np.ix_(chosen, chosen)].mean()

    chosen = nearest_to(weights, distance, 7)
    for place in range(7):
        for other in range(40):
            swapped = chosen.copy()
            swapped[place] = other
            assert energy(swapped) >= energy(chosen) - 1e-9
    assert nearest_to(weights, distance, 1) == [np.argmin(distance @ weights)]


def test_modes_are_kept_in_proportion():
    """Three draws in four near radius 10, one in four near 14."""
    posterior = make_posterior(draws=400, axes=(10.0, 10.0), sd=0.02)
    radii = posterior.radii.copy()
    radii[..., 300:, :] *= 1.4
    few = representatives(replace(posterior, radii=radii), 16)
    assert (few.draws.mean(axis=1) > 12).sum() == 4


def test_what_comes_back_are_draws_with_their_samples():
    posterior = make_posterior(draws=50, sd=0.1)
    tagged = replace(posterior, samples={"z": np.arange(50.0).reshape(posterior.radii.shape[:2])})
    few, again = representatives(tagged, 5), representatives(tagged, 5)
    assert few.radii.shape[:2] == (1, 5)
    np.testing.assert_array_equal(few.draws, posterior.draws[few.samples["z"][0].astype(int)])
    np.testing.assert_array_equal(few.draws, again.draws)
    assert few.diagnostics is posterior.diagnostics


def test_nothing_is_likely_and_a_boundary_is_kept():
    posterior = replace(make_posterior(draws=50, sd=0.1), presence=0.01)
    few = representatives(posterior, 4)
    assert few.presence == 0
    assert few.radii.shape[:2] == (1, 1)
    assert not sample_masks(few, 8).any()


def test_as_readers_they_score_better_than_samples():
    """Against masks of the posterior itself: what the score of a network is made of."""
    posterior = make_posterior(draws=200, sd=0.15, size=60)
    readers = sample_masks(posterior, 200, seed=1)
    chosen = ged_squared(draw_masks(representatives(posterior, 16)), readers)
    random = [ged_squared(sample_masks(posterior, 16, seed=n), readers) for n in range(2, 22)]
    assert chosen < min(random)


def test_none_is_refused():
    with pytest.raises(InputError, match="at least one representative"):
        representatives(make_posterior(), 0)
