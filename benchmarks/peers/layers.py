"""What do learned last layers on a frozen network say? Dropout, an ensemble, correlated logits.

All have the same layers: 1 x 1, 3 x 3 and 1 x 1, on the network's last features and log-odds, on
the log-odds within the target's reach, and on how far a pixel is from the target. They learn from
CROP x CROP pixels, one reader's mask at random each time, turned and mirrored at random, with
features scaled and shifted as the contour head's are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from aistat_jax._typing import Array, Bool, Float
from aistat_jax.nets.blocks import Conv, rectify
from aistat_jax.nets.contour_head import SLOPE, Linear
from aistat_jax.nets.head_training import FEATURE_SD, HeadSettings, optimised
from aistat_jax.nets.weights import filled
from benchmarks.peers import DRAWS, Band, band_of_levels, given_something
from benchmarks.peers.cases import Case, middle_of

WIDTH, OWN = 16, 3  # of the layers; inputs that are no features
RATE = 0.5  # as Bayesian SegNet (Kendall et al. 2017, BMVC) and Kohl et al. 2018 have it
MEMBERS = 5
RANK, LOSS_SAMPLES = 10, 20


class LastLayers(nnx.Module):
    """From inputs (case, i, j, input) to numbers of a pixel (case, i, j, output)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        self.first = Conv(inputs, WIDTH, (1, 1), (1, 1))
        self.second = Conv(WIDTH, WIDTH, (3, 3), (1, 1))
        self.last = Linear(WIDTH, outputs)

    def hidden(self, x: Float[Array, "case i j input"]) -> Float[Array, "case i j hidden"]:
        return rectify(self.second(rectify(self.first(x), SLOPE)), SLOPE)

    def __call__(self, x: Float[Array, "case i j input"]) -> Float[Array, "case i j output"]:
        return self.last(self.hidden(x))


class Batch(NamedTuple):
    """Shapes: inputs (case, i, j, input), mask (case, i, j); seed () of what else is random."""

    inputs: Any
    mask: Any
    seed: Any


def inputs_of(case: Case) -> Float[np.ndarray, "i j input"]:
    """Features, log-odds, log-odds within reach, and log1p of the distance in rough radii."""
    away = np.linalg.norm(case.plane.points() - case.target.centre, axis=-1) / case.target.radius
    own = np.stack([case.log_odds / 4, case.reached / 4, np.log1p(away)], axis=-1)
    return np.concatenate([case.features, own], axis=-1, dtype=np.float16, casting="unsafe")


def batches(cases: Sequence[Case], size: int, seed: int) -> Iterator[Batch]:
    """Without end."""
    near = [middle_of(case.log_odds.shape) for case in cases]
    inputs = np.stack([inputs_of(case)[at] for case, at in zip(cases, near, strict=True)])
    masks = np.stack([case.masks[:, *at] for case, at in zip(cases, near, strict=True)])
    rng = np.random.default_rng(seed)
    sd = FEATURE_SD * (np.arange(inputs.shape[-1]) < inputs.shape[-1] - OWN)
    while True:
        chosen = rng.integers(len(inputs), size=size)
        reader = rng.integers(masks.shape[1], size=size)
        x, y = inputs[chosen].astype(np.float32), masks[chosen, reader].astype(np.float32)
        turns, mirrored = int(rng.integers(4)), rng.random() < 0.5
        x, y = np.rot90(x, turns, (1, 2)), np.rot90(y, turns, (1, 2))
        x, y = (x[:, ::-1], y[:, ::-1]) if mirrored else (x, y)
        scale, shift = (sd * rng.standard_normal((2, size, 1, 1, len(sd)))).astype(np.float32)
        moved = np.ascontiguousarray(x * np.exp(scale) + shift)
        yield Batch(moved, np.ascontiguousarray(y), np.uint32(rng.integers(2**31)))


def learned(
    cases: Sequence[Case], outputs: int, loss: Callable[[LastLayers, Batch], Array],
    budget: HeadSettings, seed: int,
) -> tuple[Any, Any]:  # fmt: skip
    """Graph and state of layers that have learned."""
    inputs = cases[0].features.shape[-1] + OWN
    weights = optimised(
        LastLayers(inputs, outputs), loss, batches(cases, budget.batch, seed),
        replace(budget, seed=seed), lambda step, loss: None,
    )  # fmt: skip
    graph, state = nnx.split(nnx.eval_shape(lambda: LastLayers(inputs, outputs)))
    return graph, filled(state, weights)


@partial(jax.jit, static_argnums=(0, 3))
def applied(graph: Any, state: Any, x: Array, hidden: bool) -> Array:
    layers = nnx.merge(graph, state)
    return layers.hidden(x[None])[0] if hidden else layers(x[None])[0]


def cross_entropy(logits: Array, mask: Array) -> Array:
    """A pixel's, in nats."""
    return jax.nn.softplus(logits) - mask * logits


# ------------------------------------------------------------------ several maps a case


@dataclass(frozen=True, eq=False)
class Voices:
    """Maps of log-odds, each as likely as the others.

    A sample is one of them cut at 0, or with `levels` at a level that is uniform in probability.
    """

    maps: Callable[[np.random.Generator, int], Float[np.ndarray, "count i j"]]
    levels: bool

    @cached_property
    def many(self) -> Float[np.ndarray, "draw i j"]:
        return self.maps(np.random.default_rng(0), DRAWS)

    def samples(self, rng: np.random.Generator, count: int) -> Bool[np.ndarray, "count i j"]:
        return self._cut(self.maps(rng, count), rng)

    def _cut(self, maps: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if not self.levels:
            return maps > 0
        level = rng.random(len(maps)).astype(np.float32)
        return maps > np.log(level / (1 - level))[:, None, None]

    @cached_property
    def drawn(self) -> Bool[np.ndarray, "draw i j"]:
        return self._cut(self.many, np.random.default_rng(1))

    @cached_property
    def probability(self) -> Float[np.ndarray, "i j"]:
        """The mean of the maps' probabilities."""
        return np.asarray(_sigmoid(self.many).mean(axis=0), float)

    @property
    def presence(self) -> float:
        if self.levels:
            return float(np.mean(_sigmoid(self.many.max(axis=(1, 2)))))
        return float(self.drawn.any(axis=(1, 2)).mean())

    @property
    def middle(self) -> Bool[np.ndarray, "i j"]:
        return given_something(self.probability, self.presence)

    @property
    def band(self) -> Band:
        return band_of_levels(self.probability, self.drawn)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * x))


@dataclass(frozen=True, eq=False)
class Dropped:
    """Layers whose last hidden features are dropped, whole channels at a time, draw by draw."""

    name: str
    graph: Any
    state: Any
    levels: bool = False

    def at(self, case: Case) -> Voices:
        return Voices(partial(self._maps, _once(lambda: self._hidden(case))), self.levels)

    def _hidden(self, case: Case) -> np.ndarray:
        x = jnp.asarray(inputs_of(case), jnp.float32)
        return np.asarray(applied(self.graph, self.state, x, True))

    def _maps(
        self, hidden: Callable[[], np.ndarray], rng: np.random.Generator, count: int
    ) -> np.ndarray:
        kept = (rng.random((count, WIDTH)) >= RATE).astype(np.float32) / (1 - RATE)
        last = nnx.merge(self.graph, self.state).last
        weights = kept * np.asarray(last.kernel[...])[:, 0]
        maps = hidden() @ weights.T + np.asarray(last.bias[...])
        return np.moveaxis(maps, -1, 0)


def _once(make: Callable[[], Any]) -> Callable[[], Any]:
    """A value that is made when it is first asked for."""
    kept: list[Any] = []

    def value() -> Any:
        if not kept:
            kept.append(make())
        return kept[0]

    return value


class Dropout:
    """MC dropout (Gal & Ghahramani 2016, Dropout as a Bayesian approximation, ICML).

    On the features that the last layer reads: a channel is kept or dropped in the whole image, as
    one draw of that layer's weights. Samples are cut at one half, as is usual; a second peer cuts
    each draw's map at a level at random.
    """

    def fit(self, cases: Sequence[Case], budget: HeadSettings, seed: int) -> list[Any]:
        def loss(layers: LastLayers, batch: Batch) -> Array:
            hidden = layers.hidden(batch.inputs)
            shape = (len(hidden), 1, 1, WIDTH)
            kept = jax.random.bernoulli(jax.random.key(batch.seed), 1 - RATE, shape) / (1 - RATE)
            return jnp.mean(cross_entropy(layers.last(hidden * kept)[..., 0], batch.mask))

        graph, state = learned(cases, 1, loss, budget, seed)
        return [
            Dropped("MC dropout", graph, state),
            Dropped("MC dropout, level sets", graph, state, levels=True),
        ]


@dataclass(frozen=True, eq=False)
class Members:
    """Last layers that have learned from different seeds."""

    name: str
    graph: Any
    states: tuple[Any, ...]
    levels: bool = False

    def at(self, case: Case) -> Voices:
        return Voices(partial(self._maps, _once(lambda: self._each(case))), self.levels)

    def _each(self, case: Case) -> np.ndarray:
        x = jnp.asarray(inputs_of(case), jnp.float32)
        return np.stack([np.asarray(applied(self.graph, s, x, False))[..., 0] for s in self.states])

    def _maps(
        self, each: Callable[[], np.ndarray], rng: np.random.Generator, count: int
    ) -> np.ndarray:
        """Members in turn, so that each speaks as often as the others or once more."""
        maps = each()
        return maps[np.resize(rng.permutation(len(maps)), count)]


class Ensemble:
    """A deep ensemble (Lakshminarayanan et al. 2017, NeurIPS) of last layers: the backbone is one.

    Its members differ by their first weights and their batches. Beside it one member alone by its
    level sets: what learning the last layers anew is worth without any ensemble.
    """

    def fit(self, cases: Sequence[Case], budget: HeadSettings, seed: int) -> list[Any]:
        def loss(layers: LastLayers, batch: Batch) -> Array:
            return jnp.mean(cross_entropy(layers(batch.inputs)[..., 0], batch.mask))

        graph, states = None, []
        for member in range(MEMBERS):
            graph, state = learned(cases, 1, loss, budget, seed * MEMBERS + member)
            states.append(state)
        return [
            Members("ensemble of last layers", graph, tuple(states)),
            Members("ensemble of last layers, level sets", graph, tuple(states), levels=True),
            Members("last layers learned anew, level sets", graph, tuple(states[:1]), levels=True),
        ]


# ------------------------------------------------------------------------ correlated logits


class Normal(NamedTuple):
    """Logits (*batch, i, j): normal, of covariance factor factor' + diag(variance)."""

    mean: Any
    variance: Any
    factor: Any

    def logits(self, waves: Any, noise: Any) -> Any:
        """From standard normals. Shapes: waves (*batch, rank), noise (*batch, i, j)."""
        common = (self.factor * waves[..., None, None, :]).sum(axis=-1)
        return self.mean + common + self.variance**0.5 * noise

    def draws(self, rng: np.random.Generator, count: int) -> Float[np.ndarray, "count i j"]:
        """Of one case."""
        waves = rng.standard_normal((count, self.factor.shape[-1]), np.float32)
        noise = rng.standard_normal((count, *self.mean.shape), np.float32)
        common = np.moveaxis(self.factor @ waves.T, -1, 0)
        return self.mean + common + np.sqrt(self.variance) * noise


def normal_of(numbers: Array) -> Normal:
    """From the outputs of layers (*batch, i, j, 2 + RANK).

    Layers begin with little covariance: from much of it they had learned next to nothing after 600
    steps (an NLL near the boundary of .48 where cross-entropy came to .12, on phantoms).
    """
    variance = jax.nn.softplus(numbers[..., 1] - 5.0) + 1e-5
    return Normal(numbers[..., 0], variance, 0.1 * numbers[..., 2:])


@dataclass(frozen=True, eq=False)
class StochasticFitted:
    graph: Any
    state: Any
    name: str = "stochastic segmentation network"

    def at(self, case: Case) -> Voices:
        x = jnp.asarray(inputs_of(case), jnp.float32)
        law = normal_of(applied(self.graph, self.state, x, False))
        return Voices(Normal(*map(np.asarray, law)).draws, levels=False)


class Stochastic:
    """A stochastic segmentation network (Monteiro et al. 2020, NeurIPS) on the frozen features.

    Logits of all pixels are jointly normal, of rank RANK and a diagonal; of one foreground, where
    the paper has a logit a class. It learns by a Monte-Carlo estimate of the likelihood of a whole
    mask, the mean over LOSS_SAMPLES of the product over pixels.
    """

    def fit(self, cases: Sequence[Case], budget: HeadSettings, seed: int) -> list[Any]:
        return [StochasticFitted(*learned(cases, 2 + RANK, stochastic_loss, budget, seed))]


def stochastic_loss(layers: LastLayers, batch: Batch) -> Array:
    """Minus the log of the mean likelihood over samples, a pixel."""
    law = normal_of(layers(batch.inputs))
    waves, noise = jax.random.split(jax.random.key(batch.seed))
    size, shape = law.mean.shape[0], law.mean.shape
    z = jax.random.normal(waves, (LOSS_SAMPLES, size, RANK))
    e = jax.random.normal(noise, (LOSS_SAMPLES, *shape))
    common = jnp.einsum("bijr,sbr->sbij", law.factor, z)
    logits = law.mean + common + jnp.sqrt(law.variance) * e
    each = -jnp.sum(cross_entropy(logits, batch.mask), axis=(2, 3))
    total = jax.scipy.special.logsumexp(each, axis=0) - np.log(LOSS_SAMPLES)
    return -jnp.mean(total) / np.prod(shape[1:])
