"""What surrounds a synthetic lesion? Ideal uptake and attenuation of a plain or a body scene."""

from __future__ import annotations

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._record import record, static
from aistat_jax.data.textures import read_waves, waves

SCENES = ("plain", "body")
LESION_AT = (-0.36, 0.10)
"""Where the body scene puts the lesion, in halves of the field of view."""
_ORGAN_AT, _ORGAN_SIZE, _ORGAN_UPTAKE = (0.34, 0.24), (0.17, 0.15), 7.0
_BONES_AT, _BONE_SIZE = ((-0.52, -0.42), (0.52, -0.42)), 0.15
_UPTAKE = {"air": 0.02, "fat": 0.35, "muscle": 1.0, "bone": 0.8}
_HU = {"air": -1000.0, "fat": -100.0, "muscle": 55.0, "marrow": 180.0, "cortex": 900.0}


@record
class Scene:
    """The tissue around a lesion as functions of the plane, the same in every slice.

    Shapes: half_mm (2,) half of the field of view about the origin; outline, septa (wave, 4).
    """

    half_mm: np.ndarray
    outline: np.ndarray
    septa: np.ndarray
    kind: str = static(default="plain")

    def uptake(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Tracer uptake at points (x, y) in mm, as a multiple of the background's."""
        if self.kind == "plain":
            return np.ones(np.broadcast_shapes(x.shape, y.shape))
        return self._paint(
            x,
            y,
            _UPTAKE | {"marrow": _UPTAKE["bone"], "cortex": _UPTAKE["bone"]},
            organ=_ORGAN_UPTAKE,
        )

    def attenuation(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """CT number (HU) at points (x, y) in mm."""
        if self.kind == "plain":
            return np.full(np.broadcast_shapes(x.shape, y.shape), _HU["muscle"])
        return self._paint(x, y, _HU, organ=12.0)

    def _paint(
        self, x: np.ndarray, y: np.ndarray, tissue: dict[str, float], organ: float
    ) -> np.ndarray:
        half_x, half_y = self.half_mm
        scale = float(np.sqrt(half_x * half_y))
        wobble = read_waves(self.outline, x, y)
        body = 1 - np.hypot(x / (0.93 * half_x), y / (0.88 * half_y)) + 0.015 * wobble
        muscle = body - 0.13 - 0.025 * wobble
        fascia = read_waves(self.septa, x, y)
        out = np.full(body.shape, tissue["air"])
        out = np.where(body > 0, tissue["fat"], out)
        out = np.where((muscle > 0) & (np.abs(fascia) > 0.08), tissue["muscle"], out)
        for centre in _BONES_AT:
            edge = _BONE_SIZE * scale - np.hypot(x - centre[0] * half_x, y - centre[1] * half_y)
            edge += 0.02 * scale * wobble
            out = np.where(edge > 0, tissue["cortex"], out)
            out = np.where(edge > 3.0, tissue["marrow"], out)
        bladder = 1 - np.hypot(
            (x - _ORGAN_AT[0] * half_x) / (_ORGAN_SIZE[0] * scale),
            (y - _ORGAN_AT[1] * half_y) / (_ORGAN_SIZE[1] * scale),
        )
        return np.where(bladder > 0, organ, out)


def draw_scene(rng: np.random.Generator, kind: str, half_mm: np.ndarray) -> Scene:
    """Tissue around a lesion: "plain" (uniform muscle) or "body" (a pelvis-like cross-section).

    The body scene holds skin and fat, muscles parted by fat, two bones and a hot organ. Its
    layout scales with the field of view, of half-width half_mm (2,).
    Raises InputError for an unknown kind.
    """
    if kind not in SCENES:
        raise InputError(f"unknown scene {kind!r}; choose one of {', '.join(SCENES)}")
    scale = float(np.sqrt(half_mm[0] * half_mm[1]))
    return Scene(half_mm, waves(rng, 12, 0.35 * scale), waves(rng, 24, 0.28 * scale), kind)
