"""What does a network say about an image? Log-odds of every label on the image's own grid.

The working grid is covered by overlapping windows of the plan's patch, whose log-odds are
averaged with Gaussian weights, so that no seam shows. Every pass over the image that differs by
a member of the ensemble, a mirroring or a draw of dropout is a voice: the answer is the mean of
their probabilities, and how far they disagree is its spread.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from aistat_jax._errors import InputError
from aistat_jax._record import record, static
from aistat_jax._typing import Array, Float, Int
from aistat_jax.nets.architecture import Architecture
from aistat_jax.nets.backbones import backbone
from aistat_jax.nets.losses import log_odds
from aistat_jax.nets.plan import Plan, memory_bytes
from aistat_jax.nets.prepare import Prepared, join_planes, prepare, restore, working_grid
from aistat_jax.nets.prompts import GUIDES, asks
from aistat_jax.nets.weights import Net
from aistat_jax.space.grid import Grid
from aistat_jax.space.image import Image

SIGMA = 1 / 8  # of the Gaussian window, as a share of the patch's edge
# Of a training step's memory, what XLA planned on a CPU for a forward pass alone: 0.14 to 0.17 in
# 2D, and 0.22 to 0.24 in 3D, where sums of slices are convolved.
PASS_SHARE = {2: 0.2, 3: 0.25}
LARGEST_ODDS = 16.0  # log-odds beyond these are not told apart: float32 probabilities end there


@record
class Prediction:
    """What a network says, on the native grid of the image's primary channel.

    Shapes: log_odds (i, j, k, label) of each label of the plan but the background, against all
    others; spread, the same shape, the sd of the log-odds over the voices (0 with one voice).
    """

    log_odds: Float[np.ndarray, "i j k label"]
    spread: Float[np.ndarray, "i j k label"]
    grid: Grid
    labels: tuple[str, ...] = static()
    voices: int = static(default=1)


def predict(
    net: Net,
    image: Image,
    *,
    overlap: float = 0.5,
    mirror: bool = True,
    dropout_draws: int = 0,
    batch: int | None = None,
    guidance: Float[np.ndarray, "i j k guide"] | None = None,
    seed: int = 0,
    progress: Callable[[int, int], Any] | None = None,
) -> Prediction:
    """Log-odds of every label, on the image's own grid.

    overlap: the share of a patch's edge that neighbouring windows have in common. mirror: also
    predict every mirror image, along the plan's `mirror_axes`. dropout_draws: this many draws of
    Monte-Carlo dropout for every member in place of one pass without. guidance: for a network that
    takes prompts, what `prompts` makes of points and a box. Once a foreground point or a box asks
    for something, the windows that hold no part of either were not asked: where there are only
    such, and for a 2D network in every plane without a prompt, the answer is background. progress
    is called with the windows done and their number.
    Memory is that of `prediction_bytes`, whatever the number of voices.

    Raises InputError for channels the network needs and the image lacks, an overlap outside
    [0, 1), draws of dropout from a network without dropout, or log-odds that are not finite.
    """
    a = net.plan.architecture
    if not 0 <= overlap < 1:
        raise InputError(f"overlap must be from 0 to below 1, got {overlap}")
    if dropout_draws and not a.dropout:
        raise InputError(
            f"the network {net.plan.name} has no dropout to draw from; train it with dropout, or "
            "use an ensemble or mirroring"
        )
    prepared = prepare(net.plan, image)
    values = with_guidance(prepared.values, guidance, a)
    mirrors = list(_mirrors(net.plan)) if mirror else [()]
    draws = [None] if not dropout_draws else list(range(dropout_draws))
    voices = list(itertools.product(range(len(net.members)), draws, mirrors))
    windows = _Windows(net, values, overlap, batch or _batch(net.plan))
    total = len(voices) * windows.count
    report = progress or (lambda done, of: None)

    probability = np.zeros((*prepared.grid.shape, a.classes), np.float32)
    mean = np.zeros((*prepared.grid.shape, a.classes - 1), np.float32)
    square = np.zeros_like(mean)
    for n, (member, draw, axes) in enumerate(voices):
        key = None if draw is None else jax.random.fold_in(jax.random.key(seed), n)
        logits = windows.logits(
            member, axes, key, lambda d, n=n: report(n * windows.count + d, total)
        )
        if not np.isfinite(logits).all():
            raise InputError(
                f"the network {net.plan.name} says nothing of this image: "
                f"{backbone(a.backbone).remedy}"
            )
        probability += np.asarray(jax.nn.softmax(logits, axis=-1)) / len(voices)
        odds = _all_odds(logits)
        square += np.square(odds - mean) * (n / (n + 1))
        mean += (odds - mean) / (n + 1)
    answer = _all_odds(np.log(np.maximum(probability, np.finfo(np.float32).tiny)))
    spread = np.sqrt(square / len(voices))
    return Prediction(
        restore(prepared, answer), restore(prepared, spread), prepared.native,
        net.plan.labels[1:], len(voices),
    )  # fmt: skip


def label_map(prediction: Prediction) -> Int[np.ndarray, "i j k"]:
    """The likeliest label of every voxel, 0 for the background (which wins where two are equal).

    The background's probability is what the labels leave of 1.
    """
    labels = 1 / (1 + np.exp(-prediction.log_odds))
    background = 1 - labels.sum(axis=-1, keepdims=True)
    return np.concatenate([background, labels], axis=-1).argmax(axis=-1).astype(np.int32)


def features(net: Net, image: Image, *, member: int = 0) -> Float[np.ndarray, "i j k feature"]:
    """The last decoder features on the image's own grid, from windows that overlap by half.

    Shapes: (i, j, k, architecture.features) float32. Raises InputError as `predict` does.
    """
    prepared, found, _ = maps(net, image, member=member)
    return restore(prepared, found)


def maps(net: Net, image: Image, *, member: int = 0) -> tuple[Prepared, np.ndarray, np.ndarray]:
    """The prepared image, features and log-odds of one pass, all on the working grid.

    Shapes: features (i, j, k, architecture.features) and log-odds (i, j, k, label) of each label
    but the background, float32. Raises InputError as `predict` does.
    """
    prepared = prepare(net.plan, image)
    values = with_guidance(prepared.values, None, net.plan.architecture)
    windows = _Windows(net, values, 0.5, _batch(net.plan))
    width = net.plan.architecture.features
    both = windows.features_and_logits(member)
    return prepared, both[..., :width], _all_odds(both[..., width:])


def prediction_bytes(net: Net, native: Grid, batch: int | None = None) -> int:
    """Bytes that `predict` needs at most, beside the image and what the caller passes; estimated.

    native: the grid of the image's primary channel. Counted are, in float32, the input, prepared
    and padded; over the voices, mean probability, and mean and square of the log-odds; then the
    larger of a voice at work (what lies between its logits and its log-odds, measured on a CPU as
    six numbers a class) and of the answer (the last voice, answer and spread on the working grid,
    and both of them restored to the native one); and activations, PASS_SHARE of a training step.
    """
    plan = net.plan
    a = plan.architecture
    labels = a.classes - 1
    inputs = (3 if a.guidance else 2) * (len(plan.channels) + a.guidance)
    kept = inputs + a.classes + 2 * labels
    working, own = (math.prod(grid.shape) for grid in (working_grid(plan, native), native))
    voice = working * 6 * a.classes
    answer = working * (a.classes + 3 * labels) + own * (2 * labels + 1)
    step = memory_bytes(a, plan.patch, batch or _batch(plan))
    return 4 * (working * kept + max(voice, answer)) + int(PASS_SHARE[a.dims] * step)


def with_guidance(
    values: Float[np.ndarray, "i j k channel"],
    guidance: Float[np.ndarray, "i j k guide"] | None,
    a: Architecture,
) -> Float[np.ndarray, "i j k input"]:
    """Image channels and prompts as one input; a network that takes prompts gets zeros for none.

    Raises InputError when the network takes no prompts, or another number of them.
    """
    if guidance is None:
        blank = np.zeros((*values.shape[:3], a.guidance), np.float32)
        return np.concatenate([values, blank], axis=-1) if a.guidance else values
    if guidance.shape != (*values.shape[:3], a.guidance):
        raise InputError(
            f"the network takes prompts of shape {(*values.shape[:3], a.guidance)}, "
            f"got {guidance.shape}"
        )
    return np.concatenate([values, guidance.astype(np.float32)], axis=-1)


def _all_odds(logits: np.ndarray) -> np.ndarray:
    """Log-odds of every label but the background against all others, within +- LARGEST_ODDS."""
    each = [log_odds(jnp.asarray(logits), label) for label in range(1, logits.shape[-1])]
    return np.clip(np.stack([np.asarray(x) for x in each], axis=-1), -LARGEST_ODDS, LARGEST_ODDS)


def _mirrors(plan: Plan) -> Iterator[tuple[int, ...]]:
    """Every set of the axes that may be mirrored, none first."""
    axes = range(plan.architecture.dims) if plan.mirror_axes is None else plan.mirror_axes
    for count in range(len(axes) + 1):
        yield from itertools.combinations(axes, count)


def _batch(plan: Plan) -> int:
    """Windows at once: as many as a training step takes, at most 8."""
    return max(1, min(plan.batch, 8))


class _Windows:
    """One image in windows: cut out, sent through the network, and put together again."""

    def __init__(self, net: Net, values: np.ndarray, overlap: float, batch: int) -> None:
        self.net, self.batch = net, batch
        self.plan = net.plan
        self.dims = self.plan.architecture.dims
        self.shape = values.shape[:3]
        patch = self.plan.patch
        edges = self.shape[: self.dims]
        short = [(0, max(0, p - n)) for p, n in zip(patch, edges, strict=True)]
        # Zero is what augmentation shows the network beyond an image's edge.
        self.values = np.pad(values, [*short, *[(0, 0)] * (4 - self.dims)])
        starts = [
            window_starts(n, p, overlap)
            for n, p in zip(self.values.shape[: self.dims], patch, strict=True)
        ]
        planes = [range(self.shape[2])] if self.dims == 2 else []
        self.places = list(itertools.product(*starts, *planes))
        guides = self.values[..., -GUIDES:]
        if self.plan.architecture.guidance == GUIDES and asks(guides):
            self.places = [place for place in self.places if asks(guides[self._at(place)])]
        self.count = len(self.places)
        self.weight = gaussian_window(patch)

    def logits(
        self,
        member: int,
        axes: tuple[int, ...],
        key: Array | None,
        report: Callable[[int], Any] = lambda done: None,
    ) -> np.ndarray:
        return self._joined(member, axes, key, False, self.plan.architecture.classes, report)

    def features_and_logits(self, member: int) -> np.ndarray:
        a = self.plan.architecture
        return self._joined(member, (), None, True, a.features + a.classes, lambda done: None)

    def _joined(
        self,
        member: int,
        axes: tuple[int, ...],
        key: Array | None,
        want_features: bool,
        depth: int,
        report: Callable[[int], Any],
    ) -> np.ndarray:
        """Weighted mean over windows, (i, j, k, depth); background where there is none."""
        state = self.net.state(member)
        sums = np.zeros((*self.values.shape[:3], depth), np.float32)
        weights = np.zeros((*self.values.shape[:3], 1), np.float32)
        flips = tuple(1 + axis for axis in axes)
        for first in range(0, self.count, self.batch):
            places = self.places[first : first + self.batch]
            cut = np.stack([self._cut(place) for place in places])
            cut = np.flip(
                np.pad(cut, [(0, self.batch - len(cut)), *[(0, 0)] * (cut.ndim - 1)]), flips
            )
            step_key = None if key is None else jax.random.fold_in(key, first)
            found = one_pass(self.net.graph, want_features, state, jnp.asarray(cut), step_key)
            found = np.flip(np.asarray(found), flips)
            for place, window in zip(places, found, strict=False):
                at = self._at(place)
                sums[at] += self.weight * window
                weights[at] += self.weight
            report(first + len(places))
        unasked = weights[..., 0] == 0
        sums[unasked, 0], weights[unasked] = LARGEST_ODDS, 1
        kept = tuple(slice(n) for n in self.shape)
        return sums[kept] / weights[kept]

    def _at(self, place: tuple[int, ...]) -> tuple[Any, ...]:
        patch = self.plan.patch
        box = tuple(slice(s, s + p) for s, p in zip(place[: self.dims], patch, strict=True))
        return (*box, place[2]) if self.dims == 2 else box

    def _cut(self, place: tuple[int, ...]) -> np.ndarray:
        if self.dims == 3 or self.plan.slices == 1:
            return self.values[self._at(place)]
        box, channels = self._at(place)[:2], len(self.plan.channels)
        joined = join_planes(self.values[box][..., :channels], place[2], self.plan.slices)
        return np.concatenate([joined, self.values[(*box, place[2])][..., channels:]], axis=-1)


@partial(jax.jit, static_argnums=(0, 1))
def one_pass(graph: Any, want_features: bool, state: Any, x: Array, key: Array | None) -> Array:
    """Finest logits, after the features if wanted, of a batch of windows (batch, *patch, input)."""
    out = nnx.merge(graph, state)(x, key)
    found = [out.features.astype(jnp.float32)] * want_features + [out.logits[0]]
    return jnp.concatenate(found, axis=-1)


def window_starts(size: int, patch: int, overlap: float) -> tuple[int, ...]:
    """Where windows of `patch` voxels begin so that they cover `size` and share `overlap`.

    Evenly spread, the first at the beginning and the last at the end.

    >>> window_starts(100, 40, 0.5)
    (0, 20, 40, 60)
    """
    if size <= patch:
        return (0,)
    step = max(1.0, patch * (1 - overlap))
    count = math.ceil((size - patch) / step) + 1
    return tuple(round(k * (size - patch) / (count - 1)) for k in range(count))


def gaussian_window(patch: tuple[int, ...]) -> Float[np.ndarray, "*patch 1"]:
    """Weights of a window's voxels: Gaussian about the middle, never below 1e-3 of the largest."""
    weight = np.ones((), np.float32)
    for size in patch:
        x = (np.arange(size) - (size - 1) / 2) / (SIGMA * size)
        weight = weight[..., None] * np.exp(-0.5 * x**2).astype(np.float32)
    return np.maximum(weight, 1e-3)[..., None].astype(np.float32)
