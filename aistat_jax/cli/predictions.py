"""What is done with a trained network from a terminal? `aistat predict` and `aistat evaluate`."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Sequence
from functools import partial as bound
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from aistat_jax._errors import InputError
from aistat_jax.cli.options import (
    ARGUMENTS,
    OUT,
    Seed,
    check_devices,
    check_seed,
    in_flags,
    names_of,
    point_of,
    say_written,
    stem_of,
    within_memory,
    write_results,
)
from aistat_jax.cli.terminal import say

if TYPE_CHECKING:
    from aistat_jax._folders import Claim
    from aistat_jax.nets.weights import Net
    from aistat_jax.space.image import Image

SCORE_FILES = ("scores.csv", "scores.json")
_INPUT = "What to predict (one of these)"


def predict(
    net: Annotated[
        str, typer.Argument(help="Folder of a network (of a run, or its net/), or a shipped name.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the results.", rich_help_panel=OUT)],
    image: Annotated[
        list[str] | None,
        typer.Option(
            help="A channel of one case; once a channel.",
            metavar="NAME=FILE",
            rich_help_panel=_INPUT,
        ),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            help="A folder of images CASE_0000.nii.gz, CASE_0001.nii.gz, ... as nnU-Net has them, "
            "or a dataset (its imagesTs, else its imagesTr).",
            rich_help_panel=_INPUT,
        ),
    ] = None,
    overlap: Annotated[
        float, typer.Option(help="Share of an edge that neighbouring windows have in common.")
    ] = 0.5,
    mirror: Annotated[
        bool, typer.Option(help="Also predict every mirror image its plan allows.")
    ] = True,
    dropout_draws: Annotated[
        int, typer.Option(help="Draws of dropout a member; needs a network with dropout.")
    ] = 0,
    click: Annotated[
        list[str] | None,
        typer.Option(
            help="A point on the lesion wanted, patient RAS mm (pixels without spacing), of a "
            "network trained with --prompts; may be repeated.",
            metavar="X,Y,Z",
            rich_help_panel=_INPUT,
        ),
    ] = None,
    not_here: Annotated[
        list[str] | None,
        typer.Option(
            help="A point that is not wanted; may be repeated.",
            metavar="X,Y,Z",
            rich_help_panel=_INPUT,
        ),
    ] = None,
    batch: Annotated[
        int | None, typer.Option(help="Windows at once (default: by the network, at most 8).")
    ] = None,
    seed: Seed = 0,
) -> None:
    """Predict label maps, their log-odds, and how far the network disagrees with itself.

    The spread is the standard deviation of the log-odds over the members of the ensemble, mirror
    images and draws of dropout. All files lie on the image's own grid (that of the network's
    first channel). In a folder of many cases, each is written when it is done.
    """
    check_seed(seed)
    if (image is None) == (images is None):
        raise InputError("pass either --image NAME=FILE for every channel, or --images FOLDER")
    if not 0 <= overlap < 1:
        raise InputError(f"--overlap {overlap:g} must be from 0 to below 1")
    if dropout_draws < 0 or (batch is not None and batch < 1):
        raise InputError(
            f"--dropout-draws {dropout_draws} must be at least 0 and --batch at least 1"
        )
    if images is not None and (click or not_here):
        raise InputError("points are of one case; pass it by --image NAME=FILE for every channel")
    points = {
        "foreground_mm": [point_of("--click", text) for text in click or ()],
        "background_mm": [point_of("--not-here", text) for text in not_here or ()],
    }
    files = None if image is None else _channels(image)
    advice = "lower --batch, crop the image, or use a machine with more"
    with within_memory(advice):
        from aistat_jax._progress import progress_bar
        from aistat_jax.nets.predict import predict as predict_image
        from aistat_jax.nets.predict import prediction_bytes
        from aistat_jax.nets.prepare import working_grid
        from aistat_jax.nets.prompts import prompts
        from aistat_jax.nets.weights import load_net
        from aistat_jax.views.predictions import write_prediction

        loaded = load_net(Path(net) / "net" if (Path(net) / "net" / "plan.json").is_file() else net)
        cases = _cases(loaded, files, images)
        claims = [_case_claim(out, loaded, case) for case in cases]
        card = _card_claim(out)
        check_devices()
        for done, (case, place) in enumerate(zip(cases, claims, strict=True), 1):
            name, picture = case.name, case.read()
            primary = picture.primary
            needed = prediction_bytes(loaded, primary.grid, batch) / 2**30
            size = " x ".join(map(str, primary.grid.shape))
            say(f"{name}: {size} voxels, needs about {needed:.2g} GiB of memory")
            asked = None
            if click or not_here:
                asked = prompts(loaded.plan, working_grid(loaded.plan, primary.grid), **points)
            with progress_bar(None, name) as bar:

                def progress(done: int, total: int, bar: Any = bar) -> None:
                    bar.total = total
                    bar.update(done - bar.n)

                found = predict_image(
                    loaded, picture, guidance=asked, overlap=overlap, mirror=mirror,
                    dropout_draws=dropout_draws, batch=batch, seed=seed, progress=progress,
                )  # fmt: skip
            write = bound(write_prediction, case=name, prediction=found, like=primary)
            kept = f"{done} of {len(cases)} cases are whole in {out}"
            _, (names, volumes) = write_results(place, write, (f"labels/{name}",), kept)
            each = zip(found.labels, volumes, strict=True)
            say(
                "  " + ", ".join(f"{label} {volume:,.0f} {primary.unit}³" for label, volume in each)
            )
            for file in names:
                say(f"  {file}")
        about = {
            "command": shlex.join(["aistat", *ARGUMENTS.get()]), "seed": seed,
            "click": click or [], "not_here": not_here or [],
            "overlap": overlap, "mirror": mirror, "dropout_draws": dropout_draws,
            "cases": [case.name for case in cases],
        }  # fmt: skip
        write_results(card, bound(_write_card, out=out, net=loaded, about=about), kept=kept)
    say(f"wrote to {out}{os.sep}")


def evaluate(
    predicted: Annotated[Path, typer.Argument(help="Folder of predicted label maps.")],
    reference: Annotated[
        Path, typer.Argument(help="Folder of drawn label maps of the same names, or a dataset.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the results.", rich_help_panel=OUT)],
    tolerance_mm: Annotated[
        float | None,
        typer.Option(help="Distance that still counts as the same surface, mm (default 2)."),
    ] = None,
    tolerance_px: Annotated[
        float | None, typer.Option(help="The same in pixels (default 1).")
    ] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Leave out references without a prediction.")
    ] = False,
    seed: Seed = 0,
) -> None:
    """Score predicted label maps: Dice, surface Dice, HD95, ASSD and volume error.

    Means come with 95% bootstrap intervals over patients. A label that neither map holds is not
    scored; where only one of them holds it, Dice and surface Dice are 0 and there is no distance.
    """
    check_seed(seed)
    for tolerance in (tolerance_mm, tolerance_px):
        if tolerance is not None and not 0 < tolerance < float("inf"):
            raise InputError(f"the tolerance {tolerance:g} must be a positive length")
    from aistat_jax._folders import Run, claim, digest

    run = Run(
        "evaluate", digest(predicted, reference), " against ".join(names_of([predicted, reference]))
    )
    place = claim(out, run, SCORE_FILES)
    from aistat_jax.evaluation import evaluate as evaluate_folders
    from aistat_jax.views.scores import scores_text, write_scores

    with in_flags("tolerance_mm", "tolerance_px", "partial"):
        scores = evaluate_folders(
            predicted, reference, tolerance_mm=tolerance_mm, tolerance_px=tolerance_px,
            partial=partial,
        )  # fmt: skip
    about = {"predicted": str(predicted), "reference": str(reference)}
    where, names = write_results(place, lambda folder: write_scores(folder, scores, seed, about))
    say(scores_text(scores, seed))
    say_written(where, names)


class _Case(NamedTuple):
    """A case to predict: its name, the files of its channels, and how to read them."""

    name: str
    files: Sequence[Path]
    read: Callable[[], Image]


def _case_claim(out: Path, net: Net, case: _Case) -> Claim:
    """The right to write a case's files, which no other case of that name may have."""
    from aistat_jax._folders import Run, claim, digest
    from aistat_jax.views.predictions import prediction_files

    run = Run("predict", digest(*case.files), names_of(case.files[:1])[0], part=case.name)
    return claim(out, run, prediction_files(case.name, net.plan.labels[1:]))


def _card_claim(out: Path) -> Claim:
    from aistat_jax._folders import Run, claim
    from aistat_jax.views.predictions import CARD

    return claim(out, Run("predict", "", "predictions"), [CARD])


def _write_card(folder: Path, out: Path, net: Net, about: dict[str, Any]) -> None:
    """prediction.json, with what earlier runs said of cases that are still theirs."""
    from aistat_jax._files import write_whole
    from aistat_jax.views.predictions import CARD, earlier_cards, prediction_card

    earlier = earlier_cards(out / CARD, about["cases"])
    write_whole(folder / CARD, prediction_card(net, about | earlier))


def _channels(given: list[str]) -> dict[str, Path]:
    """Files by channel, from NAME=FILE."""
    files: dict[str, Path] = {}
    for text in given:
        name, sign, path = text.partition("=")
        if not (name and sign and path):
            raise InputError(f"--image {text} is not NAME=FILE, such as --image PT=pet.nii.gz")
        if name in files:
            raise InputError(f"--image {name} was given twice; give every channel one file")
        files[name] = Path(path)
    return files


def _cases(net: Net, files: dict[str, Path] | None, images: Path | None) -> list[_Case]:
    from aistat_jax.io.nifti import read_image
    from aistat_jax.io.nnunet import channel_paths, find_images, read_image_of

    plan = net.plan
    if images is not None:
        found = find_images(images, plan.channels)
        return [
            _Case(name, channel_paths(found, name, "."), bound(read_image_of, found, name, "."))
            for name in found.cases
        ]
    given = files or {}
    wanted = dict(zip(plan.channels, plan.quantities, strict=True))
    for name, quantity in wanted.items():
        if name not in given:
            raise InputError(
                f"the network {plan.name} needs channel {name} ({quantity}); add --image "
                f"{name}=FILE"
            )
    for name in given:
        if name not in wanted:
            raise InputError(
                f"the network {plan.name} has no channel {name}, only {', '.join(wanted)}; leave "
                "it out"
            )
    ordered = {name: given[name] for name in plan.channels}
    name = stem_of(ordered[plan.channels[0]]).removesuffix("_0000")
    return [_Case(name, tuple(ordered.values()), bound(read_image, **ordered))]
