"""How do experts differ when they draw the same things? Consensus, bias, habit, noise, presence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import record, replace, static
from aistat_jax._typing import Array, Float
from aistat_jax.boundary.drawings import Drawing, DrawnCase, basis_of, check_drawings, read_case
from aistat_jax.boundary.evidence import Evidence
from aistat_jax.boundary.opinions import raters as raters_evidence
from aistat_jax.inference import one_core
from aistat_jax.inference.finish import check_draws
from aistat_jax.inference.posterior import Diagnostics, Posterior
from aistat_jax.inference.rater_program import (
    DrawnCases,
    consensus,
    error_variance,
    probability_drawn,
)
from aistat_jax.inference.rater_sampling import sample_raters
from aistat_jax.space.basis import host_variance
from aistat_jax.space.grid import Plane

# Coefficients of a rater's habit: harmonics to 3, or spherical harmonics to degree 2.
HABITS = {2: 6, 3: 8}
# Drawings that are foretold to see how far they stray: so many, or none where there are few.
MOST_FORETOLD, LEAST_FORETOLD = 120, 20


class Interval(NamedTuple):
    """The posterior mean of a number, and its equal-tailed 95% interval."""

    mean: float
    lower: float
    upper: float


class Tails(NamedTuple):
    """How much further than normal errors drawings stray from what is foretold of them.

    All by a factor `inflation`; whole drawings, and places of them, by log-normal factors with
    these log sds.
    """

    inflation: float
    whole: float
    local: float


@record
class RaterModel:
    """What was learned of raters from their drawings of several cases; see `fit_raters`.

    Lengths are in `unit`. `samples` are the draws of the hyperparameters and effects (draw, ...)
    by the names of docs/mathematics.md; `rest` is the sd of what is finer than the basis.
    """

    samples: dict[str, np.ndarray]
    cases: dict[str, DrawnCase]
    rest: float
    scale: float
    usual: float
    raters: tuple[str, ...] = static()
    tools: tuple[str, ...] = static()
    exchangeable: bool = static()
    habits: int = static()
    empties: bool = static()
    unit: str = static()
    diagnostics: Diagnostics = static()
    seed: int = static()
    tails: Tails = static(default=Tails(1.0, 0.0, 0.0))

    @property
    def bias(self) -> dict[str, Interval]:
        """How far outside of the mean of these raters each draws, the whole contour alike.

        Raises InputError for exchangeable raters, who have no names.
        """
        effect = self._named("bias")
        return _intervals(self.raters, effect - effect.mean(axis=1, keepdims=True))

    @property
    def tool(self) -> dict[str, Interval]:
        """How far outside of the mean of these tools each draws; empty for one tool."""
        if "tool" not in self.samples:
            return {}
        effect = self.samples["tool"]
        return _intervals(self.tools, effect - effect.mean(axis=1, keepdims=True))

    @property
    def noise(self) -> dict[str, Interval]:
        """The sd, at one place, of each rater's error in a case of usual size and hardness.

        Exchangeable raters have one, under the name "any".
        """
        noise = self.samples["noise"][:, None]
        if self.exchangeable:
            return _intervals(("any",), noise)
        return _intervals(self.raters, noise * np.exp(self.samples["spread"]))

    def habit(self, rater: str) -> Float[np.ndarray, "draw site"]:
        """How far outside of the consensus a rater draws at each site, bias and habit together.

        Raises InputError for exchangeable raters, and a name that is none of `raters`.
        """
        bias, which = self._named("bias"), self._number(rater)
        found = bias[:, which, None] - bias.mean(axis=1)[:, None]
        chart = next(iter(self.cases.values())).chart
        if not self.habits:
            return found * np.ones(chart.sites)
        basis, _ = basis_of(chart.dims)
        local = self.samples["habit"]
        local = local[:, which] - local.mean(axis=1)
        return found + local @ np.asarray(basis.functions)[:, 1 : 1 + self.habits].T

    def consensus(
        self, case: str | Sequence[Drawing], *, draws: int = 1000, plane: Plane | None = None,
        seed: int = 0,
    ) -> Posterior:  # fmt: skip
        """What raters like these draw of a case on average, as a `Posterior` of its contour.

        `case` is the name of one that was fitted, or drawings of one that may be new. `plane` is
        the slice that curves were drawn in, for figures on its image.
        Raises InputError for an unknown case, and drawings that do not go together.
        """
        return self._posterior(self._case(case), None, None, draws, plane, seed, drawn=False)

    def predict(
        self, case: str | Sequence[Drawing], *, rater: str | None = None, tool: str | None = None,
        draws: int = 1000, plane: Plane | None = None, seed: int = 0,
    ) -> Posterior:  # fmt: skip
        """What a further drawing of a case looks like: by a rater of `raters`, or by a new one.

        `case` as in `consensus`: the drawings that are known. `presence` of the posterior is the
        probability that the further rater finds anything to draw, 1 where no empty drawing was
        fitted. Without a `tool` it is any. Bands and all else work as for any posterior.
        Raises InputError also for a rater or a tool that was not fitted, and for an empty drawing
        where none was.
        """
        who = None if rater is None else self._number(rater)
        if tool is not None and tool not in self.tools:
            raise InputError(
                f"tool {tool!r} is none of those fitted ({', '.join(self.tools)}); leave it out "
                "for any tool"
            )
        what = None if tool is None or len(self.tools) < 2 else self.tools.index(tool)
        found = self._case(case)
        for drawing in found.drawings:
            if drawing.contour is None and not self.empties:
                raise InputError(
                    f"the drawing of case {drawing.case} by rater {drawing.rater} is empty and "
                    "none that was fitted is, so that how often nothing is drawn is not known; "
                    "leave it out, or fit raters with their empty drawings"
                )
        return self._posterior(found, who, what, draws, plane, seed, drawn=True)

    def evidence(self, drawings: Sequence[Drawing]) -> Evidence:
        """Drawings of a case as evidence, with what was learned of who drew them.

        Each contour, less its rater's bias and habit and its tool's bias, is the boundary plus an
        error of the rater's noise in a case of this size, constant share and correlation (posterior
        medians): it adds to `intensity` and other evidence. Empty drawings say nothing of where the
        boundary is.
        Raises InputError where all are empty, for surfaces, and for raters that were not fitted.
        """
        case = self._case(drawings)
        if case.chart.dims == 3:
            raise InputError("drawings are evidence in a slice; pass curves, not meshes")
        middle = {name: float(np.median(v)) for name, v in self.samples.items() if v.ndim == 1}
        usual = middle["noise"] * (case.size / self.usual) ** middle["size_exponent"]
        found: Evidence | None = None
        for drawing in case.drawings:
            if drawing.contour is None:
                continue
            curve, noise, off = drawing.contour, usual, np.zeros(case.chart.sites)
            if not self.exchangeable:
                which = self._number(drawing.rater)
                off = self.habit(drawing.rater).mean(axis=0)
                noise = float(np.median(np.exp(self.samples["spread"][:, which])) * noise)
            if self.tool:
                off = off + self.tool[drawing.tool].mean
            values = case.values(case.offsets(curve) - off)
            one = raters_evidence(
                [case.chart.surface(values)],
                sd=noise,
                constant_share=middle["constant_share"],
                correlation=middle["correlation"],
            )
            found = one if found is None else found + one
        assert found is not None
        return found

    # ------------------------------------------------------------------------------ within

    def _named(self, effect: str) -> np.ndarray:
        if self.exchangeable:
            raise InputError(
                "exchangeable raters have no names, hence no bias of their own; fit named raters "
                "with exchangeable=False"
            )
        return self.samples[effect]

    def _number(self, rater: str) -> int:
        if self.exchangeable or rater not in self.raters:
            known = "none, as raters are exchangeable" if self.exchangeable else None
            raise InputError(
                f"rater {rater!r} is none of those fitted ({known or ', '.join(self.raters)}); "
                "leave it out for a new rater"
            )
        return self.raters.index(rater)

    def _case(self, case: str | Sequence[Drawing]) -> DrawnCase:
        if isinstance(case, str):
            if case not in self.cases:
                raise InputError(
                    f"case {case!r} was not fitted; pass its drawings instead of its name"
                )
            return self.cases[case]
        given = _check_case(case)
        check_drawings(given)
        found = read_case(given)
        first = next(iter(self.cases.values())).chart
        if (found.chart.unit, found.chart.dims) != (first.unit, first.dims):
            raise InputError(
                f"the drawings are {found.chart.dims}D in {found.chart.unit} and those fitted "
                f"{first.dims}D in {first.unit}; fit raters of such drawings"
            )
        if not self.exchangeable:
            for drawing in found.drawings:
                self._number(drawing.rater)
        for drawing in found.drawings:
            if drawing.tool not in self.tools:
                raise InputError(
                    f"tool {drawing.tool!r} is none of those fitted ({', '.join(self.tools)})"
                )
        return found

    def _posterior(
        self, case: DrawnCase, who: int | None, tool: int | None, draws: int,
        plane: Plane | None, seed: int, drawn: bool,
    ) -> Posterior:  # fmt: skip
        check_draws(draws)
        data = pack([case], self, pad=max(len(one.drawings) for one in self.cases.values()))
        total = len(self.samples["noise"])
        chosen = np.arange(draws) * total // draws if draws <= total else np.arange(draws) % total
        samples = {name: value[chosen] for name, value in self.samples.items()}
        with jax.enable_x64(True):
            keys = jax.random.split(jax.random.key(seed), draws)
            found = _further(data, samples, keys, who, tool, drawn)
            coefficients, factor, presence = (np.asarray(each) for each in found)
        basis, _ = basis_of(case.chart.dims)
        offsets = coefficients @ np.asarray(basis.functions).T + case.rest.mean(axis=0)
        rng = np.random.default_rng(seed)
        spare = 1 / len(case.rest) + (1.0 if drawn else 0.0)
        rest = self.rest * np.sqrt(spare) * factor[:, None]
        offsets = offsets + rest * rng.standard_normal(offsets.shape)
        if drawn:
            offsets = self._strayed(offsets, case, rng)
        values = case.values(offsets)
        chart = case.chart if plane is None else replace(case.chart, plane=plane)
        return Posterior(
            chart, values[None], {"scale": factor[None]}, self.diagnostics, "raters", seed,
            case.drawings[0].case, {}, float(presence.mean()) if drawn else 1.0,
        )  # fmt: skip

    def _strayed(
        self, offsets: np.ndarray, case: DrawnCase, rng: np.random.Generator
    ) -> np.ndarray:
        """Draws whose distances from their mean have the tails that drawings have."""
        basis, _ = basis_of(case.chart.dims)
        length = float(np.median(self.samples["correlation"])) / case.size
        variance = host_variance(basis.eigenvalues, 1.0, length, 1.5, basis.dims)
        field = rng.standard_normal((len(offsets), len(variance))) * np.sqrt(variance)
        local = self.tails.local * (field @ np.asarray(basis.functions).T)
        whole = self.tails.whole * rng.standard_normal((len(offsets), 1))
        square = self.tails.whole**2 + self.tails.local**2  # of factors with mean square one
        middle = offsets.mean(axis=0)
        return middle + self.tails.inflation * np.exp(whole + local - square) * (offsets - middle)


def fit_raters(
    drawings: Sequence[Drawing],
    *,
    exchangeable: bool = False,
    habit: bool = True,
    draws: int = 500,
    seed: int = 0,
) -> RaterModel:
    """A hierarchical model of several raters' contours of several cases, in a slice or in space.

    A drawing is the case's consensus, a Gaussian process; plus its rater's bias, the same along
    the whole contour, and habit, a smooth function of direction; plus its tool's bias; plus an
    error with a share that is constant along the contour and a rest that is alike over some
    length, larger in large cases, in hard ones, and for some raters. Which rater draws anything
    at all is told by a level of the case and of the rater. Everything is learned from all cases
    together, in millimetres (pixels) along the normals.

    A rater who did not draw a case has no `Drawing` of it; one who found nothing has an empty one
    (contour None). Cases of which nobody drew anything are not known to exist: leave them out.
    `exchangeable=True` for anonymous readers, whose names mean nothing from one case to the next:
    biases are then part of the error. `habit=False` where cases are turned differently.

    Contours are read along rays from a point inside of all drawings: of what a ray meets several
    times, its last exit counts.

    Raises InputError for fewer than two raters, no case that two drew, two drawings by one rater of
    one case with one tool, cases without any contour, contours that share no point, of several
    units or kinds, and points that are not finite.

    >>> import numpy as np
    >>> from aistat_jax.space.curve import Curve
    >>> fit_raters([Drawing("P01", "Doe", Curve(np.eye(3)[:, :2]))])
    Traceback (most recent call last):
        ...
    aistat_jax._errors.InputError: raters are compared with each other, and all drawings are by Doe
    """
    drawings = list(drawings)
    check_draws(draws)
    check_drawings(drawings)
    raters = tuple(dict.fromkeys(each.rater for each in drawings))
    tools = tuple(dict.fromkeys(each.tool for each in drawings))
    if len(raters) < 2:
        raise InputError(
            f"raters are compared with each other, and all drawings are by {drawings[0].rater}"
        )
    together: dict[str, list[Drawing]] = {}
    for each in drawings:
        together.setdefault(each.case, []).append(each)
    cases = {name: read_case(_check_case(case)) for name, case in together.items()}
    several = [case for case in cases.values() if len(case.rest) > 1]
    if not several:
        raise InputError("no case was drawn by two raters, so that none can be compared")
    freedom = sum(len(case.rest) - 1 for case in several)

    def pooled(parts: Any) -> float:
        squares = [np.square(each - each.mean(axis=0)).sum() / each.shape[1] for each in parts]
        return float(np.sqrt(sum(squares) / freedom))

    basis, _ = basis_of(several[0].chart.dims)
    seen = [case.coefficients @ np.asarray(basis.functions).T for case in several]
    usual = float(np.median([case.size for case in cases.values()]))
    model = RaterModel(
        {}, cases, pooled([case.rest for case in several]), max(pooled(seen), 1e-6 * usual), usual,
        raters, tools, exchangeable, 0 if exchangeable or not habit else HABITS[basis.dims + 1],
        any(each.contour is None for each in drawings), several[0].chart.unit,
        Diagnostics(True, np.inf), seed,
    )  # fmt: skip
    samples, diagnostics = sample_raters(pack(list(cases.values()), model), draws, seed)
    model = replace(model, samples=samples, diagnostics=diagnostics)
    return replace(model, tails=_tails(model, seed))


def _tails(model: RaterModel, seed: int) -> Tails:
    """By moments of drawings foretold from the others of their case; see docs/mathematics.md."""
    pairs = [
        (case.drawings, n)
        for case in model.cases.values()
        if len(case.rest) > 1
        for n, each in enumerate(case.drawings)
        if each.contour is not None
    ]
    if len(pairs) < LEAST_FORETOLD:
        return Tails(1.0, 0.0, 0.0)
    order = np.random.default_rng(seed).permutation(len(pairs))[:MOST_FORETOLD]
    off, sd = [], []
    for drawings, n in (pairs[i] for i in order):
        left, others = drawings[n], [*drawings[:n], *drawings[n + 1 :]]
        known: dict[str, Any] = {} if model.exchangeable else {"rater": left.rater}
        if len(model.tools) > 1:
            known["tool"] = left.tool
        try:
            posterior = model.predict(others, draws=100, seed=n, **known)
            truth = posterior.chart.values_of(left.contour)
        except InputError:  # it has no point in common with the others
            continue
        off.append(truth - posterior.estimate)
        sd.append(posterior.draws.std(axis=0, ddof=1))
    if len(off) < LEAST_FORETOLD:
        return Tails(1.0, 0.0, 0.0)
    z = np.array(off) / np.array(sd)
    square = np.square(z).mean()
    opposite = _opposite(next(iter(model.cases.values())).chart)
    alike = (z * z[:, opposite]).mean() / square
    far = np.square(z * z[:, opposite]).mean() / square**2 / (1 + 2 * alike**2)
    here = (z**4).mean() / square**2 / 3
    whole = max(np.log(far), 0.0) / 4
    local = max(np.log(here) / 4 - whole, 0.0)
    return Tails(float(np.sqrt(square)), float(np.sqrt(whole)), float(np.sqrt(local)))


def _opposite(chart: Any) -> np.ndarray:
    """The site on the other side of each."""
    return np.argmin(chart.directions @ chart.directions.T, axis=1)


def pack(cases: Sequence[DrawnCase], model: RaterModel, pad: int = 0) -> DrawnCases:
    """Cases in arrays, with room for at least `pad` drawings of each."""
    room = max([pad, *(len(case.drawings) for case in cases)])
    basis, _ = basis_of(cases[0].chart.dims)
    shape = (len(cases), room)
    coefficients = np.zeros((*shape, len(basis.eigenvalues)))
    drawn, asked = np.zeros(shape), np.zeros(shape)
    rater, tool = np.zeros(shape, dtype=int), np.zeros(shape, dtype=int)
    for i, case in enumerate(cases):
        count, here = len(case.drawings), [each.contour is not None for each in case.drawings]
        asked[i, :count], drawn[i, :count] = 1, here
        coefficients[i, np.flatnonzero(here)] = case.coefficients
        for j, each in enumerate(case.drawings):
            rater[i, j] = 0 if model.exchangeable else model.raters.index(each.rater)
            tool[i, j] = model.tools.index(each.tool)
    return DrawnCases(
        coefficients, np.stack([case.circle for case in cases]),
        np.array([case.size for case in cases]), drawn, asked, rater, tool,
        np.asarray(basis.eigenvalues), np.asarray(model.scale), np.asarray(model.usual),
        basis.dims, len(model.raters), len(model.tools), model.habits, model.exchangeable,
        model.empties,
    )  # fmt: skip


def _check_case(drawings: Sequence[Drawing]) -> list[Drawing]:
    """Drawings of one case, of which one at least is not empty."""
    drawings = list(drawings)
    if not drawings:
        raise InputError("there are no drawings; pass those of one case")
    names = sorted({each.case for each in drawings})
    if len(names) > 1:
        raise InputError(f"drawings of one case are needed, got those of {', '.join(names)}")
    if all(each.contour is None for each in drawings):
        raise InputError(
            f"case {names[0]} has no contour, only empty drawings; leave it out: of where its "
            "boundary is nothing is known"
        )
    return drawings


def _intervals(names: Sequence[str], draws: np.ndarray) -> dict[str, Interval]:
    lower, upper = np.quantile(draws, [0.025, 0.975], axis=0)
    each = zip(names, draws.mean(axis=0), lower, upper, strict=True)
    return {name: Interval(*(float(v) for v in row)) for name, *row in each}


@partial(one_core.quick, static_argnames="drawn")
def _further(
    data: DrawnCases, samples: Mapping[str, Array], keys: Array, who: Any, tool: Any, drawn: bool
) -> tuple[Array, Array, Array]:
    """Coefficients of a consensus, or of a further drawing, for every draw; factor; presence."""

    def one(sites: dict[str, Array], key: Array) -> tuple[Array, Array, Array]:
        keys = jax.random.split(key, 6)
        middle, factor = consensus(data, sites, keys[0])
        middle, factor = middle[0], factor[0]
        if not drawn:
            return middle, factor, jnp.ones(())
        noise, effect = sites["noise"] * factor, jnp.zeros(())
        if not data.exchangeable:

            def of(name: str, key: Array, which: Any) -> Array:
                """The effect of one who was fitted, or of one more of the kind."""
                if which is not None:
                    return sites[name][which]
                further = jax.random.normal(key, sites[name].shape[1:])
                return jnp.asarray(sites[f"{name}_sd"] * further)

            constant = of("bias", keys[1], who)
            if data.tools > 1:
                constant = constant + of("tool", keys[2], tool)
            middle = middle.at[0].add(constant)
            if data.habits:
                middle = middle.at[1 : 1 + data.habits].add(of("habit", keys[3], who))
            noise = noise * jnp.exp(of("spread", jax.random.fold_in(keys[4], 1), who))
            if data.empties:
                effect = of("presence_rater", jax.random.fold_in(keys[4], 2), who)
        sd = noise * jnp.sqrt(error_variance(data, sites)[0])
        middle = middle + sd * jax.random.normal(keys[5], middle.shape)
        drawn_at_all = probability_drawn(data, sites, effect)[0] if data.empties else jnp.ones(())
        return middle, factor, drawn_at_all

    return jax.vmap(one)(dict(samples), keys)
