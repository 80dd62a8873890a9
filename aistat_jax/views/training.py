"""What does a person see of a training? Curves as a figure and a table, and a report."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aistat_jax._files import write_whole
from aistat_jax.nets.backbones import backbone
from aistat_jax.nets.plan import memory_bytes
from aistat_jax.training import Fold, Run, mean_dice
from aistat_jax.uncertainty.scores import RULE
from aistat_jax.views import page
from aistat_jax.views.scores import scores_table, write_scores
from aistat_jax.views.style import ESTIMATE, new_figure, save_figure, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure
else:
    Figure = Any

_ABOUT = (
    "Every fold is a network that was trained on the other folds' cases and scored on its own. "
    "The pseudo-Dice of the curves is that of patches of held-out cases while training; the table "
    "is over their whole volumes, predicted by overlapping windows and mirror images, with the "
    "averaged weights of the last step. Intervals are percentile bootstraps over patients. The "
    "network that is kept is the ensemble of the folds: its members' scores are those of the "
    f"table, its own can only be known on other data. {RULE}"
)
_MARKERS = "osD^vP*X"


def write_training(
    folder: Path, run: Run, done: Sequence[Fold], card: Mapping[str, Any]
) -> list[str]:
    """Everything a person reads about the folds that are done; returns the files' names."""
    scores = [score for fold in done for score in fold.scores]
    write_curve(folder / "curve.csv", run.plan.labels[1:], done)
    figure = plot_curves(done)
    save_figure(figure, folder / "curves.png")
    names = write_scores(folder, scores, run.settings.seed, {"of": card["scores"]["what"]})
    head, rows = scores_table(scores, run.settings.seed)
    page.write_page(
        folder / "report.html",
        f"Training of {run.plan.name}",
        [
            f"<h1>{page.safe(f'Training of {run.plan.name}')}</h1>",
            f'<p class="meta">{page.safe("aistat_jax " + card["version"])} · seed '
            f"{run.settings.seed} · {page.safe(card['command'])}</p>",
            f"<h2>Held-out cases of {len(done)} of {len(run.split)} folds</h2>",
            page.grid(head, rows),
            page.figure("Loss and pseudo-Dice by step; every fold has its own marker.", figure),
            f"<h2>The network</h2>{page.table(describe_run(run))}",
            f"<h2>The data</h2>{page.table(_data(run))}",
            "<h2>Every case</h2>",
            page.grid(*_cases(scores)),
            f'<h2>How to read this</h2><p class="about">{page.safe(_ABOUT)}</p>',
        ],
    )
    return ["curve.csv", "curves.png", *names, "report.html"]


def write_curve(path: Path, labels: Sequence[str], done: Sequence[Fold]) -> Path:
    """Every step of every fold as a row; cells are empty where nothing was judged."""
    with io.StringIO(newline="") as stream:
        rows = csv.writer(stream)
        dice = [f"pseudo_dice_{label}" for label in labels]
        rows.writerow(["fold", "step", "loss", "learning_rate", "validation_loss", *dice])
        for fold in done:
            for point in fold.curve:
                judged = [None] * (1 + len(labels))
                if point.validation_dice is not None:
                    judged = [point.validation_loss, *point.validation_dice]
                cells = ["" if v is None or np.isnan(v) else f"{v:.9g}" for v in judged]
                taken = [f"{point.loss:.9g}", f"{point.learning_rate:.9g}"]
                rows.writerow([fold.number, point.step, *taken, *cells])
        return write_whole(path, stream.getvalue())


def plot_curves(done: Sequence[Fold]) -> Figure:
    """Training loss (a running mean), validation loss and mean pseudo-Dice of every fold."""
    with style():
        figure = new_figure(7.4, 3.0)
        left, right = figure.subplots(1, 2)
        for fold in done:
            marker = _MARKERS[fold.number % len(_MARKERS)]
            steps = np.array([point.step for point in fold.curve])
            loss = np.array([point.loss for point in fold.curve])
            judged = [point for point in fold.curve if point.validation_loss is not None]
            at = [point.step for point in judged]
            every = max(1, len(at) // 12)
            left.plot(steps, _smooth(loss), color="#888888", linewidth=0.8)
            left.plot(
                at, [point.validation_loss for point in judged], color=ESTIMATE, linewidth=1.0,
                marker=marker, markersize=3.5, markevery=every,
            )  # fmt: skip
            right.plot(
                at, [mean_dice(point) for point in judged], color=ESTIMATE, linewidth=1.0,
                marker=marker, markersize=3.5, markevery=every, label=f"fold {fold.number}",
            )  # fmt: skip
        left.set(xlabel="step", ylabel="loss", title="Loss: training (grey), held out (blue)")
        right.set(xlabel="step", ylabel="pseudo-Dice", title="Held-out patches", ylim=(-0.02, 1.02))
        right.legend(loc="lower right")
        for axes in (left, right):
            axes.locator_params(axis="x", integer=True)
    return figure


def describe_run(run: Run) -> list[tuple[str, str]]:
    """The network and its training, as names and values."""
    plan, a, settings = run.plan, run.plan.architecture, run.settings
    memory = memory_bytes(a, plan.patch, plan.batch) / 2**30
    kind = f"{a.dims}D {backbone(a.backbone).title}"
    kind += f" on {plan.slices} planes" if plan.slices > 1 else ""
    kind += f", {a.block} blocks" if a.backbone == "unet" else ""
    spacing = " x ".join(f"{s:.4g}" for s in plan.spacing_mm)
    return [
        ("Network", f"{kind}, widths {', '.join(map(str, a.widths))}"),
        ("Patch and batch", f"{' x '.join(map(str, plan.patch))} voxels, {plan.batch} at a time"),
        ("Working spacing", f"{spacing} {plan.unit}"),
        ("Memory of a training step", f"about {page.number(memory)} GiB"),
        ("Steps", f"{settings.steps:,}, learning rate {settings.learning_rate:g}"),
        ("Folds", f"{len(run.split)}, seed {settings.seed}"),
    ]


def _data(run: Run) -> list[tuple[str, str]]:
    found = run.found
    channels = zip(found.channels, found.quantities, strict=True)
    return [
        ("Dataset", found.name),
        ("Cases", f"{len(found.cases)}, {found.empty} of them without any label"),
        ("Channels", ", ".join(f"{name} ({quantity})" for name, quantity in channels)),
        ("Labels", ", ".join(found.labels[1:])),
    ]


def _cases(scores: Sequence[Any]) -> tuple[list[str], list[list[str]]]:
    unit = scores[0].unit
    head = ["case", "label", "Dice", "surface Dice", f"HD95, {unit}", f"ASSD, {unit}"]
    rows = [
        [s.case, s.label, *map(_number, (s.dice, s.surface_dice, s.hd95, s.assd))] for s in scores
    ]
    return head, rows


def _number(value: float) -> str:
    return "-" if np.isnan(value) else page.number(value)


def _smooth(values: np.ndarray) -> np.ndarray:
    """A running mean over a fiftieth of the steps, over fewer at the ends."""
    width = max(1, len(values) // 50)
    kernel = np.ones(width)
    counts = np.convolve(np.ones(len(values)), kernel, "same")
    return np.convolve(values, kernel, "same") / counts
