"""What is public, and where does it live? Read by editors, and by `__init__.py` at run time."""

# ruff: noqa: I001  (in the order of use)

from ._errors import InputError as InputError
from ._record import replace as replace
from .space.image import Image as Image
from .space.curve import Curve as Curve
from .space.outlines import outlines as outlines
from .nets.weights import load_net as load_net, shipped_nets as shipped_nets
from .nets.foreign import import_net as import_net
from .nets.predict import features as features, predict as predict
from .nets.edges import feature_field as feature_field
from .dicom.structures import (
    Structures as Structures,
    curves_of as curves_of,
    read_structures as read_structures,
)
from .dicom.phantom import phantom_dicom as phantom_dicom
from .dicom.segmentations import read_segmentation as read_segmentation
from .io.nifti import read_image as read_image, read_mask as read_mask, write_nifti as write_nifti
from .io.outputs import read_output as read_output
from .io.surfaces import read_surface as read_surface
from .data.phantoms import demo_phantom as demo_phantom, pet_ct_phantom as pet_ct_phantom
from .data.raters import simulate_raters as simulate_raters
from .boundary.targets import Target as Target, Targets as Targets
from .boundary.finders import find_targets as find_targets
from .boundary.volume import VolumeTarget as VolumeTarget
from .boundary.offsets import (
    OffsetTarget as OffsetTarget,
    OffsetVolumeTarget as OffsetVolumeTarget,
    offset_target as offset_target,
)
from .boundary.rings import RingTarget as RingTarget, ring_target as ring_target
from .boundary.objects import label_objects as label_objects, labelled_targets as labelled_targets
from .boundary.prior import (
    LearnedPrior as LearnedPrior,
    Prior as Prior,
    fixed_prior as fixed_prior,
    prior_from_contours as prior_from_contours,
)
from .boundary.evidence import log_likelihood as log_likelihood
from .boundary.intensity import intensity as intensity, point_intensity as point_intensity
from .boundary.opinions import anchors as anchors, logits as logits, raters as raters, term as term
from .boundary.drawings import Drawing as Drawing
from .boundary.networks import (
    network_logits as network_logits,
    network_prior as network_prior,
    presence as presence,
)
from .boundary.model import (
    boundary_model as boundary_model,
    boundary_program as boundary_program,
    observe as observe,
    prior_scale as prior_scale,
)
from .boundary.simulate import simulate as simulate, simulate_image as simulate_image
from .inference.fit import fit as fit
from .inference.methods import (
    Laplace as Laplace,
    Method as Method,
    NUTS as NUTS,
    SMC as SMC,
    VI as VI,
)
from .inference.batch import fit_many as fit_many
from .inference.population import Population as Population, fit_population as fit_population
from .inference.raters import RaterModel as RaterModel, fit_raters as fit_raters
from .inference.prior import prior_draws as prior_draws
from .inference.earlier import model_from_draws as model_from_draws
from .inference.log_density import LogDensity as LogDensity, log_density as log_density
from .inference.own_draws import as_posterior as as_posterior
from .inference.posterior import Diagnostics as Diagnostics, Posterior as Posterior
from .inference.chart_store import register_chart as register_chart
from .inference.store import load_posterior as load_posterior, save_posterior as save_posterior
from .inference.arviz_groups import to_arviz as to_arviz
from .uncertainty.bands import (
    Band as Band,
    pointwise_band as pointwise_band,
    simultaneous_band as simultaneous_band,
)
from .uncertainty.probability import (
    area_posterior as area_posterior,
    draw_masks as draw_masks,
    probability_contours as probability_contours,
    probability_map as probability_map,
    sample_masks as sample_masks,
    volume_posterior as volume_posterior,
)
from .uncertainty.sections import sections as sections, to_shapely as to_shapely
from .uncertainty.labels import label_map as label_map
from .uncertainty.representatives import representatives as representatives
from .uncertainty.calibration import Ranks as Ranks, sbc_ranks as sbc_ranks
from .uncertainty.sbc import (
    SBCResult as SBCResult,
    simulation_based_calibration as simulation_based_calibration,
)
from .uncertainty.coverage import Coverage as Coverage, coverage as coverage
from .uncertainty.reliability import Reliability as Reliability, reliability as reliability
from .uncertainty.readers import ged_squared as ged_squared, matched_iou as matched_iou
from .uncertainty.overlap import dice as dice, lebesgue_error as lebesgue_error
from .uncertainty.surface_distance import (
    SurfaceDistances as SurfaceDistances,
    added_path_length as added_path_length,
    surface_distances as surface_distances,
)
from .uncertainty.proper_scores import (
    crps as crps,
    energy_score as energy_score,
    interval_score as interval_score,
)
from .uncertainty.voxel_scores import (
    boundary_band as boundary_band,
    qu_brats as qu_brats,
    voxel_scores as voxel_scores,
)
from .uncertainty.selective import RiskCoverage as RiskCoverage, risk_coverage as risk_coverage
from .uncertainty.grading import Grade as Grade, grade as grade
from .uncertainty.tolerance import Tolerance as Tolerance, default_tolerance as default_tolerance
from .uncertainty.contour import Contour as Contour, contour_of as contour_of
from .uncertainty.contributions import (
    Contributions as Contributions,
    contributions as contributions,
)
from .uncertainty.triage import triage as triage
from .uncertainty.by_patient import patients_needed as patients_needed
from .uncertainty.conformal import (
    BandScores as BandScores,
    ConformalBand as ConformalBand,
    band_scores as band_scores,
    conformal_band as conformal_band,
)
from .uncertainty.risk_control import (
    GreenCases as GreenCases,
    GreenRule as GreenRule,
    control_false_green as control_false_green,
    green_cases as green_cases,
)
from .planning.margins import SafetyMargin as SafetyMargin
from .planning.expected_coverage import coverage_margin as coverage_margin
from .planning.recipe import van_herk_margin as van_herk_margin
from .planning.dose import dose_prescription as dose_prescription, write_dose as write_dose
from .case import Case as Case, Settings as Settings
from .calibrations import (
    Calibration as Calibration,
    load_calibration as load_calibration,
    save_calibration as save_calibration,
)
from .calibrating import calibrate as calibrate
from .validation_set import LabelledOutput as LabelledOutput
from .pipelines import contour as contour
from .views.figures import (
    plot_comparison as plot_comparison,
    plot_contours as plot_contours,
    plot_gallery as plot_gallery,
)
from .views.unrolled import plot_unrolled as plot_unrolled
from .views.probabilities import (
    plot_probability as plot_probability,
    plot_probability_map as plot_probability_map,
)
from .views.networks import plot_network as plot_network
from .views.checks import (
    plot_chain_ranks as plot_chain_ranks,
    plot_coverage as plot_coverage,
    plot_ranks as plot_ranks,
    plot_traces as plot_traces,
)
from .views.ecdf import plot_ecdf as plot_ecdf
from .views.reliability import plot_reliability as plot_reliability
from .views.sbc_report import write_sbc_report as write_sbc_report
from .sessions import load_session as load_session, save_session as save_session
from .views.explore import compare as compare, explore as explore
from .views.surfaces import plot_surface as plot_surface
from .views.margins import plot_margins as plot_margins
from .views.contributions import plot_contributions as plot_contributions
from .views.raters import plot_raters as plot_raters
from .views.surface_files import write_sections as write_sections, write_surface as write_surface
from .views.style import save_figure as save_figure
from .views.geojson import contours_geojson as contours_geojson
from .views.outputs import write_case as write_case, write_contours as write_contours
from .views.dataset import write_dataset as write_dataset
from .views.dicom_files import write_rtstruct as write_rtstruct, write_seg as write_seg
from .views.fhir import fhir_bundle as fhir_bundle, write_fhir as write_fhir
from .views.report import write_report as write_report
from .signoff import sign as sign, signatures as signatures
from .io.layouts import find_cases as find_cases
from .cohort.cases import CohortCase as CohortCase
from .cohort.workers import LocalWorkers as LocalWorkers, Scheduler as Scheduler, Slurm as Slurm
from .cohort.run import contour_cohort as contour_cohort
from .views.cohort import (
    cohort_latex as cohort_latex,
    cohort_table as cohort_table,
    write_cohort as write_cohort,
)

__all__: list[str]
__version__: str
