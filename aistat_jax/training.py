"""How does a dataset become a network? Plan, cross-validation, and the ensemble of its folds.

A run's folder holds fingerprint.json, plan.json and run.json (what the run was asked for), one
folder fold-N a fold (checkpoint, network, result.json), and the ensemble in net/. Every file is
always a whole one, so that a run killed at any time goes on where its checkpoints are.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from aistat_jax._errors import FolderError, InputError
from aistat_jax._files import check_writable, sole_run, write_whole
from aistat_jax._progress import progress_bar
from aistat_jax.io.nnunet import Dataset, patient_of, read_case, read_dataset
from aistat_jax.nets.batches import Learnable, read_learnable
from aistat_jax.nets.checkpoints import Point
from aistat_jax.nets.fingerprint import (
    Fingerprint,
    fingerprint,
    load_fingerprint,
    save_fingerprint,
)
from aistat_jax.nets.plan import FOLDS, Plan, folds, load_plan, plan_for, save_plan
from aistat_jax.nets.predict import label_map, predict
from aistat_jax.nets.train import TrainSettings, train
from aistat_jax.nets.weights import Net, load_net, save_net
from aistat_jax.uncertainty.scores import LabelScore, means_content, score_case

SCHEMA = 1
TOLERANCE = {"mm": 2.0, "px": 1.0}  # of the surface Dice that folds are scored with


@dataclass(frozen=True)
class Sizing:
    """What sizes the network beside the dataset itself; see `plan_for`."""

    dims: int = 2
    slices: int = 1
    memory_gib: float = 8.0
    base_width: int = 32
    block: str = "plain"
    dropout: float = 0.0
    guidance: int = 0
    backbone: str = "unet"
    options: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True, eq=False)
class Run:
    """A cross-validation that is ready to go on; nothing of it need be on the disk yet.

    split: the cases held out by each fold.
    """

    folder: Path
    dataset: Dataset
    found: Fingerprint
    plan: Plan
    settings: TrainSettings
    split: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, eq=False)
class Fold:
    """A fold that is done: its network, its curve, and the scores of the cases it held out."""

    number: int
    net: Net
    curve: tuple[Point, ...]
    scores: tuple[LabelScore, ...]


def ready(
    dataset_folder: Path,
    out: Path,
    sizing: Sizing,
    settings: TrainSettings,
    *,
    count: int | None = None,
    which: Sequence[int] | None = None,
    resume: bool = True,
) -> Run:
    """Read and measure a dataset, plan its network and split its cases; nothing is written.

    count: of folds; by default 5, or as many as there are patients. which: folds that will be
    trained, all by default. A fingerprint in `out` is used again. Raises InputError for a dataset
    that cannot be used, settings that make no training, folds that cannot be made, and for an
    `out` that holds a run of another dataset or of other settings, or any run without `resume`.
    """
    settings.check()
    dataset = read_dataset(dataset_folder)
    check_writable(out)
    begun = (out / "run.json").is_file()
    if begun and not resume:
        raise FolderError(f"{out}: an earlier run is there; resume it, or choose another folder")
    found = load_fingerprint(out / "fingerprint.json") if begun else _measured(dataset, settings)
    _refuse_another_dataset(out, found, dataset)
    patients = {patient_of(case) for case in dataset.cases}
    count = min(FOLDS, len(patients)) if count is None else count
    split = folds(dataset.cases, count, settings.seed, patient_of)
    plan = _planned(found, sizing, settings.seed, len(split))
    run = Run(out, dataset, found, plan, settings, split)
    if begun:
        _refuse_other_settings(run)
    chosen = range(len(split)) if which is None else which
    for number in chosen:
        if not 0 <= number < len(split):
            raise InputError(
                f"there is no fold {number} among {len(split)}; choose 0 to {len(split) - 1}, or "
                "all"
            )
        _refuse_empty_labels(run, number)
    return run


def train_fold(
    run: Run,
    number: int,
    cases: Sequence[Learnable],
    judged: Callable[[Point], Any] | None = None,
) -> Fold:
    """Train one fold from where its checkpoint is, and score the cases it holds out.

    cases: all of the dataset's, in its order, as `read_cases` returns them. judged is called with
    each new point of the curve at which the held-out cases were judged. The network of the fold
    is kept in its folder when done; scores of the same weights are not computed again.
    Raises InputError as `train` does, and FolderError for a fold that another run is training.
    """
    with sole_run(run.folder, f"fold-{number}"):
        return _trained(run, number, cases, judged)


def _trained(
    run: Run,
    number: int,
    cases: Sequence[Learnable],
    judged: Callable[[Point], Any] | None,
) -> Fold:
    held = set(run.split[number])
    folder = run.folder / f"fold-{number}"
    settings = replace(run.settings, seed=(run.settings.seed + number) % 2**32)
    shown: dict[str, str] = {}
    with progress_bar(None, f"fold {number}", settings.steps) as bar:

        def progress(point: Point) -> None:
            if bar.n == 0:
                bar.initial = bar.n = point.step - 1
            bar.update(point.step - bar.n)
            shown["loss"] = f"{point.loss:.3f}"
            if point.validation_dice is not None:
                shown["pseudo-Dice"] = f"{mean_dice(point):.3f}"
                if judged is not None:
                    judged(point)
            bar.set_postfix(shown, refresh=False)

        trained = train(
            run.plan,
            [case for case in cases if case.name not in held],
            [case for case in cases if case.name in held],
            settings, folder, True, progress,
        )  # fmt: skip
    earlier = load_fold(run, number)
    if earlier is not None and _digest(earlier.net) == _digest(trained.net):
        return earlier
    scores = score_cases(run, trained.net, run.split[number], f"scoring fold {number}")
    save_net(trained.net, folder / "net")
    fold = Fold(number, trained.net, trained.curve, scores)
    content = {
        "schema": SCHEMA, "weights": _digest(fold.net), "curve": fold.curve,
        "scores": [asdict(score) for score in scores],
    }  # fmt: skip
    text = json.dumps(_finite(content), allow_nan=False)
    write_whole(folder / "result.json", text + "\n")
    return fold


def mean_dice(point: Point) -> float:
    """The mean pseudo-Dice of a judged point over labels that are somewhere; else NaN."""
    known = [each for each in point.validation_dice or () if not math.isnan(each)]
    return sum(known) / len(known) if known else math.nan


def read_cases(run: Run) -> tuple[Learnable, ...]:
    """All cases of a run's dataset, prepared and kept in memory."""
    with progress_bar(None, "preparing", len(run.dataset.cases)) as bar:
        return read_learnable(run.plan, run.dataset, progress=bar.update)


def begin(run: Run) -> None:
    """Write what the run is of into its folder; the fingerprint first, run.json last."""
    save_fingerprint(run.found, run.folder / "fingerprint.json")
    save_plan(run.plan, run.folder / "plan.json")
    write_whole(run.folder / "run.json", json.dumps(_asked(run), indent=1) + "\n")


def load_fold(run: Run, number: int) -> Fold | None:
    """A fold that was done earlier, or None where its files are not all there and whole."""
    folder = run.folder / f"fold-{number}"
    try:
        content = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        net = load_net(folder / "net")
        if (
            content["schema"] != SCHEMA
            or content["weights"] != _digest(net)
            or net.plan != run.plan
        ):
            return None
        curve, scores = map(_point_of, content["curve"]), map(_score_of, content["scores"])
        return Fold(number, net, tuple(curve), tuple(scores))
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None


def score_cases(run: Run, net: Net, cases: Sequence[str], what: str) -> tuple[LabelScore, ...]:
    """Scores of whole volumes on their own grids, predicted as `predict` does by default."""
    found: list[LabelScore] = []
    for name in progress_bar(cases, what, len(cases)):
        case = read_case(run.dataset, name)
        grid = case.image.primary.grid
        found.extend(
            score_case(
                label_map(predict(net, case.image)), case.labels, grid.spacing,
                run.plan.labels[1:], tolerance=TOLERANCE[grid.unit], unit=grid.unit, case=name,
                patient=patient_of(name),
            )
        )  # fmt: skip
    return tuple(found)


def ensemble(run: Run, done: Sequence[Fold], command: str = "") -> Net:
    """The networks of folds as one, with a model card; kept in the run's folder as net/.

    The card says what it was trained on, by which command, and how the folds scored on the cases
    they had not seen. The ensemble as a whole has seen every case and has no score of its own.
    """
    import aistat_jax

    members = tuple(fold.net.members[0] for fold in done)
    found = run.found
    card = {
        "schema": SCHEMA,
        "name": run.plan.name,
        "version": aistat_jax.__version__,
        "command": command,
        "seed": run.settings.seed,
        "data": {
            "name": found.name,
            "cases": len(found.cases),
            "patients": len({patient_of(case) for case in found.cases}),
            "cases without labels": found.empty,
            "channels": dict(zip(found.channels, found.quantities, strict=True)),
            "labels": list(found.labels),
            "licence": "not stated; see the dataset",
        },
        "members": [f"fold {fold.number} of {len(run.split)}" for fold in done],
        "training": asdict(run.settings) | {"batch": run.plan.batch},
        "scores": {
            "what": "held-out cases of cross-validation, each scored by the network that never "
            "saw it; whole volumes, 95% intervals over patients",
            **means_content([s for fold in done for s in fold.scores], run.settings.seed),
        },
    }
    net = Net(run.plan, members, json.loads(json.dumps(card)))
    save_net(net, run.folder / "net")
    return net


def _measured(dataset: Dataset, settings: TrainSettings) -> Fingerprint:
    with progress_bar(None, "measuring", len(dataset.cases)) as bar:
        return fingerprint(dataset, bar.update, seed=settings.seed)


def _planned(found: Fingerprint, sizing: Sizing, seed: int, count: int) -> Plan:
    if not 0 <= sizing.dropout < 1:
        raise InputError(f"dropout must be from 0 to below 1, got {sizing.dropout:g}")
    plan = plan_for(
        found, dims=sizing.dims, slices=sizing.slices, memory_gib=sizing.memory_gib,
        base_width=sizing.base_width, max_width=max(256, sizing.base_width), block=sizing.block,
        seed=seed, guidance=sizing.guidance, backbone=sizing.backbone, options=sizing.options,
    )  # fmt: skip
    network = replace(plan.architecture, dropout=float(sizing.dropout))
    return replace(plan, architecture=network, folds=count).check()


def _asked(run: Run) -> dict[str, Any]:
    """What makes a run beside its plan, as it comes back from JSON."""
    content = {"schema": SCHEMA, "kind": "run", "settings": asdict(run.settings)}
    return json.loads(json.dumps(content | {"held out": run.split}))


def _refuse_another_dataset(out: Path, found: Fingerprint, dataset: Dataset) -> None:
    for what in ("name", "cases", "channels", "labels"):
        old, new = getattr(found, what), getattr(dataset, what)
        if old != new:
            words = f"{len(old)} and {len(new)} {what}" if what == "cases" else f"{old} and {new}"
            raise FolderError(
                f"{out}: the run there is of another dataset ({what} differ: {words}); choose "
                "another folder"
            )


def _refuse_other_settings(run: Run) -> None:
    before, now = (_flat(asdict(plan)) for plan in (load_plan(run.folder / "plan.json"), run.plan))
    file = run.folder / "run.json"
    try:
        asked = json.loads(file.read_text(encoding="utf-8"))
        before |= _flat(asked["settings"])
        held_out = asked["held out"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FolderError(f"{file}: this is not a whole file; choose another folder") from error
    new = _asked(run)
    now |= _flat(new["settings"])
    changed = [f"{k} was {before.get(k)} and is {now[k]}" for k in now if before.get(k) != now[k]]
    if not changed and held_out != new["held out"]:
        changed = ["the folds differ"]
    if changed:
        raise FolderError(
            f"{run.folder}: the run there has other settings ({', '.join(changed[:3])}); repeat "
            "them, or choose another folder"
        )


def _flat(content: dict[str, Any]) -> dict[str, Any]:
    """One level of names; the parts of an architecture stand beside the plan's own."""
    inner = content.pop("architecture", {})
    return json.loads(json.dumps(inner | content))


def _refuse_empty_labels(run: Run, number: int) -> None:
    held = set(run.split[number])
    fractions = zip(run.found.cases, run.found.fractions, strict=True)
    if not any(fraction for case, fraction in fractions if case not in held):
        raise InputError(
            f"{run.dataset.folder}: none of the cases that fold {number} learns from has any "
            "foreground; label more cases"
        )


def _digest(net: Net) -> str:
    words = hashlib.sha256()
    for name, array in sorted(net.members[0].items()):
        words.update(name.encode())
        words.update(array.tobytes())
    return words.hexdigest()[:16]


def _finite(value: Any) -> Any:
    """A value of JSON: NaN, which JSON lacks, becomes None, inside of lists and records too."""
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _score_of(content: dict[str, Any]) -> LabelScore:
    known: dict[str, Any] = {n: math.nan if v is None else v for n, v in content.items()}
    return LabelScore(**known)


def _point_of(content: list[Any]) -> Point:
    step, loss, rate, judged, dice = content
    if judged is None:
        return Point(step, loss, rate)
    return Point(step, loss, rate, judged, tuple(math.nan if d is None else d for d in dice))
