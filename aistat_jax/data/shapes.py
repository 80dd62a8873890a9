"""What outline does a synthetic lesion have? A base form, bent by a Gaussian process."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import record, static
from aistat_jax._typing import Float
from aistat_jax.space.basis import host_variance

KINDS = ("gp", "kidney", "bilobed", "crescent")
_KIDNEY_DEPTH, _KIDNEY_WIDTH = 1.0, 4.5
_BILOBED_STRETCH = 0.65
_CRESCENT_HOLE, _CRESCENT_TIP = 0.75, 0.06


def _fourier(weights: np.ndarray, angles: np.ndarray) -> np.ndarray:
    total = np.zeros_like(angles, dtype=float)
    for k, (a, b) in enumerate(weights.T, start=1):
        total += a * np.cos(k * angles) + b * np.sin(k * angles)
    return total


@record
class Shape:
    """A closed outline (2D) or surface (3D) about the origin, which lies inside it.

    A base form of unit area radius is turned by `rotation` about z, scaled by `radius` and
    stretched along every ray by exp(warp), a Matern process of the direction. The warp is kept
    as Fourier weights (2, basis) on the circle, or as a (colatitude, longitude) table on the
    sphere. Lengths are in the unit of `radius`.
    """

    radius: float
    rotation: float
    warp: np.ndarray
    kind: str = static(default="gp")
    dims: int = static(default=2)

    def log_warp(self, points: np.ndarray) -> np.ndarray:
        """Log stretch along the ray through each point (..., dims), in the shape's own frame."""
        azimuth = np.arctan2(points[..., 1], points[..., 0])
        if self.dims == 2:
            return _fourier(self.warp, azimuth)
        from scipy.ndimage import map_coordinates

        rows, columns = self.warp.shape
        pad = 8
        table = np.pad(self.warp, ((0, 0), (pad, pad)), mode="wrap")
        colatitude = np.arctan2(np.hypot(points[..., 0], points[..., 1]), points[..., 2])
        at = [
            colatitude * (rows - 1) / np.pi,
            np.mod(azimuth, 2 * np.pi) * columns / (2 * np.pi) + pad,
        ]
        return map_coordinates(table, at, order=3, mode="nearest")

    @property
    def reach(self) -> float:
        """An upper bound on the distance from the origin to the boundary."""
        warp = self.warp if self.dims == 3 else self.log_warp(_raw_outline("gp", 4096))
        base = np.linalg.norm(_base_outline(self.kind, 4096), axis=1).max()
        return float(1.01 * self.radius * base * np.exp(warp.max()))

    def depth(self, points: np.ndarray) -> np.ndarray:
        """How far inside each point (..., dims) lies along its ray; negative outside."""
        own = points @ _turn(self.rotation, self.dims)
        stretch = self.radius * np.exp(self.log_warp(own))
        return stretch * _base_depth(self.kind, own / stretch[..., None])

    def outline(self, vertices: int = 1024) -> Float[np.ndarray, "vertex 2"]:
        """Points of the closed outline of a 2D shape, counter-clockwise."""
        base = _base_outline(self.kind, vertices)
        own = base * (self.radius * np.exp(self.log_warp(base)))[:, None]
        return own @ _turn(self.rotation, 2).T


def draw_shape(
    rng: np.random.Generator,
    *,
    kind: str = "gp",
    dims: int = 2,
    radius: float,
    amplitude: float = 0.15,
    lengthscale: float = 0.45,
    nu: float = 1.5,
) -> Shape:
    """A random lesion shape.

    Kinds: "gp" (a disc bent by the prior), "kidney" and "bilobed" (non-convex but star-shaped
    about the origin) and "crescent" (not star-shaped about any point). In 3D the process lives on
    the sphere, with the spectrum (2 nu / lengthscale^2 + l (l + 1))^-(nu + 1), l = 1..12.

    Raises InputError for an unknown kind or a size that is not positive.
    """
    if kind not in KINDS:
        raise InputError(f"unknown lesion kind {kind!r}; choose one of {', '.join(KINDS)}")
    if dims not in (2, 3):
        raise InputError(f"dims must be 2 or 3, got {dims}")
    if not (radius > 0 and amplitude >= 0 and lengthscale > 0 and nu > 0):
        raise InputError(
            "radius_mm, lengthscale and nu must be positive and amplitude not negative, got "
            f"{radius}, {lengthscale}, {nu} and {amplitude}"
        )
    rotation = float(rng.uniform(0, 2 * np.pi)) if kind != "gp" else 0.0
    if dims == 2:
        warp = rng.standard_normal((2, 24)) * _circle_scale(24, amplitude, lengthscale, nu)
    else:
        warp = _sphere_field(rng, amplitude, lengthscale, nu)
    return Shape(float(radius), rotation, warp, kind, dims)


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def _turn(angle: float, dims: int) -> np.ndarray:
    turn = np.eye(dims)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return turn


def _base_log_radius(kind: str, cosine: np.ndarray) -> np.ndarray:
    """Log radius of the star-shaped base forms, given the cosine to their own x axis."""
    if kind == "kidney":
        return -_KIDNEY_DEPTH * np.exp(_KIDNEY_WIDTH * (cosine - 1))
    if kind == "bilobed":
        return _BILOBED_STRETCH * (2 * cosine**2 - 1)
    return np.zeros_like(cosine)


def _raw_depth(kind: str, points: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(points, axis=-1)
    if kind == "crescent":  # a disc less a smaller one, the origin in its thick part
        hub = np.zeros(points.shape[-1])
        hub[0] = 0.625
        inside = 1 - np.linalg.norm(points - hub, axis=-1)
        hub[0] = 1.125
        outside_hole = np.linalg.norm(points - hub, axis=-1) - _CRESCENT_HOLE
        return -_CRESCENT_TIP * np.logaddexp(-inside / _CRESCENT_TIP, -outside_hole / _CRESCENT_TIP)
    cosine = points[..., 0] / np.maximum(length, 1e-12)
    return np.exp(_base_log_radius(kind, cosine)) - length


def _base_depth(kind: str, points: np.ndarray) -> np.ndarray:
    scale = _base_scale(kind)
    return scale * _raw_depth(kind, points / scale)


@lru_cache(maxsize=8)
def _base_scale(kind: str) -> float:
    """The factor that gives the 2D base form the area of the unit disc."""
    points = _raw_outline(kind, 4096)
    return float(np.sqrt(2 * np.pi / _cross(points, np.roll(points, -1, axis=0)).sum()))


def _base_outline(kind: str, vertices: int) -> np.ndarray:
    return _base_scale(kind) * _raw_outline(kind, vertices)


def _raw_outline(kind: str, vertices: int) -> np.ndarray:
    angles = 2 * np.pi * np.arange(vertices) / vertices
    if kind != "crescent":
        radii = np.exp(_base_log_radius(kind, np.cos(angles)))
        return radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    from contourpy import contour_generator

    x, y = np.linspace(-0.5, 1.7, 441), np.linspace(-1.1, 1.1, 441)
    depth = _raw_depth(kind, np.stack(np.meshgrid(x, y), axis=-1))
    lines = contour_generator(x, y, depth).lines(0.0)
    ring = np.asarray(max(lines, key=len), dtype=float)
    if _cross(ring[:-1], ring[1:]).sum() < 0:
        ring = ring[::-1]
    arc = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(ring, axis=0), axis=1))])
    at = arc[-1] * np.arange(vertices) / vertices
    return np.stack([np.interp(at, arc, ring[:, 0]), np.interp(at, arc, ring[:, 1])], axis=-1)


def _circle_scale(harmonics: int, amplitude: float, lengthscale: float, nu: float) -> np.ndarray:
    """Sds of the weights of cos and sin, the functions of the basis over the root of two."""
    eigenvalues = np.square(np.arange(harmonics + 1.0)).repeat(2)[1:]
    return np.sqrt(2 * host_variance(eigenvalues, amplitude, lengthscale, nu)[1::2])


def _sphere_field(
    rng: np.random.Generator, amplitude: float, lengthscale: float, nu: float, degree: int = 12
) -> np.ndarray:
    """One draw of the process on the sphere, tabulated by colatitude and longitude."""
    colatitude = np.linspace(0, np.pi, 121)
    longitude = 2 * np.pi * np.arange(240) / 240
    degrees = np.arange(1, degree + 1)
    eigenvalues = (degrees * (degrees + 1.0)).repeat(2 * degrees + 1)
    first = np.cumsum(2 * degrees + 1) - 2 * degrees - 1
    power = 4 * np.pi * host_variance(eigenvalues, amplitude, lengthscale, nu, 2)[first]
    legendre = _legendre(degree, np.cos(colatitude))
    field = np.zeros((121, 240))
    for level, variance in zip(degrees, power, strict=True):
        a, b = rng.standard_normal((2, level + 1)) * np.sqrt(2 * variance)
        a[0], b[0] = a[0] / np.sqrt(2), 0.0
        order = np.arange(level + 1)[:, None] * longitude
        ring = a[:, None] * np.cos(order) + b[:, None] * np.sin(order)
        field += legendre[level, : level + 1].T @ ring
    return field


def _legendre(degree: int, x: np.ndarray) -> np.ndarray:
    """Associated Legendre functions (l, m, x), normalised over the sphere, by recursion."""
    p = np.zeros((degree + 1, degree + 1, len(x)))
    p[0, 0] = np.sqrt(1 / (4 * np.pi))
    for m in range(degree + 1):
        if m > 0:
            p[m, m] = np.sqrt((2 * m + 1) / (2 * m) * (1 - x**2)) * p[m - 1, m - 1]
        for n in range(m + 1, degree + 1):
            now = np.sqrt((4 * n**2 - 1) / (n**2 - m**2))
            before = np.sqrt(((n - 1) ** 2 - m**2) / (4 * (n - 1) ** 2 - 1)) if n > 1 else 0.0
            p[n, m] = now * (x * p[n - 1, m] - before * p[n - 2, m])
    return p
