"""Is a model of one's own calibrated? Simulate, fit, rank, many times over; its cost said before.

For any simulator and any fit, of this package or not; of posteriors at hand see `sbc_ranks`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._progress import progress_bar
from aistat_jax._record import record
from aistat_jax._typing import Float, Int
from aistat_jax.inference.posterior import Posterior
from aistat_jax.uncertainty.calibration import Ranks, quantities
from aistat_jax.uncertainty.uniformity import check_draws

FALSE_ALARM = 0.01
Values = Posterior | Mapping[str, Any]


@record
class SBCResult:
    """Ranks of simulated truths, and the seconds that each replication took.

    Shapes: seconds (replicate,).
    """

    ranks: Ranks
    seconds: Float[np.ndarray, " replicate"]

    @property
    def passed(self) -> bool:
        """Whether no test of uniformity alarms: p at least 1%, over all quantities and tests."""
        return self.ranks.p >= FALSE_ALARM

    @property
    def findings(self) -> dict[str, str]:
        """In words what is wrong with each quantity whose ranks are not even."""
        ranks = self.ranks
        bound = FALSE_ALARM / (2 * len(ranks.names))
        return {
            name: _what_is_wrong(column, ranks.draws)
            for (name, pair), column in zip(ranks.p_values().items(), ranks.values.T, strict=True)
            if min(pair) < bound
        }


def simulation_based_calibration(
    simulate: Callable[[int], tuple[Values, Any]],
    fit: Callable[[Any, int], Values],
    *,
    replicates: int = 200,
    draws: int = 199,
    seed: int = 0,
    at_most_s: float | None = None,
    say: Callable[[str], None] = print,
) -> SBCResult:
    """Fit data simulated from known truths and rank the truths among posterior draws.

    `simulate(seed)` draws a truth from the prior that the fit uses, and data given the truth:
    (truth, data). `fit(data, seed)` gives the posterior. A truth is a mapping of names to numbers
    or arrays, a posterior one of the same names to draws (draw, ...), which should be nearly
    independent; arrays are ranked number by number. Either may be a `Posterior` (as a truth that
    of `prior_draws(model, 1, seed)`): then what is ranked is what `quantities` tells and both have.
    What is the same in all truths is left out. Draws equal to the truth are put on either side of
    it at random.

    Two replications are timed, the first of which compiles, and `say` is told what all will take
    before the others run. `at_most_s` refuses what would take longer. Raises InputError for that,
    for fewer than 20 replicates, for `draws` whose ranks do not fall into ten equal bins, for fits
    of fewer draws, draws that are not finite, and names that the fit does not have.
    Sources: Talts et al. 2018; Modrák et al. 2023 (ties); Sailynoja, Burkner & Vehtari 2022.
    """
    check_draws(draws)
    if replicates < 20:
        raise InputError(f"calibration takes 20 replicates or more, got {replicates}")
    found: list[tuple[dict[str, float], dict[str, int]]] = []
    seconds: list[float] = []

    def replication(n: int) -> None:
        start = time.perf_counter()
        own = int(np.random.SeedSequence([seed, n]).generate_state(1)[0])
        try:
            truth, data = simulate(own)
            found.append(_rank(truth, fit(data, own), draws, own))
        except Exception as error:
            error.add_note(f"in replication {n} of simulation-based calibration, seed {own}")
            raise
        seconds.append(time.perf_counter() - start)

    for n in range(2):
        replication(n)
    rest = (replicates - 2) * seconds[1]
    if at_most_s is not None and sum(seconds) + rest > at_most_s:
        room = max(0, int((at_most_s - sum(seconds)) / seconds[1])) + 2
        advice = f"ask for at most {room}" if room >= 20 else "make the fit cheaper"
        raise InputError(
            f"{replicates} replications would take about {in_time(sum(seconds) + rest)}, more than "
            f"{in_time(at_most_s)}; {advice}"
        )
    say(
        f"2 of {replicates} replications took {in_time(sum(seconds))}; the other "
        f"{replicates - 2} will take about {in_time(rest)}."
    )
    for n in progress_bar(range(2, replicates), "calibrating", replicates - 2):
        replication(n)
    return SBCResult(_together(found, draws), np.array(seconds))


def in_time(seconds: float) -> str:
    """A duration in the unit it is read in.

    >>> in_time(0.042), in_time(93), in_time(7200)
    ('0.042 s', '93 s', '2 h')
    """
    for unit, size in (("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"


def _rank(
    truth: Values, fitted: Values, draws: int, seed: int
) -> tuple[dict[str, float], dict[str, int]]:
    """Every truth, and its rank among draws taken at random."""
    rng = np.random.default_rng([seed, 1])
    true, drawn = _numbers(truth, truth=True), _numbers(fitted, truth=False)
    if not isinstance(fitted, Posterior) and (lacking := sorted(true.keys() - drawn.keys())):
        raise InputError(
            f"the fit has no draws of {lacking[0]}; it has {', '.join(drawn) or 'nothing'}"
        )
    values, ranks = {}, {}
    for name in (name for name in true if name in drawn):
        number, sample = float(true[name][0]), drawn[name]
        if len(sample) < draws:
            raise InputError(f"ranks among {draws} draws need as many, got {len(sample)} of {name}")
        if not (np.isfinite(sample).all() and math.isfinite(number)):
            raise InputError(f"{name} has a truth or draws that are not finite")
        chosen = rng.permutation(sample)[:draws]
        ties = int((chosen == number).sum())
        values[name], ranks[name] = number, int((chosen < number).sum() + rng.integers(ties + 1))
    if not values:
        raise InputError("the truth and the fit have no quantity in common to rank")
    return values, ranks


def _numbers(given: Values, *, truth: bool) -> dict[str, Float[np.ndarray, " draw"]]:
    """Every scalar quantity with its draws; of a truth one each."""
    if isinstance(given, Posterior):
        return {name: np.asarray(v, dtype=float) for name, v in quantities(given).items()}
    found: dict[str, np.ndarray] = {}
    for name, value in given.items():
        array = np.asarray(value, dtype=float)
        array = array[None] if truth else array
        if array.ndim == 0:
            raise InputError(f"the fit has one number for {name}, not draws of it")
        if array.ndim == 1:
            found[name] = array
            continue
        flat = array.reshape(len(array), -1)
        places = np.ndindex(*array.shape[1:])
        found |= {
            f"{name}[{','.join(map(str, place))}]": column
            for place, column in zip(places, flat.T, strict=True)
        }
    return found


def _together(found: list[tuple[dict[str, float], dict[str, int]]], draws: int) -> Ranks:
    shared = [name for name in found[0][0] if all(name in values for values, _ in found)]
    varied = [name for name in shared if np.ptp([values[name] for values, _ in found]) > 0]
    if not varied:
        raise InputError("every quantity is the same in all truths; draw them from a prior")
    ranks = np.array([[each[name] for name in varied] for _, each in found])
    return Ranks(ranks, tuple(varied), draws)


def _what_is_wrong(ranks: Int[np.ndarray, " replicate"], draws: int) -> str:
    """The larger of two departures from even ranks, in standard errors: of mean and of spread."""
    place = (ranks + 0.5) / (draws + 1) - 0.5
    shift = place.mean() / np.sqrt(1 / 12 / len(place))
    spread = ((place**2).mean() - 1 / 12) / np.sqrt(1 / 180 / len(place))
    if max(abs(shift), abs(spread)) < 2.5:
        return "ranks are uneven, neither shifted nor too wide or narrow as a whole"
    if abs(spread) > abs(shift):
        return (
            "posteriors are too narrow: truths lie at both ends of the draws too often"
            if spread > 0
            else "posteriors are too wide: truths lie in the middle of the draws too often"
        )
    return f"posteriors are too {'low' if shift > 0 else 'high'}: truths lie to one side of them"
