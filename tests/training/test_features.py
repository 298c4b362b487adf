"""Training from a bank is training with the encoder; filling it survives being killed."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.data.toy_catalog import make_catalog
from uvlm.config import to_dict
from uvlm.data.bank import Bank
from uvlm.data.bank_files import read_index
from uvlm.data.config import AugmentConfig
from uvlm.data.dataset import Draw, StudyDataset
from uvlm.errors import BundleError, ConfigError, InputError, MemoryExhaustedError
from uvlm.imaging.store import StoredArray
from uvlm.models.config import InjectionConfig
from uvlm.models.encoder import Encoder
from uvlm.training import encoding
from uvlm.training import features as module
from uvlm.training.config import RunConfig
from uvlm.training.encoding import Pooler, Records, encoder_fingerprint
from uvlm.training.features import fill_bank
from uvlm.training.run import train

Build = Callable[[str], RunConfig]


@pytest.fixture
def run(tiny_run: Build) -> RunConfig:
    return tiny_run("report")


def small_shards(monkeypatch: pytest.MonkeyPatch, records: int = 3) -> None:
    monkeypatch.setattr(module, "records_per_shard", lambda key: records)


def losses(out: Path) -> list[tuple[int, str, float]]:
    with (out / "log.csv").open(newline="") as file:
        rows = [(int(r["step"]), r["name"], float(r["value"])) for r in csv.DictReader(file)]
    return [row for row in rows if row[1] in ("loss", "val/answer_ce")]


def with_bank(run: RunConfig, bank: Path, out: Path) -> RunConfig:
    return replace(run, data=replace(run.data, bank=bank), out=out)


def augmented(run: RunConfig, augment: AugmentConfig | None = None) -> RunConfig:
    return replace(run, data=replace(run.data, augment=augment or AugmentConfig()))


def contents(bank: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in bank.iterdir()}


@pytest.mark.parametrize(
    "changes",
    [{}, {"injection": InjectionConfig(layers=())}, {"spacing": True}],
    ids=["injection", "no injection", "spacing"],
)
def test_losses_with_the_bank_are_those_with_the_encoder(
    run: RunConfig, tmp_path: Path, monkeypatch, changes
):
    used: Counter[str] = Counter()

    def count(patch: pytest.MonkeyPatch, cls: type, name: str) -> None:
        original = getattr(cls, name)

        def counted(*args: Any) -> Any:
            used[f"{cls.__name__}.{name}"] += 1
            return original(*args)

        patch.setattr(cls, name, counted)

    first, other = (train(replace(run, seed=s, out=tmp_path / f"seed {s}")) for s in (5, 6))
    run = replace(run, init=first, model=replace(run.model, **changes))
    bank = fill_bank(replace(run, out=tmp_path / "bank"))
    with monkeypatch.context() as patch:
        for method in ("__call__", "forward", "each_stage"):
            count(patch, Encoder, method)
        count(patch, StoredArray, "__getitem__")
        train(with_bank(run, bank, tmp_path / "banked"))
        assert not used, "a step with the bank ran the encoder or read a volume"
        train(replace(run, out=tmp_path / "plain"))
        assert used["Encoder.each_stage"] >= 6 <= used["StoredArray.__getitem__"]
    expected = losses(tmp_path / "plain")
    assert len([row for row in expected if row[1] == "loss"]) == 6
    # Half precision rounds each feature by at most 5e-4 of itself; of the losses that is 1e-7
    # (measured: 9e-8), far less than what another encoder makes of them.
    train(replace(run, init=other, out=tmp_path / "other"))
    assert distance(losses(tmp_path / "banked"), expected) < 1e-6
    assert distance(losses(tmp_path / "other"), expected) > 1e-4


def distance(one: list[tuple[int, str, float]], two: list[tuple[int, str, float]]) -> float:
    """Largest relative difference of two runs' losses."""
    assert [row[:2] for row in one] == [row[:2] for row in two]
    return max(abs(a - b) / b for (_, _, a), (_, _, b) in zip(one, two, strict=True))


def test_features_are_those_of_the_encoder_in_half_precision(run: RunConfig, tmp_path: Path):
    fill_bank(replace(run, out=tmp_path / "bank"))
    bank = Bank.open(tmp_path / "bank")
    torch.manual_seed(run.seed)
    pooler = Pooler(run.model).eval()
    studies = module.load_studies(run.data, ("report",))
    records = Records(run, studies)
    for number, row in enumerate((*studies.train, *studies.val)):
        with torch.no_grad():
            expected = pooler(records[number, 0]["image"][None])
        got = bank.read(row.series_id)
        assert got.keys() == expected.keys()
        for stage in expected:
            # Oracle: the same, rounded.
            torch.testing.assert_close(got[stage], expected[stage][0].half(), rtol=0, atol=0)


def test_each_view_is_another_but_the_first_is_the_volume_itself(run: RunConfig, tmp_path: Path):
    fill_bank(replace(run, out=tmp_path / "one"))
    fill_bank(replace(augmented(run), out=tmp_path / "many"), views=3)
    one, many = Bank.open(tmp_path / "one"), Bank.open(tmp_path / "many")
    counts = set(many.index.views.values())
    assert counts == {1, 3}  # validation studies have the first only
    series = next(name for name, count in many.index.views.items() if count == 3)
    assert torch.equal(one.read(series)[3], many.read(series)[3])
    views = [many.read(series, view)[3] for view in range(3)]
    assert not torch.equal(views[0], views[1])
    assert not torch.equal(views[1], views[2])


def test_training_draws_views_by_its_seed_and_validation_the_first(run: RunConfig, tmp_path: Path):
    run = augmented(run)
    bank = fill_bank(replace(run, out=tmp_path / "bank"))
    assert max(read_index(bank).views.values()) == module.VIEWS
    studies, opened = module.load_studies(run.data, ("report",)), Bank.open(bank)
    draw = StudyDataset(studies.train, run.data, studies.spec, train=True, bank=opened)
    series = studies.train[0].series_id
    known = [opened.read(series, view)[3] for view in range(module.VIEWS)]
    drawn = [draw[Draw(0, seed)]["features"][3] for seed in range(40)]
    found = {next(i for i, k in enumerate(known) if torch.equal(k, d)) for d in drawn}
    assert found == set(range(module.VIEWS))
    assert torch.equal(draw[Draw(0, 7)]["features"][3], drawn[7])
    still = StudyDataset(studies.train, run.data, studies.spec, train=False, bank=opened)
    assert all(torch.equal(still[Draw(0, s)]["features"][3], known[0]) for s in range(9))
    train(with_bank(run, bank, tmp_path / "run"))


def test_processes_share_the_work_and_make_the_same_bank(
    run: RunConfig, tmp_path: Path, monkeypatch
):
    small_shards(monkeypatch)
    alone, together = tmp_path / "alone", tmp_path / "together"
    fill_bank(replace(augmented(run), out=alone), views=2)
    shared = replace(augmented(run), out=together)
    fill_bank(shared, views=2, rank=1, processes=2)
    with pytest.raises(InputError, match="missing"):
        Bank.open(together)
    fill_bank(shared, views=2, rank=0, processes=2)
    assert contents(alone) == contents(together)


def test_two_processes_both_have_work_on_a_small_set(run: RunConfig, tmp_path: Path):
    """All its features would fit one shard."""
    bank = tmp_path / "bank"
    made = []
    for rank in (0, 1):
        fill_bank(replace(run, out=bank), rank=rank, processes=2)
        made.append(len(list(bank.glob("shard-*"))))
    assert 0 < made[0] < made[1] == Bank.open(bank).index.shards
    encoded = contents(bank)
    fill_bank(replace(run, out=bank))  # alone, it goes on with the shards there are
    assert contents(bank) == encoded


KILLED = """
import json, os, signal, sys
from pathlib import Path
import uvlm.training.features as features
from uvlm.config import from_dict
from uvlm.training.config import RunConfig

config = from_dict(RunConfig, json.loads(Path(sys.argv[1]).read_text()))
features.records_per_shard = lambda key: 3
at, calls, sync = int(sys.argv[2]), [0], os.fsync

def sync_half(file):
    calls[0] += 1
    if calls[0] == at:
        os.ftruncate(file, os.fstat(file).st_size // 2)
        os.kill(os.getpid(), signal.SIGKILL)
    sync(file)

os.fsync = sync_half
features.fill_bank(config)
"""


def test_a_killed_fill_goes_on_where_it_was(run: RunConfig, tmp_path: Path, monkeypatch):
    """Killed by SIGKILL in the middle of writing its second shard."""
    config = replace(run, out=tmp_path / "bank")
    (tmp_path / "run.json").write_text(json.dumps(to_dict(config)))
    command = [sys.executable, "-c", KILLED, str(tmp_path / "run.json"), "2"]
    done = subprocess.run(command, capture_output=True, timeout=100, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()[-2000:]
    names = sorted(path.name.split(".")[0] for path in (tmp_path / "bank").glob("shard*"))
    assert names == ["shard-00000"]
    with pytest.raises(InputError, match="missing or cut short"):
        Bank.open(tmp_path / "bank")
    small_shards(monkeypatch)
    encoded = []
    encode = encoding._encode
    monkeypatch.setattr(encoding, "_encode", lambda *args: encoded.append(1) or encode(*args))
    fill_bank(config)
    whole = fill_bank(replace(run, out=tmp_path / "whole"))
    total = len(read_index(whole).records)
    assert len(encoded) == (total - 3) + total
    assert contents(whole) == contents(tmp_path / "bank")


def test_filling_a_complete_bank_again_encodes_nothing(run: RunConfig, tmp_path: Path, monkeypatch):
    config = replace(run, out=tmp_path / "bank")
    fill_bank(config)
    before = contents(tmp_path / "bank")
    monkeypatch.setattr(encoding, "_encode", None)
    fill_bank(config)
    assert contents(tmp_path / "bank") == before


def test_loader_processes_make_the_same_bank(run: RunConfig, tmp_path: Path):
    data = replace(run.data, workers=1)
    fill_bank(replace(run, out=tmp_path / "one"))
    fill_bank(replace(run, data=data, out=tmp_path / "two"))
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_a_bank_of_another_encoder_is_refused_before_anything_is_written(
    run: RunConfig, tmp_path: Path
):
    bank = fill_bank(replace(run, seed=1, out=tmp_path / "bank"))
    with pytest.raises(InputError, match="it was made with encoder"):
        train(with_bank(run, bank, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_bank_of_another_token_grid_or_fewer_stages_is_refused(run: RunConfig, tmp_path: Path):
    def injected(layers: tuple[tuple[int, int], ...] | None, stage: int = -1) -> RunConfig:
        injection = InjectionConfig(layers=layers, reference_stage=stage)
        return replace(run, model=replace(run.model, injection=injection))

    bank = fill_bank(replace(injected(()), out=tmp_path / "bank"))
    with pytest.raises(InputError, match="lacks the"):
        train(with_bank(injected(None), bank, tmp_path / "run"))
    with pytest.raises(InputError, match="token grid"):
        train(with_bank(injected((), stage=-2), bank, tmp_path / "run"))


def test_a_run_that_augments_is_refused_a_bank_that_does_not(run: RunConfig, tmp_path: Path):
    bank = fill_bank(replace(run, out=tmp_path / "bank"))
    with pytest.raises(InputError, match=r"the unchanged view .* more --views"):
        train(with_bank(augmented(run), bank, tmp_path / "run"))
    other = fill_bank(replace(augmented(run), out=tmp_path / "other"), views=2)
    intensity = AugmentConfig(spatial=False)
    with pytest.raises(InputError, match="its views were made with"):
        train(with_bank(augmented(run, intensity), other, tmp_path / "run"))


def test_a_study_that_is_not_in_the_bank_is_refused(run: RunConfig, tmp_path: Path):
    bank = fill_bank(replace(run, out=tmp_path / "bank"))
    (tmp_path / "more").mkdir()
    more = make_catalog(tmp_path / "more", studies=16)
    grown = replace(run, data=replace(run.data, catalog=(more,)))
    with pytest.raises(InputError, match="studies are missing, the first is toy_"):
        train(with_bank(grown, bank, tmp_path / "run"))


def test_what_needs_no_bank_is_refused_one(tiny_run: Build, tmp_path: Path):
    with pytest.raises(ConfigError, match="frozen encoder; this is a segmentation run"):
        fill_bank(replace(tiny_run("segmentation"), out=tmp_path / "bank"))
    run = tiny_run("report")
    trained = replace(run, optim=replace(run.optim, encoder_lr=0.1), out=tmp_path / "bank")
    with pytest.raises(ConfigError, match=r"encoder_lr 0\.1"):
        fill_bank(trained)
    with pytest.raises(ConfigError, match="--out"):
        fill_bank(run)
    assert not (tmp_path / "bank").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"views": 2}, "2 views .* without augmentation there is one"),
        ({"views": 0}, "0 views"),
        ({"rank": 2, "processes": 2}, "rank must be 0 to 1"),
    ],
)
def test_impossible_options_are_refused(run: RunConfig, tmp_path: Path, options, message):
    with pytest.raises(ConfigError, match=message):
        fill_bank(replace(run, out=tmp_path / "bank"), **options)


def test_one_view_does_not_serve_a_run_that_augments(run: RunConfig, tmp_path: Path):
    """Refused at once: training would refuse that bank after all volumes were encoded."""
    with pytest.raises(ConfigError, match=r"1 views .* 2 or more"):
        fill_bank(replace(augmented(run), out=tmp_path / "bank"), views=1)


def test_an_encoder_of_other_widths_is_refused(tiny_run: Build, tmp_path: Path):
    run = tiny_run("report")
    first = train(replace(run, out=tmp_path / "first"))
    wide = replace(run.model.encoder, features=(4, 8, 16))
    other = replace(run, model=replace(run.model, encoder=wide), init=first)
    with pytest.raises(BundleError, match="features"):
        fill_bank(replace(other, out=tmp_path / "bank"))
    assert not (tmp_path / "bank").exists()


def test_too_small_a_disk_is_refused(run: RunConfig, tmp_path: Path, monkeypatch):
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(InputError, match=r"still to be written, 0\.0 GB are free"):
        fill_bank(replace(run, out=tmp_path / "bank"))


def test_the_room_for_all_processes_counts(run: RunConfig, tmp_path: Path, monkeypatch):
    whole = fill_bank(replace(run, out=tmp_path / "whole"))
    index = read_index(whole)
    needed = len(index.records) * index.key.record_bytes
    small_shards(monkeypatch)
    usage = type("Usage", (), {"free": needed - 1})
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(InputError, match="still to be written"):
        fill_bank(replace(run, out=tmp_path / "bank"), rank=1, processes=2)


def test_exhausted_memory_says_what_to_change(run: RunConfig, tmp_path: Path, monkeypatch):
    def exhausted(self, image_11DHW):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 TiB")

    monkeypatch.setattr(Pooler, "forward", exhausted)
    with pytest.raises(MemoryExhaustedError, match=r"--loop\.precision bf16"):
        fill_bank(replace(run, out=tmp_path / "bank"))


def test_features_beyond_half_precision_are_refused_by_name(
    run: RunConfig, tmp_path: Path, monkeypatch
):
    forward = Pooler.forward
    monkeypatch.setattr(Pooler, "forward", lambda *a: {s: t * 1e9 for s, t in forward(*a).items()})
    with pytest.raises(InputError, match=r"toy_\d+_1: its features are not finite or too large"):
        fill_bank(replace(run, out=tmp_path / "bank"))


def test_the_fingerprint_sees_every_weight_and_setting(run: RunConfig):
    torch.manual_seed(0)
    encoder = Encoder(run.model.encoder)
    before = encoder_fingerprint(encoder)
    assert encoder_fingerprint(encoder.to(memory_format=torch.channels_last_3d)) == before
    last = list(encoder.parameters())[-1]
    with torch.no_grad():
        last[-1] += 1e-6
    assert encoder_fingerprint(encoder) != before


def test_an_untrained_encoder_is_warned_of(run: RunConfig, tmp_path: Path, caplog):
    fill_bank(replace(run, out=tmp_path / "bank"))
    assert "untrained encoder" in caplog.text
