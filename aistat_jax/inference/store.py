"""How does a posterior leave memory? As a NetCDF file, and back.

A file holds one group per target, each with a group "posterior" inside, so that a target can be
read by `xarray.open_datatree(path, group="z012")` too, which is what ArviZ 1 reads, and by
`arviz.InferenceData.from_netcdf(path, base_group="z012")` before it. Everything a Posterior is made
of is stored as it is, with checksums: what is loaded equals what was saved bit for bit.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aistat_jax._errors import InputError
from aistat_jax._files import replaced_file, why
from aistat_jax._signals import undisturbed
from aistat_jax.inference.chart_store import read_chart, written_chart
from aistat_jax.inference.posterior import Diagnostics, Finding, Posterior

if TYPE_CHECKING:
    import xarray

FORMAT, SCHEMA = "aistat_jax posterior", 2
READ = (1, 2)  # in 1 a mesh of offsets has one reach for all of its sites
_DAMAGED = (OSError, KeyError, ValueError, TypeError, RuntimeError)
RESERVED = ("radii", "chain", "draw", "ray", "basis")
# What a sampler noted stands among the draws in a file, under a name no site has.
NOTED = "sample_stats."


def save_posterior(
    path: str | os.PathLike[str], posteriors: Posterior | Sequence[Posterior]
) -> Path:
    """Write one posterior, or one per target, to a NetCDF file; returns its path.

    The file appears under its name only when it is whole. Raises InputError when there is
    nothing to save, what is to be saved is something else, or the folder cannot be written.
    """
    if not isinstance(path, str | os.PathLike):
        raise InputError(
            f"the path comes first, then what to save, got a {type(path).__name__} as the path: "
            'save_posterior("fit.nc", posterior)'
        )
    path = Path(path)
    several = [posteriors] if isinstance(posteriors, Posterior) else list(posteriors)
    if not several:
        raise InputError(f"{path}: there is no posterior to save")
    for each in several:
        if not isinstance(each, Posterior):
            raise InputError(f"{path}: only posteriors can be saved, got a {type(each).__name__}")
    groups = _group_names(several)
    attrs = {"format": FORMAT, "schema": SCHEMA, "groups": json.dumps(groups)}
    whole = netcdf_bytes(
        attrs,
        {
            f"{group}/posterior": to_dataset(posterior)
            for group, posterior in zip(groups, several, strict=True)
        },
    )
    try:
        with undisturbed(), replaced_file(path) as temporary:
            temporary.write_bytes(whole)
    except OSError as error:
        raise InputError(
            f"{path}: the file cannot be written ({why(error)}); choose another"
        ) from error
    return path


def netcdf_bytes(attrs: Mapping[str, Any], groups: Mapping[str, xarray.Dataset]) -> bytes:
    """A NetCDF-4 file of groups, with checksums, as it would lie on a disk.

    It is made in memory: HDF5 ends the process when a disk becomes full under it.
    """
    import io

    import h5netcdf
    from xarray.backends import H5NetCDFStore

    buffer = io.BytesIO()
    with h5netcdf.File(buffer, "w") as file:
        file.attrs.update(attrs)
        for group, data in groups.items():
            checked = {name: {"fletcher32": True, "_FillValue": None} for name in data.data_vars}
            data.dump_to_store(H5NetCDFStore(file, group=group, mode="a"), encoding=checked)
    return buffer.getvalue()


def load_posterior(path: str | os.PathLike[str]) -> list[Posterior]:
    """The posteriors of a file written by `save_posterior`, in the order they were given.

    Raises InputError for a file that is missing, damaged, or not one of ours.
    """
    from xarray import load_dataset

    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: there is no such file")
    plain: dict[str, Any] = {"engine": "h5netcdf", "mask_and_scale": False, "decode_times": False}
    try:
        _check_opens(path)
        root = load_dataset(path, **plain).attrs
        if root.get("format") != FORMAT:
            raise InputError(f"{path}: not a posterior file; save one with save_posterior")
        if (schema := int(root["schema"])) not in READ:
            raise InputError(
                f"{path}: written by a newer version (schema {schema}); update"
                if schema > SCHEMA
                else f"{path}: of schema {schema}, which this version does not read; save it again "
                "with save_posterior"
            )
        return [
            from_dataset(load_dataset(path, group=f"{group}/posterior", **plain))
            for group in json.loads(root["groups"])
        ]
    except InputError:
        raise
    except MemoryError as error:
        raise InputError(f"{path}: it needs more memory than there is, or is damaged") from error
    except _DAMAGED as error:
        raise InputError(
            f"{path}: not a whole posterior file ({type(error).__name__}); "
            "save it again with save_posterior"
        ) from error


def posterior_digests(path: str | os.PathLike[str]) -> list[tuple[str, str]]:
    """(target, SHA-256) of all that a file holds of each posterior, in order.

    Raises InputError for a file that cannot be read as one of `save_posterior`.
    """
    import h5netcdf

    try:
        _check_opens(path)
        with h5netcdf.File(path, "r") as file:
            names = json.loads(str(file.attrs["groups"]))
            groups = [file[f"{name}/posterior"] for name in names]
            return [(str(group.attrs["target"]), _digest_of(group)) for group in groups]
    except (*_DAMAGED, MemoryError) as error:
        raise InputError(f"{path}: not a whole posterior file ({type(error).__name__})") from error


def _check_opens(path: str | os.PathLike[str]) -> None:
    """OSError where HDF5 cannot open a file; the libraries above it then complain on their own."""
    import h5py

    with h5py.File(path, "r"):
        pass


def _digest_of(group: Any) -> str:
    whole = hashlib.sha256()
    for name in sorted(group.variables):
        values = np.asarray(group.variables[name][...])
        whole.update(f"{name} {values.dtype} {values.shape} ".encode() + values.tobytes())
    for name in sorted(group.attrs):
        whole.update(f"{name} {np.asarray(group.attrs[name]).tolist()!r} ".encode())
    return whole.hexdigest()


def to_dataset(posterior: Posterior) -> xarray.Dataset:
    """A posterior as one xarray Dataset, from which `from_dataset` rebuilds it."""
    from xarray import Dataset

    chart = posterior.chart
    rays = chart.sites
    names = {site: _variable_name(site) for site in posterior.samples}
    variables: dict[str, Any] = {
        "radii": (("chain", "draw", "ray"), posterior.radii, {"units": chart.unit})
    }
    for site, values in posterior.samples.items():
        dims = _dims(site, values, rays)
        variables[names[site]] = (("chain", "draw", *dims), values, {"site": site})
    for name, values in posterior.sample_stats.items():
        variables[f"{NOTED}{name}"] = (("chain", "draw"), values)
    chains, draws = posterior.radii.shape[:2]
    coordinates: dict[str, Any] = {
        "chain": np.arange(chains),
        "draw": np.arange(draws),
    }
    kept, arrays = written_chart(chart)
    attrs = _attributes(posterior) | kept | {"sites": json.dumps(names)}
    return Dataset(variables, coordinates | arrays, attrs)


def from_dataset(data: xarray.Dataset) -> Posterior:
    """The Posterior of a dataset made by `to_dataset`."""
    attrs = data.attrs
    chart = read_chart(data)

    def optional(name: str, kind: type) -> Any:
        return kind(attrs[name]) if name in attrs else None

    diagnostics = Diagnostics(
        bool(attrs["converged"]),
        float(attrs["ess_min"]),
        optional("khat", float),
        optional("rhat_max", float),
        optional("divergences", int),
        tuple(json.loads(attrs["reasons"])),
        tuple(Finding(*found) for found in json.loads(attrs.get("findings", "[]"))),
        optional("voxel", float),
    )
    sites = {site: data[name].values for site, name in json.loads(attrs["sites"]).items()}
    return Posterior(
        chart,
        data["radii"].values,
        sites,
        diagnostics,
        str(attrs["method"]),
        int(attrs["seed"]),
        str(attrs["target"]),
        json.loads(attrs["seconds"]),
        float(attrs.get("presence", 1.0)),
        log_evidence=optional("log_evidence", float),
        log_evidence_se=optional("log_evidence_se", float),
        sample_stats={
            str(name).removeprefix(NOTED): data[name].values
            for name in data.data_vars
            if str(name).startswith(NOTED)
        },
    )


def _attributes(posterior: Posterior) -> dict[str, Any]:
    """All but the draws, as what a NetCDF attribute can hold; None is left out."""
    diagnostics = posterior.diagnostics
    attrs = {
        "method": posterior.method,
        "seed": posterior.seed,
        "target": posterior.target_id,
        "presence": posterior.presence,
        "seconds": json.dumps(posterior.seconds),
        "converged": int(diagnostics.converged),
        "ess_min": diagnostics.ess_min,
        "khat": diagnostics.khat,
        "rhat_max": diagnostics.rhat_max,
        "divergences": diagnostics.divergences,
        "log_evidence": posterior.log_evidence,
        "log_evidence_se": posterior.log_evidence_se,
        "reasons": json.dumps(diagnostics.reasons),
        "findings": json.dumps(diagnostics.findings),
        "voxel": diagnostics.voxel,
    }
    return {name: value for name, value in attrs.items() if value is not None}


def _dims(site: str, values: np.ndarray, rays: int) -> tuple[str, ...]:
    """Names of a site's own axes: basis, ray where the length says so, else site_0, site_1, ..."""
    own = values.shape[2:]
    if len(own) == 1 and site == "coefficients":
        return ("basis",)
    if len(own) == 1 and own[0] == rays:
        return ("ray",)
    return tuple(f"{_variable_name(site)}_{axis}" for axis in range(len(own)))


def _variable_name(site: str) -> str:
    """A name NetCDF allows and no dimension has taken; the site's own name is an attribute."""
    name = site.replace("/", ".")
    return f"{name}_site" if name in RESERVED else name


def _group_names(posteriors: Sequence[Posterior]) -> list[str]:
    names: list[str] = []
    for posterior in posteriors:
        name = re.sub(r"[^\w-]", "_", posterior.target_id) or "target"
        names.append(f"{name}_{len(names)}" if name in names else name)
    return names
