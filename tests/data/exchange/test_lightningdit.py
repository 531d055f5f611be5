"""LightningDiT's files: as its own reader expects them, there and back without a changed bit, or refused by name."""

import os

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from transvae_platform.data.exchange import lightningdit, lightningdit_import
from transvae_platform.data.exchange.lightningdit import export_lightningdit
from transvae_platform.data.exchange.lightningdit_import import import_lightningdit
from transvae_platform.data.latents.channels import channel_statistics, channel_sums, to_float32, to_stored
from transvae_platform.data.making.work import run_locally
from transvae_platform.data.sets.local import LocalShelf
from transvae_platform.data.sets.manifest import Manifest, write_manifest
from transvae_platform.data.sets.samples import SampleSet
from transvae_platform.data.sets.shards import Field, ShardFile, write_shard
from transvae_platform.errors import SpecError, UserError

SHAPE = (4, 2, 3)
MODEL = {"name": "tiny", "weights_sha256": "0" * 64, "config": "c" * 16}


@pytest.fixture
def latent_set(tmp_path):
    """25 training records in two shards and 3 for validation, with random latents."""

    def make(dtype="float32", labels=True, content="sample", name="latents"):
        folder = tmp_path / name
        folder.mkdir()
        fields = Field("latent", SHAPE, dtype), Field("latent_flip", SHAPE, dtype)
        torch.manual_seed(0)
        shards, sums, item = [], [], 0
        for number, (split, count) in enumerate([("train", 12), ("train", 13), ("validation", 3)]):
            values = {field: to_stored(torch.randn(count, *SHAPE) + 1, dtype) for field in fields}
            rows = np.arange(item, item + count)
            columns = {
                "item": pa.array(rows, pa.int64()),
                "view": pa.array(rows * 0, pa.int32()),
                "sha256": pa.array([bytes(32)] * count, pa.binary(32)),
            }
            if labels:
                given = [None if labels == "some" and row % 2 else row % 7 for row in rows.tolist()]
                columns["label"] = pa.array(given, pa.int32())
            shards.append(write_shard(folder / f"{split}-{number:05d}.arrow", split, values, columns))
            if split == "train":
                sums.append(channel_sums(to_float32(values[fields[0]], dtype), "sample"))
            item += count
        manifest = Manifest(
            fingerprint="b" * 16, kind="latents", fields=fields, items=item, shards=tuple(shards), quarantined=(),
            settings={"resolution": 16, "content": content, "dtype": dtype, "model": MODEL}, source={}, versions={},
            statistics=channel_statistics(sums),
        )  # fmt: skip
        write_manifest(folder, manifest)
        return manifest, folder

    return make


def values(manifest, folder, field="latent", split="train"):
    samples = SampleSet(manifest, LocalShelf(folder), split)
    return to_float32(samples.read(np.arange(len(samples)), field), manifest.settings["dtype"])


@pytest.fixture
def bring_back(tmp_path):
    def run(folders, home="home", mapper=run_locally, content=None):
        manifest = import_lightningdit(folders, tmp_path / home, mapper, resolution=16, model=MODEL, content=content)
        return manifest, tmp_path / home / "data" / manifest.fingerprint

    return run


def test_files_are_as_lightningdit_writes_them(latent_set, tmp_path, monkeypatch):
    monkeypatch.setattr(lightningdit, "RECORDS_PER_FILE", 10)
    manifest, folder = latent_set("float16")
    files = export_lightningdit(folder, tmp_path / "out", run_locally)
    assert [path.name for path in files] == [f"latents_rank00_shard{number:03d}.safetensors" for number in range(3)]
    assert sorted(path.name for path in (tmp_path / "out").glob("*.*") if not path.name.startswith(".")) == [
        "export.json", *(path.name for path in files), "latents_stats.pt",
    ]  # fmt: skip
    loaded = [load_file(path) for path in files]
    assert [tuple(part["latents"].shape) for part in loaded] == [(10, *SHAPE), (10, *SHAPE), (5, *SHAPE)]
    assert all(part["latents"].dtype == part["latents_flip"].dtype == torch.float32 for part in loaded)
    assert torch.cat([part["labels"] for part in loaded]).tolist() == [row % 7 for row in range(25)]
    for field, name in (("latent", "latents"), ("latent_flip", "latents_flip")):
        assert (torch.cat([part[name] for part in loaded]).numpy() == values(manifest, folder, field)).all()
    with safe_open(files[2], framework="pt") as file:
        assert file.metadata() == {"total_size": "5", "dtype": "torch.float32", "device": "cpu"}
    stats = torch.load(tmp_path / "out" / "latents_stats.pt", weights_only=True)
    everything = torch.cat([part["latents"] for part in loaded])
    torch.testing.assert_close(stats["mean"], everything.mean((0, 2, 3), keepdim=True))
    torch.testing.assert_close(stats["std"], everything.std((0, 2, 3), keepdim=True))


def test_names_sort_in_the_order_of_the_records():
    names = [lightningdit._file_name(number) for number in (0, 1, 999, 1000, 1001, 2000)]
    assert names == sorted(names)
    assert names[3] == "latents_rank01_shard000.safetensors"


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_round_trip_changes_no_value(latent_set, bring_back, tmp_path, monkeypatch, dtype):
    monkeypatch.setattr(lightningdit, "RECORDS_PER_FILE", 10)
    monkeypatch.setattr(lightningdit_import, "SHARD_BYTES", 7 * 2 * 4 * 24)  # 7 records of two float32 latents
    manifest, folder = latent_set(dtype)
    for split in ("train", "validation"):
        export_lightningdit(folder, tmp_path / split, run_locally, split=split)
    found, back = bring_back({split: tmp_path / split for split in ("train", "validation")})
    assert [shard.records for shard in found.shards] == [7, 3, 7, 3, 5, 3]
    for split in ("train", "validation"):
        for field in ("latent", "latent_flip"):
            assert (values(found, back, field, split) == values(manifest, folder, field, split)).all()
    files = [ShardFile(back / shard.file) for shard in found.shards]
    assert np.concatenate([file.column("item").to_numpy() for file in files]).tolist() == list(range(28))
    assert np.concatenate([file.column("label").to_numpy() for file in files]).tolist() == [r % 7 for r in range(28)]
    assert len({row for file in files for row in file.column("sha256").to_pylist()}) == 28
    assert found.settings == {
        "resolution": 16, "data": None, "content": "sample", "dtype": "float32", "seed": None, "model": MODEL,
    }  # fmt: skip
    np.testing.assert_array_equal(np.float32(found.statistics["mean"]), np.float32(manifest.statistics["mean"]))

    again = export_lightningdit(back, tmp_path / "again", run_locally)
    for path in again:
        one, other = load_file(path), load_file(tmp_path / "train" / path.name)
        assert all((one[name] == other[name]).all() for name in other)
    stats = [torch.load(tmp_path / name / "latents_stats.pt", weights_only=True) for name in ("train", "again")]
    assert all(torch.equal(stats[0][name], stats[1][name]) for name in ("mean", "std"))


def test_killed_export_continues(latent_set, tmp_path, monkeypatch):
    monkeypatch.setattr(lightningdit, "RECORDS_PER_FILE", 10)
    _, folder = latent_set()

    def dying(function, work):
        function(work[0])
        yield work[0]
        (tmp_path / "out" / ".latents_rank00_shard001.safetensors.part-1").write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_lightningdit(folder, tmp_path / "out", dying)
    first = (tmp_path / "out" / "latents_rank00_shard000.safetensors").stat().st_mtime_ns
    heard = []
    files = export_lightningdit(folder, tmp_path / "out", run_locally, listen=lambda *done: heard.append(done))
    assert files[0].stat().st_mtime_ns == first
    assert heard == [(10, 25), (20, 25), (25, 25), (25, 25)]
    assert not list((tmp_path / "out").glob(".*part*"))
    assert sum(len(load_file(path)["labels"]) for path in files) == 25


def test_folder_of_another_export_is_refused(latent_set, tmp_path):
    _, folder = latent_set()
    out = tmp_path / "out"
    export_lightningdit(folder, out, run_locally)
    with pytest.raises(UserError, match="holds another export"):
        export_lightningdit(folder, out, run_locally, split="validation")
    (out / "export.json").unlink()
    with pytest.raises(UserError, match=r"latents_rank00_shard000.safetensors, which is not of this export"):
        export_lightningdit(folder, out, run_locally)


@pytest.mark.parametrize("labels", [False, "some"])
def test_missing_labels_are_written_only_on_request(latent_set, tmp_path, labels):
    _, folder = latent_set(labels=labels)
    with pytest.raises(UserError, match=r"of 25 train latents have no label.*--missing-label"):
        export_lightningdit(folder, tmp_path / "out", run_locally)
    assert not (tmp_path / "out").exists()
    (path,) = export_lightningdit(folder, tmp_path / "out", run_locally, missing_label=1000)
    expected = [row % 7 if labels and row % 2 == 0 else 1000 for row in range(25)]
    assert load_file(path)["labels"].tolist() == expected


def test_what_lightningdit_cannot_read_is_not_exported(latent_set, tmp_path):
    _, folder = latent_set(content="posterior")
    with pytest.raises(UserError, match="holds posteriors"):
        export_lightningdit(folder, tmp_path / "out", run_locally)
    _, folder = latent_set(name="more")
    with pytest.raises(UserError, match="holds no test latents"):
        export_lightningdit(folder, tmp_path / "out", run_locally, split="test")
    with pytest.raises(UserError, match="holds no finished data set"):
        export_lightningdit(tmp_path, tmp_path / "out", run_locally)


def write(folder, name="latents_rank00_shard000.safetensors", leave_out=(), **changes):
    folder.mkdir(exist_ok=True)
    tensors = {"latents": torch.ones(3, *SHAPE), "latents_flip": torch.zeros(3, *SHAPE), "labels": torch.arange(3)}
    save_file({key: value for key, value in {**tensors, **changes}.items() if key not in leave_out}, folder / name)
    return folder / name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"leave_out": ("labels",)}, "has no 'labels'"),
        ({"leave_out": ("latents_flip",)}, "has no 'latents_flip'"),
        ({"labels": torch.arange(2)}, r"labels \(n\), but it has"),
        ({"labels": torch.ones(3)}, "labels I64"),
        ({"labels": torch.tensor([0, -1, 2])}, "labels are from -1 to 2"),
        ({"latents_flip": torch.zeros(3, 4, 3, 2)}, "but it has"),
        ({"latents": torch.ones(3, 4), "latents_flip": torch.ones(3, 4)}, r"are \(n, d, h, w\)"),
        ({"latents": torch.ones(3, *SHAPE).double(), "latents_flip": torch.ones(3, *SHAPE).double()}, "one of F32"),
        ({"latents": torch.full((3, *SHAPE), torch.nan)}, "not finite"),
    ],
)
def test_files_that_do_not_fit_are_refused_by_name(bring_back, tmp_path, changes, message):
    write(tmp_path / "in")
    write(tmp_path / "in", "latents_rank01_shard000.safetensors", **changes)
    with pytest.raises(UserError, match=rf"latents_rank01_shard000.safetensors.*{message}"):
        bring_back({"train": tmp_path / "in"})


def test_files_of_other_shapes_or_types_do_not_mix(bring_back, tmp_path):
    write(tmp_path / "in")
    other = {"latents": torch.ones(3, 4, 1, 1), "latents_flip": torch.ones(3, 4, 1, 1)}
    write(tmp_path / "in", "latents_rank00_shard001.safetensors", **other)
    with pytest.raises(UserError, match=r"shard001.*all must be the same"):
        bring_back({"train": tmp_path / "in"})


def test_unreadable_files_are_refused_by_name(bring_back, tmp_path):
    path = write(tmp_path / "in")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"shard000.safetensors cannot be read"):
        bring_back({"train": tmp_path / "in"})
    path.write_bytes(b"")
    with pytest.raises(UserError, match=r"shard000.safetensors cannot be read"):
        bring_back({"train": tmp_path / "in"})
    path.unlink()
    with pytest.raises(UserError, match=r"holds no .safetensors files"):
        bring_back({"train": tmp_path / "in"})
    with pytest.raises(SpecError, match="train"):
        bring_back({"test": tmp_path / "in"})


@pytest.mark.parametrize(
    "content",
    [b"", b"damaged", {"mean": torch.zeros(1, 4, 1, 1)}, {"mean": torch.zeros(1, 3, 1, 1), "std": torch.ones(3)},
     {"mean": torch.zeros(1, 4, 1, 1), "std": torch.zeros(1, 4, 1, 1)}, [1]],
)  # fmt: skip
def test_damaged_statistics_are_refused(bring_back, tmp_path, content):
    write(tmp_path / "in")
    path = tmp_path / "in" / "latents_stats.pt"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(UserError, match=r"latents_stats.pt is not the statistics of 4 channels"):
        bring_back({"train": tmp_path / "in"})


def test_statistics_are_the_folders_or_computed(bring_back, tmp_path):
    random = torch.Generator().manual_seed(0)
    latents = torch.randn(3, *SHAPE, generator=random)
    write(tmp_path / "in", latents=latents)
    computed, _ = bring_back({"train": tmp_path / "in"})
    np.testing.assert_allclose(computed.statistics["std"], latents.double().std((0, 2, 3)), rtol=1e-9)
    torch.save({"mean": torch.full((1, 4, 1, 1), 2.0), "std": torch.full((1, 4, 1, 1), 0.5)},
               tmp_path / "in" / "latents_stats.pt")  # fmt: skip
    given, _ = bring_back({"train": tmp_path / "in"})
    assert given.statistics == {"mean": [2.0] * 4, "std": [0.5] * 4, "of": "latents_stats.pt"}
    assert given.fingerprint != computed.fingerprint


@pytest.mark.parametrize(("dtype", "name"), [(torch.float16, "float16"), (torch.bfloat16, "bfloat16")])
def test_half_precision_stays_what_it_is(bring_back, tmp_path, dtype, name):
    latents = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(0)).to(dtype)
    write(tmp_path / "in", latents=latents, latents_flip=-latents)
    manifest, folder = bring_back({"train": tmp_path / "in"})
    assert manifest.fields[0].dtype == name
    assert (values(manifest, folder) == latents.float().numpy()).all()


@pytest.mark.parametrize("second", ["b", "a"])
def test_files_of_the_same_name_size_and_time_are_not_taken_for_each_other(bring_back, tmp_path, second):
    read = []
    for value, name in enumerate(["a", second], start=1):
        latents = torch.full((3, *SHAPE), float(value))
        write(tmp_path / name, latents=latents, latents_flip=latents.clone())
        (file,) = (tmp_path / name).glob("*.safetensors")
        os.utime(file, ns=(10**18, 10**18))
        read.append(values(*bring_back({"train": tmp_path / name})))
    assert (read[0] == 1).all()
    assert (read[1] == 2).all()


def test_killed_import_continues_with_the_same_bytes(bring_back, latent_set, tmp_path, monkeypatch):
    monkeypatch.setattr(lightningdit_import, "SHARD_BYTES", 7 * 2 * 4 * 24)
    export_lightningdit(latent_set()[1], tmp_path / "in", run_locally)

    def dying(function, work):
        function(work[0])
        yield work[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bring_back({"train": tmp_path / "in"}, mapper=dying)
    folders = [bring_back({"train": tmp_path / "in"}, home)[1] for home in ("home", "undisturbed")]
    continued, undisturbed = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders)
    assert continued == undisturbed
    assert bring_back({"train": tmp_path / "in"}, mapper=None)[1] == folders[0]  # found: nothing is done


def test_content_is_what_our_export_or_the_importer_says(latent_set, bring_back, tmp_path):
    _, folder = latent_set(content="mean")
    export_lightningdit(folder, tmp_path / "out", run_locally)
    found, _ = bring_back({"train": tmp_path / "out"})
    assert found.settings["content"] == "mean"
    with pytest.raises(SpecError, match=r"out/export.json says that its latents are 'mean', not 'sample'"):
        bring_back({"train": tmp_path / "out"}, content="sample")
    (tmp_path / "out" / "export.json").unlink()  # as LightningDiT leaves a folder
    assert bring_back({"train": tmp_path / "out"})[0].settings["content"] == "sample"
    said, _ = bring_back({"train": tmp_path / "out"}, content="mean")
    assert said == found
    with pytest.raises(SpecError, match="latents are one of sample, mean, not 'posterior'"):
        bring_back({"train": tmp_path / "out"}, content="posterior")
