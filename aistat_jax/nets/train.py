"""How does a network learn? Steps down a loss on drawn patches, judged on cases held out.

Step n of a run follows from (seed, n), the cases, the plan and the settings, so that a run that
was cut short goes on from its last checkpoint to the result it would have had.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from aistat_jax._errors import InputError
from aistat_jax._record import record
from aistat_jax._typing import Array, ArrayLike, Float, Key
from aistat_jax.nets.augment import augment_batch
from aistat_jax.nets.backbones import backbone
from aistat_jax.nets.batches import Learnable, Pool, Windows, digest, draw, pool_cases
from aistat_jax.nets.checkpoints import (
    Point,
    State,
    checkpoint_in,
    load_checkpoint,
    save_checkpoint,
)
from aistat_jax.nets.example import Example
from aistat_jax.nets.losses import (
    deep_supervision_loss,
    dice_and_cross_entropy,
    overlap_counts,
)
from aistat_jax.nets.network import build, random_net
from aistat_jax.nets.plan import Plan, plan_content
from aistat_jax.nets.prompts import GUIDES
from aistat_jax.nets.thrift import Thrifty
from aistat_jax.nets.variation import NO_AUGMENTATION, Settings, settings_for
from aistat_jax.nets.weights import Net, weights_of

POWER = 0.9  # of the polynomial decay
MOMENTUM = 0.99


@dataclass(frozen=True)
class TrainSettings:
    """How long and how fast to learn.

    learning_rate: the largest, reached after `warmup` steps and brought to 0 at the last by
    `decay`, "polynomial" (power 0.9, nnU-Net's) or "cosine". weight_decay: of kernels, not of
    biases and norms. clip: largest global norm of a gradient. average: the decay of the moving
    average of weights, less in the first steps, min(average, (1 + n) / (10 + n)).
    optimiser: "adamw", or "sgd" with Nesterov momentum 0.99 (nnU-Net's; it takes a rate of 0.01
    and a decay of 3e-5). validate_every, checkpoint_every: steps. validation_batches: how many
    batches of patches are judged, the same ones every time. dtype: "float32", "bfloat16" (of
    activations; weights, norms and loss stay float32) or "auto", bfloat16 on accelerators only.
    augmentation: None for nnU-Net's of the plan's patch (`settings_for`).
    """

    steps: int = 10_000
    learning_rate: float = 1e-3
    warmup: int = 100
    decay: str = "polynomial"
    weight_decay: float = 1e-2
    clip: float = 12.0
    average: float = 0.999
    optimiser: str = "adamw"
    seed: int = 0
    validate_every: int = 250
    validation_batches: int = 8
    checkpoint_every: int = 250
    dtype: str = "auto"
    augmentation: Settings | None = None

    def check(self) -> TrainSettings:
        """Itself. Raises InputError for values that make no training."""
        choices = {
            "decay": ("polynomial", "cosine"),
            "optimiser": ("adamw", "sgd"),
            "dtype": ("auto", "float32", "bfloat16"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise InputError(
                    f"unknown {name} {getattr(self, name)!r}; use one of {', '.join(allowed)}"
                )
        for name in ("steps", "validate_every", "validation_batches", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("learning_rate", "clip"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"{name} must be positive, got {getattr(self, name)}")
        if not 0 <= self.warmup < self.steps:
            raise InputError(f"warmup must be from 0 to below {self.steps}, got {self.warmup}")
        if not (0 <= self.average < 1 and self.weight_decay >= 0 and 0 <= self.seed < 2**32):
            raise InputError(
                "average must be in [0, 1), weight_decay at least 0 and seed from 0 to 2**32 - 1, "
                f"got {self.average}, {self.weight_decay} and {self.seed}"
            )
        return self


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained network, with the averaged weights, and its curve: one point a step."""

    net: Net
    curve: tuple[Point, ...]


@record
class Info:
    """What one step observed. finite: loss and gradient both are."""

    loss: Float[Array, ""]
    learning_rate: Float[Array, ""]
    finite: Array


class Programs(NamedTuple):
    """The compiled parts: start(weights), step(state, windows, key) and judge(weights, windows)."""

    start: Callable[[Any], State]
    step: Callable[[State, Windows, Key], tuple[State, Info]]
    judge: Callable[[Any, Windows], tuple[Array, Array]]


def train(
    plan: Plan,
    learn_from: Sequence[Learnable],
    validate_on: Sequence[Learnable] = (),
    settings: TrainSettings | None = None,
    folder: str | os.PathLike[str] | None = None,
    resume: bool = True,
    progress: Callable[[Point], Any] | None = None,
    *,
    devices: Sequence[Any] | None = None,
) -> Trained:
    """A network of a plan, trained on cases and judged on others.

    The loss is Dice plus cross-entropy under deep supervision, against labels, or against the
    share of raters who gave each label. In 2D Dice sums over the batch before it divides, since
    many planes have no lesion (as nnU-Net). A network with prompts learns from ones made up for
    the lesions (`point_at`), and is judged on such too. The batch is shared out among `devices`
    (default: all of this process), rounded up to a multiple of their number; weights are on all
    of them.

    folder: where to keep a checkpoint, always a whole one, and from which an earlier run goes on
    when `resume` is true. On one machine's CPU the weights are then bit for bit those of a run
    that was never cut short. progress is called with the point of every step.

    Raises InputError for cases that do not go with the plan, none at all or none with foreground;
    for a loss or gradient that is not finite, keeping the last checkpoint; and for a checkpoint
    that is damaged, of another run, or there although `resume` is false.
    """
    plan, settings = plan.check(), (settings or TrainSettings()).check()
    if plan.architecture.guidance not in (0, GUIDES):
        raise InputError(
            f"the network of {plan.name} takes prompts in {plan.architecture.guidance} channels, "
            f"and training makes {GUIDES} (foreground points, background points, a box); plan one "
            f"with guidance={GUIDES} or 0"
        )
    augmentation = settings.augmentation or settings_for(plan.patch)
    learned = pool_cases(plan, learn_from, augmentation)
    if not learned.with_foreground:
        raise InputError(
            f"none of the {len(learned.cases)} cases to learn from has any foreground; label at "
            "least one"
        )
    held_out = pool_cases(plan, validate_on, NO_AUGMENTATION) if validate_on else None
    mesh = Mesh(np.array(devices or jax.local_devices()), ("data",))
    copied, shared = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((), ("data",)))
    batch = -(-plan.batch // mesh.size) * mesh.size
    programs = _programs(plan, _compiled_in(settings), mesh)
    run = _describe(plan, settings, learned, held_out, batch)

    key = jax.device_put(jax.random.key(settings.seed), copied)
    weights = nnx.state(random_net(plan.architecture, settings.seed))
    path = None if folder is None else checkpoint_in(Path(folder))
    if path is not None and path.exists():
        if not resume:
            raise InputError(
                f"{path}: a checkpoint of an earlier run is there; resume it, or choose another "
                "folder"
            )
        state, curve = load_checkpoint(path, jax.eval_shape(programs.start, weights), run)
        state = jax.device_put(state, copied)
    else:
        state, curve = programs.start(weights), []

    def windows(step: int) -> Windows:
        rng = np.random.default_rng([settings.seed, step])
        return jax.device_put(draw(learned, rng, batch), shared)

    def judged(point: Point, held_out: Pool) -> Point:
        found = []
        for number in range(settings.validation_batches):
            rng = np.random.default_rng([settings.seed, number, 1])
            patches = jax.device_put(draw(held_out, rng, batch), shared)
            found.append(jax.device_get(programs.judge(state.average, patches)))
        losses, counts = zip(*found, strict=True)
        return point._replace(
            validation_loss=float(np.mean(losses)), validation_dice=_dice(np.sum(counts, axis=0))
        )

    upcoming = windows(len(curve)) if len(curve) < settings.steps else None
    while upcoming is not None:
        state, info = programs.step(state, upcoming, key)
        step = len(curve) + 1
        # The device works on this step while the host cuts the windows of the next.
        upcoming = windows(step) if step < settings.steps else None
        seen = jax.device_get(info)
        if not seen.finite:
            raise InputError(_not_finite(step, settings, path, plan.architecture.backbone))
        point = Point(step, float(seen.loss), float(seen.learning_rate))
        if held_out and (step % settings.validate_every == 0 or upcoming is None):
            point = judged(point, held_out)
        curve.append(point)
        if path is not None and (step % settings.checkpoint_every == 0 or upcoming is None):
            save_checkpoint(path, state, curve, run)
        if progress is not None:
            progress(point)
    card = {"training": run | {"scores": _scores(curve)}}
    return Trained(Net(plan, (weights_of(jax.device_get(state.average)),), card), tuple(curve))


def schedule(settings: TrainSettings) -> optax.Schedule:
    """The learning rate at each step, counted from 0.

    >>> rate = schedule(TrainSettings(steps=100, warmup=9, learning_rate=1.0))
    >>> [round(float(rate(n)), 2) for n in (0, 4, 9, 100)]
    [0.1, 0.5, 1.0, 0.0]
    """
    peak, falling = settings.learning_rate, settings.steps - settings.warmup
    if settings.decay == "cosine":
        fall = optax.cosine_decay_schedule(peak, falling)
    else:
        fall = optax.polynomial_schedule(peak, 0.0, POWER, falling)
    if settings.warmup == 0:
        return fall
    rise = optax.linear_schedule(peak / (settings.warmup + 1), peak, settings.warmup)
    return optax.join_schedules([rise, fall], [settings.warmup])


def optimiser(settings: TrainSettings) -> optax.GradientTransformation:
    """Clipping, then AdamW or Nesterov's momentum with decay of the kernels."""

    def kernels(weights: Any) -> Any:
        return jax.tree.map(lambda w: w.ndim > 1, weights)

    clip, rate = optax.clip_by_global_norm(settings.clip), schedule(settings)
    if settings.optimiser == "adamw":
        return optax.chain(
            clip, optax.adamw(rate, weight_decay=settings.weight_decay, mask=kernels)
        )
    decay = optax.add_decayed_weights(settings.weight_decay, kernels)
    return optax.chain(clip, decay, optax.sgd(rate, MOMENTUM, nesterov=True))


def _compiled_in(settings: TrainSettings) -> TrainSettings:
    """The settings less what the compiled step does not depend on: folds share one."""
    return replace(settings, seed=0, validate_every=1, validation_batches=1, checkpoint_every=1)


@lru_cache(maxsize=8)
def _programs(plan: Plan, settings: TrainSettings, mesh: Mesh) -> Programs:
    a = plan.architecture
    graph, _ = nnx.split(nnx.eval_shape(lambda: build(a)))
    update, rate = optimiser(settings).update, schedule(settings)
    augmentation = settings.augmentation or settings_for(plan.patch)
    accelerated = mesh.devices.flat[0].platform != "cpu"
    half = settings.dtype == "bfloat16" or (settings.dtype == "auto" and accelerated)
    dtype = jnp.bfloat16 if half else jnp.float32
    level_loss = partial(dice_and_cross_entropy, batch_dice=a.dims == 2)

    def patches(windows: Windows, key: Key, how: Settings) -> Example:
        return augment_batch(
            key, windows.examples, plan.spacing_mm[: a.dims], how,
            patch=plan.patch, centres=windows.centres,
        )  # fmt: skip

    def start(weights: Any) -> State:
        average = jax.tree.map(jnp.copy, weights)  # each has its own buffers to be given away
        return State(weights, average, optimiser(settings).init(weights), jnp.int32(0))

    def step(state: State, windows: Windows, key: Key) -> tuple[State, Info]:
        for_space, for_dropout = jax.random.split(jax.random.fold_in(key, state.step))
        batch = patches(windows, for_space, augmentation)

        def loss(weights: Any) -> Array:
            out = nnx.merge(graph, weights)(jnp.asarray(_input(batch), dtype), for_dropout)
            return deep_supervision_loss(out.logits, _target(batch), level_loss)

        found, slope = jax.value_and_grad(loss)(state.weights)
        change, carried = update(slope, state.optimiser, state.weights)
        weights = optax.apply_updates(state.weights, change)
        n = state.step.astype(jnp.float32)
        kept = jnp.minimum(settings.average, (1 + n) / (10 + n))
        average = optax.incremental_update(weights, state.average, 1 - kept)
        finite = jnp.isfinite(found) & jnp.isfinite(optax.tree.norm(slope))
        info = Info(found, jnp.asarray(rate(state.step), jnp.float32), finite)
        return State(weights, average, carried, state.step + jnp.int32(1)), info

    def judge(weights: Any, windows: Windows) -> tuple[Array, Array]:
        batch = patches(windows, jax.random.key(0), NO_AUGMENTATION)
        logits = nnx.merge(graph, weights)(jnp.asarray(_input(batch), dtype)).logits[0]
        target = _target(batch)
        return level_loss(logits, target), overlap_counts(logits, target)

    copied = NamedSharding(mesh, PartitionSpec())
    return Programs(
        jax.jit(start, out_shardings=copied),
        Thrifty(jax.jit(step, donate_argnums=0, out_shardings=copied)),
        jax.jit(judge, out_shardings=copied),
    )


def _input(batch: Example) -> ArrayLike:
    """The image and, for a network with prompts, what was pointed at in it."""
    if batch.guidance is None:
        return batch.image
    return jnp.concatenate([jnp.asarray(batch.image), jnp.asarray(batch.guidance)], axis=-1)


def _target(batch: Example) -> Array:
    """Labels, or where there are raters the probability of every label."""
    if batch.raters is None:
        return jnp.asarray(batch.labels)
    shares = jnp.asarray(batch.raters)
    background = jnp.maximum(1 - shares.sum(axis=-1, keepdims=True), 0)
    return jnp.concatenate([background, shares], axis=-1)


def _dice(counts: np.ndarray) -> tuple[float, ...]:
    """Dice of each foreground label from (foreground, 3) voxels in common, predicted, true."""
    return tuple(2 * c / (p + t) if p + t else math.nan for c, p, t in counts.tolist())


def _scores(curve: Sequence[Point]) -> dict[str, Any]:
    last = curve[-1]
    dice = last.validation_dice
    return {
        "loss": last.loss,
        "validation_loss": last.validation_loss,
        "validation_dice": dice and [None if math.isnan(each) else each for each in dice],
    }


def _not_finite(step: int, settings: TrainSettings, path: Path | None, name: str) -> str:
    kept = "no checkpoint was made yet"
    remedy = backbone(name).remedy
    other = "" if remedy == backbone("unet").remedy else f"; or {remedy}"
    if path is None:
        kept = "no checkpoint is kept without a folder"
    elif path.exists():
        kept = f"the checkpoint in {path.parent} is from before it"
    return (
        f"step {step}: the loss or its gradient is not a finite number; lower learning_rate "
        f"({settings.learning_rate:g}) or look for extreme values in the images{other} ({kept})"
    )


def _describe(
    plan: Plan, settings: TrainSettings, learned: Pool, held_out: Pool | None, batch: int
) -> dict[str, Any]:
    """What a run depends on, as it comes back from JSON."""
    words = json.dumps(plan_content(plan), sort_keys=True)
    content = {
        "plan": hashlib.sha256(words.encode()).hexdigest()[:16],
        "cases": {"number": len(learned.cases), "digest": digest(learned)},
        "validation cases": held_out
        and {"number": len(held_out.cases), "digest": digest(held_out)},
        "settings": asdict(settings) | {"batch": batch},
    }
    return json.loads(json.dumps(content))
