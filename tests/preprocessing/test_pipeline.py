"""Many jobs: order, resumption, and a worker's death costs one series."""

import os
from dataclasses import replace

import pytest

from tests.preprocessing.ct_rate_factory import SERIES, make_ct_rate, volume_path
from uvlm.imaging.nifti import write_nifti
from uvlm.imaging.preprocess import preset
from uvlm.imaging.readers import read_volume
from uvlm.imaging.store import read_meta
from uvlm.preprocessing.pipeline import Job, Outcome, _run_pool, run_jobs

SPEC = preset("paper", (8, 16, 16))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_ct_rate(tmp_path_factory.mktemp("made"), masks=False)


def jobs(made, out, names=SERIES):
    return [
        Job(
            series_id=name,
            image=volume_path(made, name),
            mask=None,
            out_image=out / f"{name}.b2nd",
            out_mask=None,
            spec=SPEC,
        )
        for name in names
    ]


def die_or_not(job):
    """What a crash in a decoder, or the kernel's memory guard, does to a worker."""
    if "poison" in job.series_id:
        os._exit(9)
    return Outcome(series_id=job.series_id, source=job.image)


def test_workers_do_what_one_process_does(made, tmp_path):
    alone, together = tmp_path / "alone", tmp_path / "together"
    alone.mkdir()
    together.mkdir()
    first = run_jobs(jobs(made, alone))
    second = run_jobs(jobs(made, together), workers=2)
    assert [outcome.series_id for outcome in second] == list(SERIES)
    assert first == second
    for name in SERIES:
        assert read_meta(alone / f"{name}.b2nd") == read_meta(together / f"{name}.b2nd")


def test_a_dying_worker_costs_only_the_series_that_killed_it(made, tmp_path):
    names = ["a", "poison", "b", "c"]
    queue = jobs(made, tmp_path, names)
    outcomes = {done.series_id: done for done in _run_pool(queue, 2, die_or_not)}
    assert outcomes.keys() == set(names)
    assert {name for name, done in outcomes.items() if done.error} == {"poison"}
    assert "died" in outcomes["poison"].error


def test_an_unexpected_error_is_recorded_with_its_kind(made, tmp_path, monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError("surprise")

    monkeypatch.setattr("uvlm.preprocessing.pipeline.prepare", broken)
    (outcome,) = run_jobs(jobs(made, tmp_path, SERIES[:1]))
    assert "ZeroDivisionError: surprise" in outcome.error


def test_a_changed_source_is_not_taken_for_the_old_one(made, tmp_path):
    job = replace(jobs(made, tmp_path, SERIES[:1])[0], image=tmp_path / "ct.nii.gz")
    ct = read_volume(volume_path(made, SERIES[0]))
    write_nifti(job.image, ct.array, ct.affine)
    assert run_jobs([job])[0] == Outcome(series_id=job.series_id, source=job.image)
    assert run_jobs([job])[0].kept
    write_nifti(job.image, ct.array[1:], ct.affine)
    assert "another file has this name" in run_jobs([job])[0].error


def test_a_damaged_output_is_reported_and_left(made, tmp_path):
    job = jobs(made, tmp_path, SERIES[:1])[0]
    run_jobs([job])
    job.out_image.write_bytes(job.out_image.read_bytes()[:-10])
    (outcome,) = run_jobs([job])
    assert "delete it and prepare the study again" in outcome.error


def test_threads_of_the_parent_stay_as_they_were(made, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    list(_run_pool(jobs(made, tmp_path, ["a"]), 1, die_or_not))
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "MKL_NUM_THREADS" not in os.environ
