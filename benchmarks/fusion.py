"""What does each modality contribute, and is the boundary of both known better than of either?

Two channels of one lesion, of which one shows the left edge smeared and the other the right one:
the band of both is to be narrower than that of either, and to hold the boundary as often as it
says. A channel of noise must add nothing; one that shows a second edge, as bone beside soft tissue
does on CT, must be seen to contradict the other. Then patients with PET and CT.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

import aistat_jax as aj
from aistat_jax._errors import InputError
from aistat_jax._record import record, static
from aistat_jax._typing import Array, ArrayLike, Float
from aistat_jax.boundary.evidence import Evidence
from aistat_jax.boundary.families import BlurredStep, StepPrior, blurred_step, leaves
from aistat_jax.boundary.intensity import STEP_PRIOR
from aistat_jax.boundary.model import BoundaryModel
from aistat_jax.boundary.samples import channel_samples
from aistat_jax.boundary.tables import smooth_table
from aistat_jax.boundary.targets import AnyTarget
from aistat_jax.data.simulators import interpolate_radii
from aistat_jax.io.nifti import read_image, read_mask
from aistat_jax.space.chart import Chart
from aistat_jax.space.image import Image
from aistat_jax.uncertainty.contributions import Contributions
from benchmarks._table import Result, Row, share_interval
from benchmarks.patients import of_each, patients, starts

RADIUS, SIDE, PIXELS, RAYS = 20.0, 2.0, 48, 128
SHARP, SMEARED = 2.0, 8.0  # sds of the edge, mm
NOISE, MORE_NOISE = 0.4, 0.8  # over the step
LEFT, RIGHT = np.pi, 0.0
BEYOND = 8.0  # mm
REPLICATES, CONTROLS, PATIENTS, DRAWS = 200, 40, 10, 400


def run(quick: bool, scenario: str, replicates: int | None = None) -> Result:
    scenarios = {"phantoms": phantoms, "controls": controls, "patients": of_patients}
    few = {"phantoms": 6, "controls": 3, "patients": 1}
    many = {"phantoms": REPLICATES, "controls": CONTROLS, "patients": PATIENTS}
    return scenarios[scenario](replicates or (few if quick else many)[scenario])


# ---------------------------------------------------------------- an edge smeared on one side


def widths(angles: Float[np.ndarray, "*batch"], towards: float) -> Float[np.ndarray, "*batch"]:
    """The sd of an edge by direction: SMEARED towards an angle, SHARP away from it."""
    return SHARP * (SMEARED / SHARP) ** (0.5 + 0.5 * np.cos(angles - towards))


@record
class Stretched:
    """Radii in units of each ray's own blur."""

    ratio: Float[ArrayLike, " ray"]
    shrinkage: Float[ArrayLike, ""]

    def __call__(self, values: Float[ArrayLike, " ray"]) -> Float[Array, " ray"]:
        return jnp.asarray(values) / jnp.asarray(self.ratio)


@record
class SmearedEdge:
    """A blurred step in one channel, whose edge is as wide in each direction as `widths` says."""

    image: Image
    channel: str = static()
    towards: float = static()

    @property
    def names(self) -> tuple[str, ...]:
        return (self.channel,)

    def tabulate(self, target: AnyTarget, chart: Chart) -> tuple[BlurredStep, ...]:
        samples = channel_samples(self.image, self.channel, target, chart, spread=SHARP)
        y = np.asarray(samples.values, dtype=float)
        y = (y - np.median(y)) / np.std(y)
        turn = np.arctan2(chart.directions[:, 1], chart.directions[:, 0])
        ratio, even = widths(turn, self.towards) / SHARP, np.ones(len(y))
        shared = chart.share(samples.points, samples.footprint)
        shared = shared._replace(position=shared.position / ratio[shared.site])
        table = smooth_table(chart, shared, [(even, 1), (even, 2), (y, 1)], SHARP)
        totals = np.array([len(y), y.sum(), y @ y])
        bending = Stretched(*leaves(ratio, 1.0))
        prior = StepPrior(*leaves(*STEP_PRIOR))
        return (blurred_step(table, totals, samples.eta, prior, SHARP, bending),)


def field() -> tuple[aj.Target, BoundaryModel]:
    """The target in an empty image, and the model of its boundary before any image is seen."""
    blank = Image.from_arrays(A=np.eye(PIXELS)[..., None], spacing_mm=SIDE)
    plane = blank.primary.grid.plane(0)
    middle = plane.to_uv(blank.primary.grid.to_world(np.array([PIXELS - 1, PIXELS - 1, 0]) / 2))
    target = aj.Target(np.asarray(middle), RADIUS, plane)
    prior = aj.Prior(mean_log_sd=0.15, fixed=("amplitude", "lengthscale"))
    return target, aj.boundary_model(target, prior=prior, rays=RAYS)


def seen(
    rng: np.random.Generator,
    target: aj.Target,
    radii: np.ndarray,
    towards: float,
    noise: float = NOISE,
    sd: float = 0.0,
) -> np.ndarray:
    """A step of one at the boundary, in noise; with an `sd` everywhere as wide as that."""
    from scipy.special import ndtr

    away = target.plane.points() - target.centre
    angle = np.arctan2(away[..., 1], away[..., 0])
    width = np.full(angle.shape, sd) if sd else widths(angle, towards)
    depth = interpolate_radii(radii, angle) - np.hypot(away[..., 0], away[..., 1])
    return (ndtr(depth / width) + noise * rng.standard_normal(angle.shape))[..., None]


def truths(count: int) -> Iterator[tuple[aj.Target, BoundaryModel, np.ndarray, Any]]:
    """Boundaries drawn from the prior, each with random numbers of its own."""
    target, model = field()
    drawn = aj.prior_draws(model, count, seed=1).draws
    for seed, radii in enumerate(drawn):
        yield target, model, radii, np.random.default_rng([2, seed])


def read(model: BoundaryModel, evidence: Evidence, seed: int) -> Contributions:
    """One fit of all, and of the parts; weak parts stay as Laplace leaves them."""
    quickly = aj.Laplace(fallback=False)
    posterior = aj.fit(model + evidence, quickly, draws=DRAWS, seed=seed, compare=False)
    return aj.contributions(posterior, method=quickly)


def phantoms(count: int) -> Result:
    found, noisy = (
        [_fused(noise, seed, *each) for seed, each in enumerate(truths(count))]
        for noise in (NOISE, MORE_NOISE)
    )
    rows, details = [], [_detail(NOISE, found), _detail(MORE_NOISE, noisy)]
    for name in "AB":
        ratio = np.median([each["fused"] / each[name] for each in found])
        spread = _error_of_median([each["fused"] / each[name] for each in found])
        rows.append(Row(f"median half-width of both over that of {name} alone", float(ratio),
                        at_most=0.80, note=f"± {spread:.3f} (bootstrap)"))  # fmt: skip
    for who, low, high in (("fused", 0.93, 0.97), ("A", None, None), ("B", None, None)):
        held = [each[f"{who} held"] for each in found]
        which = "both" if who == "fused" else f"{who} alone"
        rows.append(Row(f"whole boundaries in the 95% band of {which}", float(np.mean(held)),
                        at_least=low, at_most=high, note=_interval(held)))  # fmt: skip
    alarms = [each["p"] < 0.05 for each in found]
    rows.append(Row("contradiction at p < .05 where both channels are right",
                    float(np.mean(alarms)), at_most=0.10, note=_interval(alarms)))  # fmt: skip
    for name in "AB":
        nats = [each[f"{name} nats"] for each in found]
        rows.append(Row(f"{name} adds, median", float(np.median(nats)), "nats"))
    for name in ("left", "right"):
        share = float(np.median([each[f"weight of A, {name}"] for each in found]))
        rows.append(Row(f"weight of A on the {name}", share, note="B is smeared on the right, "
                        "A on the left; 1 - (sd of both / sd without A)^2"))  # fmt: skip
    trusted = np.mean([each["khat"] <= 0.7 for each in found])
    return Result(
        "Two channels, each with another side smeared",
        rows,
        [
            f"{count} boundaries drawn from the prior (radius {RADIUS:g} mm), pixels of {SIDE:g} "
            f"mm, noise of {NOISE:g} times the step, edges of sd {SHARP:g} mm away from and "
            f"{SMEARED:g} mm on the smeared side; {DRAWS} draws. Weights of importance hold in "
            f"{trusted:.0%} of the fits of both.",
        ],
        details,
    )


def _detail(noise: float, found: list[dict[str, Any]]) -> dict[str, Any]:
    """All figures of one level of noise."""
    return {
        "noise / step": noise,
        "both ± mm": float(np.median([each["fused"] for each in found])),
        **{f"over {name} alone": float(np.median([each["fused"] / each[name] for each in found]))
           for name in "AB"},
        **{f"{who} held": float(np.mean([each[f"{who} held"] for each in found]))
           for who in ("fused", "A", "B")},
        **{f"{name} adds, nats": float(np.median([each[f"{name} nats"] for each in found]))
           for name in "AB"},
        "temper": float(np.median([each["temper"] for each in found])),
        "p < .05": float(np.mean([each["p"] < 0.05 for each in found])),
    }  # fmt: skip


def _fused(
    noise: float, seed: int, target: aj.Target, model: BoundaryModel, radii: np.ndarray, rng: Any
) -> dict[str, Any]:
    sides = {"A": LEFT, "B": RIGHT}
    image = Image.from_arrays(
        **{name: seen(rng, target, radii, side, noise) for name, side in sides.items()},
        spacing_mm=SIDE,
    )
    evidence = Evidence(tuple(SmearedEdge(image, name, side) for name, side in sides.items()))
    found = read(model, evidence, seed)
    a, eighth = found["A"], RAYS // 8
    left, right = a.weight[3 * eighth : 5 * eighth], np.roll(a.weight, eighth)[: 2 * eighth]
    row: dict[str, Any] = {
        "fused": found.half_width, "fused held": bool(found.band.contains(radii)),
        "p": a.conflict, "temper": a.temper, "khat": found.posterior.diagnostics.khat,
        "weight of A, left": float(left.mean()), "weight of A, right": float(right.mean()),
    }  # fmt: skip
    for one in found.sources:
        row |= {
            one.name: float(np.median(one.alone_band.half_width)),
            f"{one.name} held": bool(one.alone_band.contains(radii)),
            f"{one.name} nats": one.adds.nats,
        }
    return row


# ----------------------------------------------------------------------------------- controls


def controls(count: int) -> Result:
    noise, bone, bulge = [], [], []
    for seed, (target, model, radii, rng) in enumerate(truths(count)):
        clear = seen(rng, target, radii, LEFT, sd=3.0)
        empty = rng.standard_normal(clear.shape)
        noise.append(_with(model, radii, seed, PT=clear, CT=empty))
        tissue = seen(rng, target, radii, LEFT, sd=1.5)
        right = _with(model, radii, seed, PT=clear, CT=tissue)
        wrong = _with(model, radii, seed, PT=clear, CT=tissue + _bone(target, radii))
        bone.append(wrong | {f"right {key}": value for key, value in right.items()})
        touching = seen(rng, target, _with_bone(radii), LEFT, sd=1.5)
        bulge.append(_with(model, radii, seed, PT=clear, CT=touching))
    added = np.array([each["nats"] for each in noise])
    ratio = np.array([each["ratio"] for each in noise])
    caught = [each["p"] < 0.05 for each in bone]
    bulged = [each["p"] < 0.05 for each in bulge]
    alarms = [each["right p"] < 0.05 for each in bone]
    silent = np.mean([not np.isfinite(each["p"]) for each in bone])
    return Result(
        "Channels that show nothing, or another edge",
        [
            Row("noise adds, median", float(np.median(added)), "nats", at_most=0.5,
                note=f"{added.min():.2f} to {added.max():.2f}"),
            Row("half-width with noise over without, median", float(np.median(ratio)),
                at_least=0.95, at_most=1.05, note=f"{ratio.min():.2f} to {ratio.max():.2f}"),
            Row("bone apart from the lesion: weight of CT, median",
                float(np.median([each["weight"] for each in bone])), at_most=0.1),
            Row("bone apart: boundary that CT moves by, median",
                float(np.median([each["moved"] for each in bone])), "mm", at_most=0.5),
            Row("bone apart: temper of CT over that without bone, median",
                float(np.median([each["temper"] / each["right temper"] for each in bone]))),
            Row("bone apart: contradiction at p < .05", float(np.mean(caught)),
                note=f"{_interval(caught)}; {silent:.0%} say too little alone for a p"),
            Row("bone that touches it: contradiction at p < .05", float(np.mean(bulged)),
                at_least=0.9, note=_interval(bulged)),
            Row("bone that touches it: weight of CT, median",
                float(np.median([each["weight"] for each in bulge]))),
            Row("bone that touches it: boundary that CT moves by, median",
                float(np.median([each["moved"] for each in bulge])), "mm"),
            Row("the same CT without the bone: contradiction at p < .05", float(np.mean(alarms)),
                at_most=0.10, note=_interval(alarms)),
            Row("the same CT without the bone: weight of CT, median",
                float(np.median([each["right weight"] for each in bone]))),
            Row("the same CT without the bone: boundary that CT moves by, median",
                float(np.median([each["right moved"] for each in bone])), "mm"),
            *(Row(f"whole boundaries in the 95% band of PET and CT, {name}",
                  float(np.mean(held)), note=_interval(held))
              for name, held in (
                  ("bone apart", [each["held"] for each in bone]),
                  ("bone that touches", [each["held"] for each in bulge]),
                  ("no bone", [each["right held"] for each in bone]))),
        ],
        [f"{count} boundaries drawn from the prior. Bone apart is a bar four steps high, "
         f"{BEYOND:g} mm beyond the rightmost point of the lesion; bone that touches is as bright "
         f"as the lesion on CT, which takes the two for one that reaches {BEYOND:g} mm further to "
         "the right."],
    )  # fmt: skip


def _bone(target: aj.Target, radii: np.ndarray) -> np.ndarray:
    """A bar beside the lesion."""
    angles = 2 * np.pi * np.arange(len(radii)) / len(radii)
    edge = (radii * np.cos(angles)).max()
    away = target.plane.points() - target.centre
    across = away[..., 0] - edge
    return 4.0 * ((across > BEYOND) & (across < 2 * BEYOND))[..., None]


def _with_bone(radii: np.ndarray) -> np.ndarray:
    """The outline of a lesion and of something that touches it on the right."""
    angles = 2 * np.pi * np.arange(len(radii)) / len(radii)
    return radii + BEYOND * np.exp((np.cos(angles) - 1) / 0.25)


def _with(
    model: BoundaryModel, radii: np.ndarray, seed: int, **channels: np.ndarray
) -> dict[str, Any]:
    """What CT contributes to PET."""
    image = Image.from_arrays(**channels, spacing_mm=SIDE)
    evidence = aj.intensity(image, "PT", blur=3.0, curved=False)
    evidence = evidence + aj.intensity(image, "CT", blur=1.5, curved=False)
    found = read(model, evidence, seed)
    ct = found["CT"]
    return {
        "nats": ct.adds.nats, "p": ct.conflict, "temper": ct.temper, "moved": ct.moved,
        "weight": float(ct.weight.mean()), "held": bool(found.band.contains(radii)),
        "ratio": found.half_width / float(np.median(ct.band.half_width)),
    }  # fmt: skip


# ----------------------------------------------------------------------------------- patients


def of_patients(count: int) -> Result:
    title = "What PET and CT contribute, soft-tissue sarcomas"
    folders = [each for each in patients() if (each / "CT_image.nii.gz").is_file()][:count]
    if not folders:
        return Result(title, [], ["Skipped: the collection is absent."])
    found = of_each(_of_patient, folders)
    done = [each for each in found if each]
    rows, details = [], []
    for name in ("PT", "CT"):
        table = [each[name] for each in done]
        details.append({"source": name} | {key: _spread(table, key) for key in table[0]})
        known = [t for t in table if np.isfinite(t["adds_nats"])]
        note = f"of {len(known)} whose fit without it holds"
        if known:
            rows.append(Row(f"{name} adds, median",
                            float(np.median([t["adds_nats"] for t in known])), "nats",
                            note=note))  # fmt: skip
            rows.append(Row(f"half-width of both over that without {name}, median",
                            float(np.median([t["ratio"] for t in known])), note=note))  # fmt: skip
        held = [bool(t["weights hold alone"]) for t in table]
        rows.append(Row(f"fits of {name} alone whose weights hold", float(np.mean(held)),
                        note=_interval(held)))  # fmt: skip
    told = [t for t in (each["CT"] for each in done) if np.isfinite(t["conflict_p"])]
    p = [t["conflict_p"] < 0.05 for t in told]
    if p:
        rows.append(Row("PET and CT contradict each other at p < .05", float(np.mean(p)),
                        note=_interval(p)))  # fmt: skip
    red = [bool(each["CT"]["red for sources"]) for each in done]
    rows.append(Row("red for sources that contradict each other", float(np.mean(red)),
                    note=_interval(red)))  # fmt: skip
    return Result(
        title,
        rows,
        [
            f"{len(done)} of {len(folders)} patients with PET and CT, the slice of the expert's "
            "deepest voxel from that point; the others have no contour there. Medians, and lowest "
            "to highest over patients. CT is in register with PET as the collection has it.",
        ],
        details,
    )


def _of_patient(folder: Path) -> dict[str, dict[str, float]]:
    """The table of one patient's mid-lesion slice; empty where there is no contour."""
    image = read_image(PT=folder / "PET_image.nii.gz", CT=folder / "CT_image.nii.gz")
    mask = read_mask(folder / "PET_mask.nii.gz", image.primary)
    place = image.primary.grid.to_world(starts(mask, image.primary)["deepest"])
    quickly = aj.Laplace(fallback=False)
    try:
        case = aj.contour(image, point_mm=[float(x) for x in place], slices="point",
                          settings=aj.Settings(quickly, draws=DRAWS))  # fmt: skip
    except InputError:
        return {}
    found = aj.contributions(case[0].posterior, method=quickly)
    rows = found.table().to_dict("records")
    for row, one in zip(rows, found.sources, strict=True):
        row["weights hold alone"] = float(one.alone.diagnostics.converged)
        row["red for sources"] = float(
            any(each.kind == "sources" for each in found.posterior.diagnostics.findings)
        )
    kept = [{key: value for key, value in row.items() if isinstance(value, float)} for row in rows]
    return {row["source"]: figures for row, figures in zip(rows, kept, strict=True)}


def _spread(rows: list[dict[str, float]], key: str) -> str:
    values = [row[key] for row in rows if np.isfinite(row[key])]
    return "" if not values else f"{np.median(values):.2g} ({min(values):.2g} to {max(values):.2g})"


def _interval(hits: list[bool]) -> str:
    low, high = share_interval(int(np.sum(hits)), len(hits))
    return f"of {len(hits)}, 95% interval {low:.2f} to {high:.2f}"


def _error_of_median(values: list[float]) -> float:
    rng = np.random.default_rng(0)
    chosen = rng.integers(len(values), size=(500, len(values)))
    return float(np.median(np.asarray(values)[chosen], axis=1).std())
