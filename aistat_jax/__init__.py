"""Posterior contours with honest error bars: image -> evidence -> posterior -> band -> grade."""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

# The public face, by the room each name lives in; a room is imported when first asked for.
_ROOMS = {
    "aistat_jax._errors": ("InputError",),
    "aistat_jax._record": ("replace",),
    "aistat_jax.space.image": ("Image",),
    "aistat_jax.space.curve": ("Curve",),
    "aistat_jax.space.outlines": ("outlines",),
    "aistat_jax.nets.weights": ("load_net", "shipped_nets"),
    "aistat_jax.nets.predict": ("features", "predict"),
    "aistat_jax.nets.edges": ("feature_field",),
    "aistat_jax.dicom.structures": ("Structures", "curves_of", "read_structures"),
    "aistat_jax.io.nifti": ("read_image", "read_mask", "write_nifti"),
    "aistat_jax.io.surfaces": ("read_surface",),
    "aistat_jax.data.phantoms": ("demo_phantom", "pet_ct_phantom"),
    "aistat_jax.data.raters": ("simulate_raters",),
    "aistat_jax.boundary.targets": ("Target", "Targets"),
    "aistat_jax.boundary.finders": ("find_targets",),
    "aistat_jax.boundary.volume": ("VolumeTarget",),
    "aistat_jax.boundary.offsets": ("OffsetTarget", "OffsetVolumeTarget", "offset_target"),
    "aistat_jax.boundary.rings": ("RingTarget", "ring_target"),
    "aistat_jax.boundary.objects": ("label_objects", "labelled_targets"),
    "aistat_jax.boundary.prior": ("LearnedPrior", "Prior", "fixed_prior", "prior_from_contours"),
    "aistat_jax.boundary.evidence": ("log_likelihood",),
    "aistat_jax.boundary.intensity": ("intensity", "point_intensity"),
    "aistat_jax.boundary.opinions": ("anchors", "logits", "raters", "term"),
    "aistat_jax.boundary.networks": (
        "network_logits",
        "network_prior",
        "presence",
    ),
    "aistat_jax.boundary.model": (
        "boundary_model",
        "boundary_program",
        "observe",
        "prior_scale",
    ),
    "aistat_jax.boundary.simulate": ("simulate", "simulate_image"),
    "aistat_jax.inference.fit": ("fit",),
    "aistat_jax.inference.methods": ("Laplace", "Method", "NUTS", "SMC", "VI"),
    "aistat_jax.inference.batch": ("fit_many",),
    "aistat_jax.inference.population": ("Population", "fit_population"),
    "aistat_jax.inference.prior": ("prior_draws",),
    "aistat_jax.inference.earlier": ("model_from_draws",),
    "aistat_jax.inference.log_density": ("LogDensity", "log_density"),
    "aistat_jax.inference.own_draws": ("as_posterior",),
    "aistat_jax.inference.posterior": ("Diagnostics", "Posterior"),
    "aistat_jax.inference.store": ("load_posterior", "save_posterior"),
    "aistat_jax.inference.arviz_groups": ("to_arviz",),
    "aistat_jax.uncertainty.bands": ("Band", "pointwise_band", "simultaneous_band"),
    "aistat_jax.uncertainty.probability": (
        "area_posterior",
        "draw_masks",
        "probability_contours",
        "probability_map",
        "sample_masks",
        "volume_posterior",
    ),
    "aistat_jax.uncertainty.sections": ("sections", "to_shapely"),
    "aistat_jax.uncertainty.labels": ("label_map",),
    "aistat_jax.uncertainty.representatives": ("representatives",),
    "aistat_jax.uncertainty.calibration": ("Ranks", "sbc_ranks"),
    "aistat_jax.uncertainty.coverage": ("Coverage", "coverage"),
    "aistat_jax.uncertainty.readers": ("ged_squared", "matched_iou"),
    "aistat_jax.uncertainty.metrics": ("dice", "lebesgue_error", "surface_distances"),
    "aistat_jax.uncertainty.tolerance": ("Tolerance", "default_tolerance"),
    "aistat_jax.uncertainty.grading": ("Grade", "grade"),
    "aistat_jax.uncertainty.contour": ("Contour", "contour_of"),
    "aistat_jax.uncertainty.triage": ("triage",),
    "aistat_jax.case": ("Case", "Settings"),
    "aistat_jax.pipelines": ("contour",),
    "aistat_jax.views.figures": (
        "plot_comparison",
        "plot_contours",
        "plot_gallery",
    ),
    "aistat_jax.views.unrolled": ("plot_unrolled",),
    "aistat_jax.views.probabilities": ("plot_probability", "plot_probability_map"),
    "aistat_jax.views.networks": ("plot_network",),
    "aistat_jax.views.checks": (
        "plot_chain_ranks",
        "plot_coverage",
        "plot_ranks",
        "plot_traces",
    ),
    "aistat_jax.sessions": ("load_session", "save_session"),
    "aistat_jax.views.explore": ("compare", "explore"),
    "aistat_jax.views.surfaces": ("plot_surface",),
    "aistat_jax.views.surface_files": ("write_sections", "write_surface"),
    "aistat_jax.views.style": ("save_figure",),
    "aistat_jax.views.outputs": ("write_case",),
    "aistat_jax.views.dicom_files": ("write_rtstruct", "write_seg"),
    "aistat_jax.views.report": ("write_report",),
    "aistat_jax.io.layouts": ("find_cases",),
    "aistat_jax.cohort.cases": ("CohortCase",),
    "aistat_jax.cohort.workers": ("LocalWorkers", "Scheduler", "Slurm"),
    "aistat_jax.cohort.run": ("contour_cohort",),
    "aistat_jax.views.cohort": ("cohort_latex", "cohort_table", "write_cohort"),
}
_HOME = {name: room for room, names in _ROOMS.items() for name in names}

__all__ = sorted([*_HOME, "__version__"])  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'aistat_jax' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
