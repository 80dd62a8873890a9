"""What does a PET/CT scan of a lesion with a known boundary look like?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import record, static
from aistat_jax._typing import ArrayLike, Bool, Float
from aistat_jax.data.anatomy import LESION_AT, Scene, draw_scene
from aistat_jax.data.shapes import Shape, draw_shape
from aistat_jax.data.textures import correlated_noise, lumps, pet_noise
from aistat_jax.space.curve import (
    Curve,
    contours_from_mask,
    coverage_from_contours,
    last_exits,
)
from aistat_jax.space.grid import Grid, Plane
from aistat_jax.space.image import Image, channel_from_array
from aistat_jax.space.star import unit_vectors

FWHM_PER_SD = float(np.sqrt(8 * np.log(2)))
_CT_FWHM_MM, _CT_CORRELATION_MM = 1.2, 1.2
_TISSUE_SD_HU, _TISSUE_CORRELATION_MM = 6.0, 5.0
_CORE_DEPTH, _CORE_UPTAKE, _CORE_HU = 0.5, 0.25, -25.0


@record
class Phantom:
    """A synthetic PET/CT scan and the truth about it.

    Convention: world axes are those of the image, the field of view is centred on the origin.
    `truth` is the outline in the slice `index`, the one nearest to the centre; in 3D `slices`
    holds the outlines in every PET slice, empty where the lesion is absent.

    Shapes: coverage (i, j, k) fraction of each PET voxel that is lesion; centre (2,) or (3,) mm,
    a point inside the lesion; radius_mm the area-equivalent radius of the base form.
    """

    image: Image
    truth: Curve
    slices: tuple[tuple[Curve, ...], ...]
    coverage: Float[np.ndarray, "i j k"]
    centre: Float[np.ndarray, " dims"]
    shape: Shape
    radius_mm: float
    index: int = static(default=0)
    recipe: tuple[tuple[str, Any], ...] = static(default=())

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments that made this phantom, seed included."""
        return dict(self.recipe)

    @property
    def mask(self) -> Bool[np.ndarray, "i j k"]:
        """Voxels of the PET grid that are at least half lesion."""
        return self.coverage >= 0.5

    @property
    def plane(self) -> Plane:
        """The PET slice that `truth` lies in."""
        return self.image.primary.grid.plane(self.index)

    def truth_radii(
        self, angles: Float[np.ndarray, " ray"], centre: ArrayLike | None = None
    ) -> Float[np.ndarray, " ray"]:
        """Where rays from a centre (default: the phantom's) leave `truth` for the last time, mm."""
        centre = self.centre[:2] if centre is None else np.asarray(centre, dtype=float)
        return last_exits(self.truth.points, centre, unit_vectors(np.asarray(angles, dtype=float)))


def pet_ct_phantom(
    seed: int,
    *,
    dims: int = 2,
    kind: str = "gp",
    shape: Sequence[int] | None = None,
    spacing_mm: Sequence[float] | None = None,
    ct_spacing_mm: float = 1.0,
    radius_mm: float = 20.0,
    amplitude: float = 0.15,
    lengthscale: float = 0.45,
    nu: float = 1.5,
    contrast: float = 5.0,
    background_suv: float = 1.0,
    ct_contrast_hu: float = -20.0,
    pet_fwhm_mm: float = 7.0,
    noise: float = 0.15,
    noise_correlation_mm: float = 5.0,
    ct_noise_hu: float = 12.0,
    heterogeneity: float = 0.0,
    necrosis: bool = False,
    scene: str = "plain",
) -> Phantom:
    """A synthetic lesion as seen by PET (SUV) and CT (HU), each on its own grid.

    Voxels hold the mean over their volume of the true object blurred by a Gaussian point spread,
    plus noise: for PET with sd = noise * sqrt(background_suv * mean) and correlation
    exp(-(d / noise_correlation_mm)^2); 0 is white. In 2D the object does not change along z.
    Shape, tissue and each channel's noise have random streams of their own: changing the noise
    leaves the lesion as it is. The same seed gives the same bits.

    Arguments: shape and spacing_mm of the PET grid, (48, 48) at (4, 4) mm, or (40, 40, 20) at
    (4, 4, 4) mm; CT covers the same field of view in the same slices. kind: see `draw_shape`;
    amplitude (sd of log radius), lengthscale (radians) and nu shape the boundary. contrast: mean
    lesion uptake over background; heterogeneity: log-sd of uptake inside; necrosis: a cold core.
    scene: "plain" or "body".
    Raises InputError for settings that make no image, such as a lesion beyond the field of view.

    >>> phantom = pet_ct_phantom(0, shape=(24, 24), radius_mm=15.0)
    >>> phantom.image.names, phantom.image["CT"].grid.shape
    (('PT', 'CT'), (96, 96, 1))
    """
    recipe = tuple(sorted(locals().items()))
    pet = _grid_of(dims, shape, spacing_mm)
    _check(radius_mm, contrast, background_suv, pet_fwhm_mm, ct_spacing_mm, heterogeneity)
    ct = _ct_grid(pet, ct_spacing_mm)
    streams = [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(6)]
    form_rng, place_rng, tissue_rng, uptake_rng, pet_rng, ct_rng = streams

    form = draw_shape(
        form_rng, kind=kind, dims=dims, radius=radius_mm, amplitude=amplitude,
        lengthscale=lengthscale, nu=nu,
    )  # fmt: skip
    half_mm = pet.spacing * np.asarray(pet.shape) / 2
    surroundings = draw_scene(tissue_rng, scene, half_mm[:2])
    centre = pet.spacing[:dims] * place_rng.uniform(-0.5, 0.5, dims)
    if scene == "body":
        centre[:2] += np.asarray(LESION_AT) * half_mm[:2]

    slices = tuple(_outlines(form, centre, pet.plane(k)) for k in range(pet.shape[2]))
    _check_fits(slices, half_mm)
    height = centre[2] if dims == 3 else 0.0
    held = [k for k, curves in enumerate(slices) if curves]
    index = min(held, key=lambda k: abs(pet.plane(k).offset - height))

    sd_mm = pet_fwhm_mm / FWHM_PER_SD
    uptake, inside = _pet_mean(
        pet, form, centre, surroundings, sd_mm, contrast, heterogeneity, necrosis, uptake_rng
    )
    if dims == 2:
        inside = coverage_from_contours(slices[0], pet.plane(0))[:, :, None]
    mean = background_suv * uptake
    correlation = _per_axis(noise_correlation_mm, pet)
    suv = mean + pet_noise(pet_rng, mean, noise, background_suv, correlation)
    hu = _ct_mean(ct, form, centre, surroundings, ct_contrast_hu, necrosis)
    texture = correlated_noise(ct_rng, ct.shape, _per_axis(_TISSUE_CORRELATION_MM, ct))
    grain = correlated_noise(ct_rng, ct.shape, _per_axis(_CT_CORRELATION_MM, ct))
    hu = hu + _TISSUE_SD_HU * texture * (hu > -500) + ct_noise_hu * grain

    image = Image.of(
        channel_from_array(suv, pet.affine, name="PT"),
        channel_from_array(hu, ct.affine, name="CT"),
    )
    truth = slices[index][0]
    return Phantom(image, truth, slices, inside, centre, form, float(radius_mm), index, recipe)


def demo_phantom(seed: int = 0) -> Phantom:
    """The lesion of the demonstration: mildly irregular, in a pelvis, with a hot organ nearby.

    Three slices; PET voxels of 4 mm and CT pixels of 1 mm.
    """
    return pet_ct_phantom(
        seed, dims=3, shape=(64, 52, 3), spacing_mm=(4.0, 4.0, 4.0), radius_mm=23.0,
        amplitude=0.13, contrast=4.5, pet_fwhm_mm=6.5, noise=0.18, heterogeneity=0.08,
        scene="body",
    )  # fmt: skip


def supersampled(
    grid: Grid, factors: Sequence[int], pad: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coordinates along x, y and z of subsamples that cut each voxel in equal parts.

    `pad` adds whole voxels at both ends of z. Axis-aligned grids only.
    """
    axes = []
    for axis, (n, factor) in enumerate(zip(grid.shape, factors, strict=True)):
        extra = pad if axis == 2 else 0
        at = (np.arange((n + 2 * extra) * factor) + 0.5) / factor - 0.5 - extra
        axes.append(grid.affine[axis, 3] + grid.spacing[axis] * at)
    return axes[0], axes[1], axes[2]


def bin_mean(values: np.ndarray, factors: Sequence[int], pad: int = 0) -> np.ndarray:
    """Means over the parts of each voxel: the way back from `supersampled`."""
    fx, fy, fz = factors
    nx, ny, nz = (n // f for n, f in zip(values.shape, factors, strict=True))
    mean = values.reshape(nx, fx, ny, fy, nz, fz).mean(axis=(1, 3, 5))
    return mean[:, :, pad : nz - pad] if pad else mean


def _pet_mean(
    grid: Grid, form: Shape, centre: np.ndarray, scene: Scene, sd_mm: float, contrast: float,
    heterogeneity: float, necrosis: bool, rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Noise-free PET over the background's uptake, and the lesion's share of each voxel."""
    from scipy.ndimage import gaussian_filter

    in_plane = max(4, int(np.ceil(grid.spacing[:2].max())))
    factors = (in_plane, in_plane, 1 if form.dims == 2 else max(4, int(grid.spacing[2])))
    pad = 0 if form.dims == 2 else int(np.ceil(4 * sd_mm / grid.spacing[2]))
    step = grid.spacing / factors
    axes = supersampled(grid, factors, pad)
    inside, depth = _rasterise(form, centre, axes, float(step[0]))
    lesion = np.full(inside.shape, float(contrast))
    if heterogeneity > 0:
        coarseness = np.where(np.asarray(inside.shape) > 1, 0.35 * form.radius / step, 0.0)
        lesion *= lumps(rng, inside.shape, coarseness, heterogeneity)
    if necrosis:
        lesion *= 1 - (1 - _CORE_UPTAKE) * _core(depth, step)
    around = scene.uptake(axes[0][:, None], axes[1][None])[:, :, None]
    ideal = around + inside * (lesion - around)
    blur = [sd_mm / s if n > 1 else 0.0 for s, n in zip(step, ideal.shape, strict=True)]
    blurred = gaussian_filter(ideal, blur, mode="nearest", truncate=5.0) if sd_mm > 0 else ideal
    return bin_mean(blurred, factors, pad), bin_mean(inside, factors, pad)


def _ct_mean(
    grid: Grid, form: Shape, centre: np.ndarray, scene: Scene, contrast_hu: float, necrosis: bool
) -> np.ndarray:
    """Noise-free CT in HU."""
    from scipy.ndimage import gaussian_filter

    factors = (2, 2, 1 if form.dims == 2 else 2)
    step = grid.spacing / factors
    axes = supersampled(grid, factors)
    inside, depth = _rasterise(form, centre, axes, float(step[0]))
    around = scene.attenuation(axes[0][:, None], axes[1][None])[:, :, None]
    lesion = 55.0 + contrast_hu + (_CORE_HU * _core(depth, step) if necrosis else 0.0)
    ideal = around + inside * (lesion - around)
    sd = _CT_FWHM_MM / FWHM_PER_SD
    blurred = gaussian_filter(ideal, [sd / step[0], sd / step[1], 0.0], mode="nearest")
    return bin_mean(blurred, factors)


def _rasterise(
    form: Shape, centre: np.ndarray, axes: Sequence[np.ndarray], step: float
) -> tuple[np.ndarray, np.ndarray]:
    """Inside fraction, soft over one sample, and depth on a grid of subsamples (x, y, z)."""
    reach = form.reach + 2 * step
    depth = np.full([len(axis) for axis in axes], -reach)
    near = [np.abs(axis - c) <= reach for axis, c in zip(axes, centre, strict=False)]
    if not all(mask.any() for mask in near):
        return np.zeros_like(depth), depth
    mesh = np.meshgrid(*[axis[mask] for axis, mask in zip(axes, near, strict=False)], indexing="ij")
    box = np.ix_(*near, *[np.ones(1, dtype=bool)] * (3 - form.dims))
    inner = form.depth(np.stack(mesh, axis=-1) - centre)
    depth[box] = inner.reshape(depth[box].shape)
    return np.clip(0.5 + depth / step, 0.0, 1.0), depth


def _core(depth: np.ndarray, step: np.ndarray) -> np.ndarray:
    """The necrotic core: where the distance to the boundary exceeds half of the deepest."""
    from scipy.ndimage import distance_transform_edt

    solid = depth > 0
    core = np.zeros(depth.shape)
    if not solid.any():
        return core
    edges = [np.flatnonzero(solid.any(axis=rest)) for rest in ((1, 2), (0, 2), (0, 1))]
    box = tuple(slice(max(0, at[0] - 1), at[-1] + 2) for at in edges)
    to_edge = np.asarray(distance_transform_edt(solid[box], sampling=step))
    core[box] = np.clip(0.5 + (to_edge - _CORE_DEPTH * to_edge.max()) / 2.0, 0.0, 1.0)
    return core


def _outlines(form: Shape, centre: np.ndarray, plane: Plane) -> tuple[Curve, ...]:
    """The true outlines in one slice, dense and counter-clockwise; none if the lesion misses it."""
    if form.dims == 2:
        return (Curve(centre + form.outline(1024)),)
    reach = form.reach
    if abs(plane.offset - centre[2]) >= reach:
        return ()
    n = 301
    spacing = 2 * reach / (n - 1)
    fine = Plane(
        centre[:2] - reach, np.full(2, spacing), plane.offset, plane.thickness, np.eye(3), (n, n)
    )
    points = np.concatenate(
        [fine.points() - centre[:2], np.full((n, n, 1), plane.offset - centre[2])], axis=-1
    )
    soft = np.clip(0.5 + form.depth(points) / (8 * spacing), 0.0, 1.0)
    if soft.max() <= 0.5:
        return ()
    return tuple(curve.resample(1024) for curve in contours_from_mask(soft, fine))


def _grid_of(dims: int, shape: Sequence[int] | None, spacing_mm: Sequence[float] | None) -> Grid:
    if dims not in (2, 3):
        raise InputError(f"dims must be 2 or 3, got {dims}")
    shape = ((48, 48) if dims == 2 else (40, 40, 20)) if shape is None else tuple(shape)
    spacing = (4.0,) * dims if spacing_mm is None else tuple(spacing_mm)
    if len(shape) != dims or len(spacing) != dims:
        raise InputError(
            f"a {dims}D phantom needs {dims} numbers for shape and for spacing_mm, got "
            f"{shape} and {spacing}"
        )
    if min(shape) < 1 or not min(spacing) > 0:
        raise InputError(f"shape {shape} and spacing_mm {spacing} must be positive")
    return _centred((*shape, 1)[:3], (*spacing, max(spacing))[:3])


def _ct_grid(pet: Grid, ct_spacing_mm: float) -> Grid:
    size = pet.spacing[:2] * np.asarray(pet.shape[:2])
    nx, ny = (max(1, int(np.rint(s / ct_spacing_mm))) for s in size)
    return _centred((nx, ny, pet.shape[2]), (ct_spacing_mm, ct_spacing_mm, pet.spacing[2]))


def _centred(shape: Sequence[int], spacing: Sequence[float]) -> Grid:
    affine = np.diag([*np.asarray(spacing, dtype=float), 1.0])
    affine[:3, 3] = -(np.asarray(shape) - 1) / 2 * np.asarray(spacing)
    return Grid(affine=affine, shape=(int(shape[0]), int(shape[1]), int(shape[2])))


def _per_axis(correlation_mm: float, grid: Grid) -> np.ndarray:
    return np.where(np.asarray(grid.shape) > 1, correlation_mm / grid.spacing, 0.0)


def _check(
    radius: float, contrast: float, background: float, fwhm: float, ct_spacing: float, lumpy: float
) -> None:
    positive = dict(
        radius_mm=radius, contrast=contrast, background_suv=background, ct_spacing_mm=ct_spacing
    )
    for name, value in (positive | dict(pet_fwhm_mm=fwhm, heterogeneity=lumpy)).items():
        if not (np.isfinite(value) and (value > 0 if name in positive else value >= 0)):
            least = "positive" if name in positive else "zero or more"
            raise InputError(f"{name} must be {least}, got {value}")


def _check_fits(slices: Sequence[Sequence[Curve]], half_mm: np.ndarray) -> None:
    curves = [curve for outlines in slices for curve in outlines]
    if not curves:
        raise InputError("the lesion lies in none of the slices; add slices or make it larger")
    reach = np.max([np.abs(curve.points).max(axis=0) for curve in curves], axis=0)
    if np.any(reach > half_mm[:2]):
        raise InputError(
            f"the lesion reaches {reach.round(1).tolist()} mm from the middle of a field of view "
            f"of half-width {half_mm[:2].tolist()} mm; enlarge shape or spacing_mm, or make the "
            "lesion smaller"
        )
