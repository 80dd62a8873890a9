"""How is a network trained from a terminal? `aistat train`."""

from __future__ import annotations

import json
import os
import shlex
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aistat_jax._errors import InputError
from aistat_jax.cli.options import (
    ARGUMENTS,
    OUT,
    Seed,
    check_devices,
    check_seed,
    in_flags,
    within_memory,
    workers_of,
    write_results,
)
from aistat_jax.cli.terminal import KEPT, keep, say
from aistat_jax.nets.backbones import BACKBONES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aistat_jax._folders import Claim
    from aistat_jax.cohort.workers import Workers
    from aistat_jax.nets.checkpoints import Point
    from aistat_jax.training import Fold, Run

_SIZE = "What the network is"
_LEARN = "How it learns"
_WORK = "Where to train"


def train(
    dataset: Annotated[
        Path, typer.Argument(help="Folder of an nnU-Net v2 dataset (dataset.json, imagesTr, ...).")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the run.", rich_help_panel=OUT)],
    dims: Annotated[int, typer.Option(help="2 (slice by slice) or 3.", rich_help_panel=_SIZE)] = 2,
    slices: Annotated[
        int,
        typer.Option(help="Neighbouring slices seen at once in 2D; odd.", rich_help_panel=_SIZE),
    ] = 1,
    memory_gib: Annotated[
        float,
        typer.Option(
            help="Memory for a training step; sizes patch and batch.", rich_help_panel=_SIZE
        ),
    ] = 8.0,
    base_width: Annotated[
        int, typer.Option(help="Features of the finest stage.", rich_help_panel=_SIZE)
    ] = 32,
    arch: Annotated[
        str,
        typer.Option(
            help=f"The kind of network: {', '.join(BACKBONES)}.",
            metavar="NAME",
            rich_help_panel=_SIZE,
        ),
    ] = "unet",
    arch_option: Annotated[
        list[str] | None,
        typer.Option(
            help="What that kind lets one choose, such as tolerance=1e-3; may be repeated.",
            metavar="NAME=VALUE",
            rich_help_panel=_SIZE,
        ),
    ] = None,
    block: Annotated[
        str,
        typer.Option(help="plain or residual, of a unet.", metavar="NAME", rich_help_panel=_SIZE),
    ] = "plain",
    dropout: Annotated[
        float,
        typer.Option(help="Share of features dropped at random.", rich_help_panel=_SIZE),
    ] = 0.0,
    prompts: Annotated[
        bool,
        typer.Option(
            help="A network that can be asked for one lesion by a click; it works without too.",
            rich_help_panel=_SIZE,
        ),
    ] = False,
    folds: Annotated[
        int | None,
        typer.Option(
            help="Networks, each judged on its own part of the patients (default 5, or as many as "
            "there are patients).",
            rich_help_panel=_LEARN,
        ),
    ] = None,
    fold: Annotated[
        str,
        typer.Option(
            help="all, or the number of one, from 0.", metavar="all|N", rich_help_panel=_LEARN
        ),
    ] = "all",
    steps: Annotated[
        int, typer.Option(help="Training steps of each fold.", rich_help_panel=_LEARN)
    ] = 10_000,
    learning_rate: Annotated[
        float, typer.Option(help="The largest, after warming up.", rich_help_panel=_LEARN)
    ] = 1e-3,
    augmentation: Annotated[
        bool, typer.Option(help="Turn, zoom, deform and blur patches.", rich_help_panel=_LEARN)
    ] = True,
    every: Annotated[
        int,
        typer.Option(
            help="Steps between checkpoints, and between judgements of held-out cases.",
            rich_help_panel=_LEARN,
        ),
    ] = 250,
    resume: Annotated[
        bool,
        typer.Option(help="Go on with the run that is in --out.", rich_help_panel=OUT),
    ] = True,
    seed: Seed = 0,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Processes that train folds side by side (default: one fold after the other).",
            rich_help_panel=_WORK,
        ),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            help="Train folds side by side by the workers of this Dask scheduler.",
            metavar="ADDRESS",
            rich_help_panel=_WORK,
        ),
    ] = None,
) -> None:
    """Train a network on a dataset, by cross-validation; what was cut short goes on.

    Killed at any time, the same command goes on from the last checkpoint to the same result.
    --fold N on several machines with one --out trains folds side by side; --fold all then joins
    them. The folder --out/net is the network.
    """
    check_seed(seed)
    alone = workers is None and scheduler is None  # folds one after the other, in this process
    shared = None if alone else workers_of(workers, scheduler)
    which = _folds(fold)
    options = _options(arch_option or [])
    advice = (
        f"lower --memory-gib (now {memory_gib:g}) or --base-width (now {base_width}) and choose "
        "another --out; checkpoints in this one are intact"
    )
    with within_memory(advice):
        from aistat_jax import training
        from aistat_jax.nets.prompts import GUIDES
        from aistat_jax.nets.train import TrainSettings
        from aistat_jax.nets.variation import NO_AUGMENTATION

        settings = TrainSettings(
            steps=steps, learning_rate=learning_rate, warmup=min(100, steps // 10), seed=seed,
            validate_every=every, checkpoint_every=every,
            augmentation=None if augmentation else NO_AUGMENTATION,
        )  # fmt: skip
        sizing = training.Sizing(
            dims, slices, memory_gib, base_width, block, dropout, GUIDES if prompts else 0,
            arch, options,
        )  # fmt: skip
        with in_flags("dims", "slices", "memory_gib", "base_width", backbone="--arch"):
            run = training.ready(
                dataset, out, sizing, settings, count=folds, which=which, resume=resume
            )
        place = _claim(run)
        check_devices()
        _describe(run)
        cases = () if shared else training.read_cases(run)
        begun = (out / "run.json").is_file()
        kept = f"the checkpoints in {out} are kept; the same command goes on"
        chosen = range(len(run.split)) if which is None else which
        if shared is not None:
            _side_by_side(run, place, chosen, shared, kept)
            return
        keep(kept, written=not begun)
        training.begin(run)
        for number in chosen:
            known = training.load_fold(run, number) is not None
            done = training.train_fold(run, number, cases, lambda p, n=number: _judged(n, p, steps))
            if known and number != chosen[-1]:
                continue  # nothing new to tell
            folds_done = [
                done if n == number else training.load_fold(run, n) for n in range(len(run.split))
            ]
            _join(run, place, [one for one in folds_done if one is not None])


def _side_by_side(
    run: Run, place: Claim, chosen: Sequence[int], shared: Workers, kept: str
) -> None:
    """Train folds by workers, and join all that are done."""
    from aistat_jax.cohort.folds import train_folds
    from aistat_jax.training import load_fold

    done = {n: known for n in range(len(run.split)) if (known := load_fold(run, n)) is not None}
    todo = [n for n in chosen if n not in done]

    def begun(words: str) -> None:
        keep(kept)
        say(words)

    with in_flags("workers", "base_width"):
        for fold in train_folds(run, todo, shared, begun) if todo else ():
            done[fold.number] = fold
            for point in fold.curve:
                if point.validation_dice is not None:
                    _judged(fold.number, point, run.settings.steps)
    _join(run, place, [done[n] for n in sorted(done)])


def _folds(text: str) -> tuple[int, ...] | None:
    if text == "all":
        return None
    if not text.isdecimal():
        raise InputError(f"--fold {text} is neither all nor a number of a fold, from 0")
    return (int(text),)


def _options(texts: list[str]) -> tuple[tuple[str, Any], ...]:
    """Pairs of NAME=VALUE; a value is a number, true, false, a list of such, or a word."""

    def value(text: str) -> Any:
        try:
            found = json.loads(text)
        except ValueError:
            return text
        return tupled(found)

    def tupled(found: Any) -> Any:
        return tuple(map(tupled, found)) if isinstance(found, list) else found

    pairs = [text.partition("=") for text in texts]
    for (name, equals, rest), text in zip(pairs, texts, strict=True):
        if not (name and equals and rest):
            raise InputError(f"--arch-option {text} is not NAME=VALUE, such as tolerance=1e-3")
    return tuple(sorted((name, value(rest)) for name, _, rest in pairs))


def _describe(run: Run) -> None:
    from aistat_jax.views.training import describe_run

    for name, value in describe_run(run):
        say(f"{name}: {value}")


def _judged(fold: int, point: Point, steps: int) -> None:
    """Where there is no terminal for a bar, a line in the log."""
    from aistat_jax.training import mean_dice

    keep(KEPT.get())
    if not sys.stderr.isatty():
        say(
            f"fold {fold}, step {point.step} of {steps}: loss {point.loss:.4f}, held out "
            f"{point.validation_loss:.4f}, pseudo-Dice {mean_dice(point):.4f}"
        )


def _claim(run: Run) -> Claim:
    """The right to write what a person reads; in the folder of this very run its files are ours."""
    from aistat_jax import _folders

    names = ("curve.csv", "curves.png", "report.html", "scores.csv", "scores.json")
    begun = (run.folder / "run.json").is_file()
    about = _folders.Run("train", "", run.found.name)
    return _folders.claim(run.folder, about, names, known=names if begun else ())


def _join(run: Run, place: Claim, done: list[Fold]) -> None:
    """Keep the ensemble of the folds that are done, and what a person reads about them."""
    from aistat_jax.training import ensemble
    from aistat_jax.views.scores import scores_text
    from aistat_jax.views.training import write_training

    net = ensemble(run, done, shlex.join(["aistat", *ARGUMENTS.get()]))
    write = partial(write_training, run=run, done=done, card=net.card)
    _, names = write_results(place, write, kept=KEPT.get())
    say(f"{len(done)} of {len(run.split)} folds are done; on the cases they held out:")
    say(scores_text([score for fold in done for score in fold.scores], run.settings.seed))
    say(f"wrote to {run.folder}{os.sep}\n  net{os.sep}")
    for name in names:
        say(f"  {name}")
