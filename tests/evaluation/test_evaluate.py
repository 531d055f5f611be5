"""An evaluation: right numbers, exact coverage, the same whoever does it and whatever is killed in between."""

import dataclasses
import json
import math
import multiprocessing
import os
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from transvae import Autoencoder, create_model
from transvae.tokenizers import PUBLISHED
from transvae_platform.data.making.work import run_locally
from transvae_platform.data.sets.local import LocalShelf
from transvae_platform.data.sets.samples import SampleSet
from transvae_platform.errors import UserError
from transvae_platform.evaluation import evaluate as module
from transvae_platform.evaluation import finish, measure
from transvae_platform.evaluation.evaluate import evaluate, plan_evaluation
from transvae_platform.evaluation.frechet import frechet_distance
from transvae_platform.evaluation.moments import Gaussian
from transvae_platform.evaluation.protocols import PRESETS
from transvae_platform.evaluation.records import all_records, read_record

RANDOM = {"lpips": {"weights": "random"}, "inception": {"weights": "random"}}
DETOK = dataclasses.replace(PRESETS["detok"], geometry="shorter_side_bilinear")

pytestmark = pytest.mark.usefixtures("few_features")


def planned(model_folder, pictures, protocol=DETOK, **options):
    return plan_evaluation(model_folder, pictures, protocol, model_name="ours", frozen=RANDOM, **options)


def numbers(record):
    values = dataclasses.asdict(record)
    values.pop("batch_size")
    return values


def test_numbers_are_those_of_a_plain_loop(model_folder, pictures, tmp_path):
    record = evaluate(planned(model_folder, pictures), tmp_path / "home", run_locally, batch_size=3)
    model = Autoencoder.from_pretrained(model_folder)
    samples = SampleSet(pictures.manifest, LocalShelf(Path(pictures.location)), "validation")
    x = torch.from_numpy(samples.read(np.arange(10))).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.no_grad():
        output = model.decode(model.encode(x))
    mse = (x - output.clamp(-1, 1)).double().square().mean((1, 2, 3))
    assert record.metrics["psnr"] == pytest.approx((10 * torch.log10(4 / mse)).mean().item(), abs=1e-5)
    extractor = measure.load_inception()
    features = [extractor((v * 127.5 + 127.5).round().clamp(0, 255)).double().numpy() for v in (x, output)]
    expected = frechet_distance(*(Gaussian(10, f.mean(0), np.cov(f, rowvar=False)) for f in features))
    assert record.metrics["rfid_random"] == pytest.approx(expected, abs=1e-6)
    assert set(record.metrics) == {"psnr", "rfid_random"}
    assert record.n == 10
    assert record.model["weights_sha256"]
    assert record.networks["inception"]["weights"] == "random"
    assert record.protocol["originals"] == "8-bit levels, rounded once after the resize"
    assert record.lineage.keys() >= {"scipy", "torch-fidelity", "torch"}
    assert not record.lineage.keys() & {"lpips", "diffusers"}  # nothing of them was used
    assert (record.lineage["device"], record.data["enlarged"]) == ("cpu", False)
    assert "L' S2 L" in record.lineage["solver"]


def test_rows_are_in_the_order_of_the_data_set(model_folder, pictures, tmp_path):
    record = evaluate(planned(model_folder, pictures), tmp_path / "home", run_locally)
    folder = tmp_path / "home" / "evaluations" / record.key
    table = pq.read_table(folder / "images.parquet")
    assert table.column("item").to_pylist() == [row // 2 for row in range(10)]
    assert table.column("view").to_pylist() == [row % 2 for row in range(10)]
    assert math.fsum(table.column("psnr").to_pylist()) / 10 == record.metrics["psnr"]
    assert {path.name for path in folder.iterdir()} == {"images.parquet", "pictures.png", "record.json"}
    with Image.open(folder / "pictures.png") as grid:
        assert grid.size == (4 * 16, 2 * 16)
    assert json.loads((folder / "record.json").read_text())["n"] == 10
    assert all_records(tmp_path / "home") == [record] == [read_record(folder)]


@pytest.mark.parametrize("latent", ["mean", "sample"])
def test_a_killed_evaluation_continues_to_the_same_numbers(model_folder, pictures, tmp_path, monkeypatch, latent):
    plan = planned(model_folder, pictures, dataclasses.replace(DETOK, latent=latent))
    whole = evaluate(plan, tmp_path / "one", run_locally, batch_size=4)
    measured = []

    def dies(work, after=2):
        if len(measured) == after:
            raise KeyboardInterrupt
        measured.append(work["result"])
        measure.measure_shard(work)

    monkeypatch.setattr(module, "measure_shard", dies)
    with pytest.raises(KeyboardInterrupt):
        evaluate(plan, tmp_path / "two", run_locally, batch_size=4)
    assert not all_records(tmp_path / "two")
    monkeypatch.setattr(module, "measure_shard", lambda work: dies(work, after=9))
    seen = []
    again = evaluate(plan, tmp_path / "two", run_locally, batch_size=4, listen=lambda *n: seen.append(n))
    assert numbers(again) == numbers(whole)
    assert len(measured) == len(set(measured)) == 3  # no shard twice
    assert seen == [(8, 10), (10, 10)]
    assert [path.name for path in (tmp_path / "two" / "data").iterdir()] == []


def test_neither_order_nor_batches_decide_the_numbers(model_folder, pictures, tmp_path):
    plan = planned(model_folder, pictures, dataclasses.replace(DETOK, latent="sample"))
    one = evaluate(plan, tmp_path / "one", run_locally, batch_size=1)
    two = evaluate(plan, tmp_path / "two", lambda f, work: run_locally(f, work[::-1]), batch_size=4)
    assert two.metrics == pytest.approx(one.metrics, abs=1e-5)
    other = evaluate(planned(model_folder, pictures, plan.protocol, seed=1), tmp_path / "one", run_locally)
    assert other.metrics["psnr"] != one.metrics["psnr"]


def test_what_is_done_is_found(model_folder, pictures, tmp_path):
    plan = planned(model_folder, pictures)
    first = evaluate(plan, tmp_path, run_locally)
    assert evaluate(plan, tmp_path, lambda *_: pytest.fail("measured again")) == first
    (tmp_path / "evaluations" / first.key / "record.json").write_text("{")
    assert evaluate(plan, tmp_path, run_locally) == first


def test_features_of_originals_are_computed_once(model_folder, pictures, tmp_path, monkeypatch):
    counted = []
    extractor = measure.load_inception()
    monkeypatch.setattr(measure, "load_inception", lambda *_: extractor)
    monkeypatch.setattr(type(extractor), "forward", counting(type(extractor).forward, counted))
    alone = evaluate(planned(model_folder, pictures), tmp_path, run_locally)
    assert sum(counted) == 20
    other = evaluate(
        planned(model_folder, pictures, dataclasses.replace(DETOK, latent="sample")), tmp_path, run_locally
    )
    assert sum(counted) == 30
    assert other.metrics["rfid_random"] != alone.metrics["rfid_random"]


def test_another_evaluation_leaves_an_unfinished_one_alone(model_folder, pictures, tmp_path):
    sampled = dataclasses.replace(DETOK, latent="sample")
    interrupted(planned(model_folder, pictures, sampled), tmp_path)
    evaluate(planned(model_folder, pictures, sampled, seed=1), tmp_path, run_locally)
    seen = []
    plan = planned(model_folder, pictures, sampled)
    evaluate(plan, tmp_path, run_locally, batch_size=4, listen=lambda *n: seen.append(n))
    assert seen[0] == (4, 10)


def interrupted(plan, home):
    """An evaluation that ends after its first shard."""

    def first_shard(function, work):
        yield from run_locally(function, work[:1])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(plan, home, first_shard, batch_size=4)


@pytest.mark.parametrize("harm", ["removed", "another mean", "no number"])
def test_kept_moments_that_were_harmed_are_made_again(model_folder, pictures, tmp_path, harm):
    plan = planned(model_folder, pictures)
    whole = evaluate(plan, tmp_path, run_locally, batch_size=4)
    shutil.rmtree(tmp_path / "evaluations" / plan.key)
    interrupted(plan, tmp_path)  # its piece relies on the kept moments
    (kept,) = (tmp_path / "evaluations" / "reference").iterdir()
    sound = kept.read_bytes()
    arrays = load_file(kept)
    with safe_open(kept, "numpy") as file:
        metadata = file.metadata()
    kept.unlink()
    if harm != "removed":
        arrays["mean"][0] += 1 if harm == "another mean" else math.nan
        save_file(arrays, kept, metadata)
    assert numbers(evaluate(plan, tmp_path, run_locally, batch_size=4)) == numbers(whole)
    assert kept.read_bytes() == sound


def counting(forward, counted):
    def counts(self, levels):
        counted.append(len(levels))
        return forward(self, levels)

    return counts


def test_outputs_that_are_no_numbers_fail_by_name(model_folder, pictures, tmp_path):
    weights = model_folder / "model.safetensors"
    state = load_file(weights)
    key = next(key for key in state if key.startswith("decoder"))
    state[key].view(-1)[0] = math.nan
    save_file(state, weights)
    with pytest.raises(UserError, match=r"ours: 10 of 10 outputs are not finite, the first that of item 0, view 0"):
        evaluate(planned(model_folder, pictures), tmp_path, run_locally)
    assert not all_records(tmp_path)


def test_finite_outputs_that_overflow_a_metric_fail_by_name():
    plan = SimpleNamespace(protocol=DETOK, model={"name": "ours"}, data=SimpleNamespace(location="/d"))
    values = {"psnr": [9.0, 8.0, 7.0], "lpips": [0.1, math.nan, math.nan]}
    with pytest.raises(
        UserError, match=r"ours: lpips of 2 images is no number, the first that of item 0, view 1, of /d"
    ):
        finish._means(plan, pa.table({"item": [0, 0, 1], "view": [0, 1, 0], **values}))


def test_images_that_came_twice_or_not_at_all_are_noticed(model_folder, pictures, tmp_path):
    plan = planned(model_folder, pictures)

    def twice(function, work):
        yield from run_locally(function, work)
        Path(work[1]["values"]).write_bytes(Path(work[0]["values"]).read_bytes())

    with pytest.raises(UserError, match="10 images were measured, 6 different ones, of 10"):
        evaluate(plan, tmp_path, twice)


def test_all_that_decides_the_numbers_is_in_the_key(model_folder, pictures, tmp_path):
    keys = {planned(model_folder, pictures).key}
    keys.add(planned(model_folder, pictures, dataclasses.replace(DETOK, psnr="levels")).key)
    sampled = dataclasses.replace(DETOK, latent="sample")
    keys |= {planned(model_folder, pictures, sampled, seed=seed).key for seed in (0, 1)}
    assert len(keys) == 4
    assert planned(model_folder, pictures, seed=5).key in keys  # of the mean: nothing is drawn
    torch.manual_seed(1)
    Autoencoder(Autoencoder.from_pretrained(model_folder).config).save_pretrained(model_folder)
    assert planned(model_folder, pictures).key not in keys


def test_published_files_are_known_by_name_or_sha256(model_folder, pictures, monkeypatch):
    plain = planned(model_folder, pictures)
    named = planned(model_folder, pictures, published="va-vae")
    assert "published" not in plain.model
    assert (named.model["title"], named.model["published"]) == ("VA-VAE", "va-vae")
    assert named.key != plain.key
    known = dataclasses.replace(PUBLISHED["va-vae"], sha256=plain.model["weights_sha256"])
    monkeypatch.setitem(PUBLISHED, "va-vae", known)
    assert planned(model_folder, pictures) == named


def test_what_cannot_be_evaluated_is_told_before_any_work(model_folder, pictures, tmp_path):
    with pytest.raises(UserError, match="no train images - take --split validation"):
        planned(model_folder, pictures, split="train")
    latents = dataclasses.replace(pictures, manifest=dataclasses.replace(pictures.manifest, kind="latents"))
    with pytest.raises(UserError, match="evaluated on images"):
        planned(model_folder, latents)
    (model_folder / "config.json").unlink()
    with pytest.raises(UserError, match=r"config.json cannot be read"):
        planned(model_folder, pictures)


def test_more_images_than_are_summed_exactly_are_refused_before_any_work(model_folder, pictures, monkeypatch):
    monkeypatch.setattr(module, "MOST_FEATURES", 9)
    with pytest.raises(UserError, match=r"has 10 validation images, the sums of FID are exact up to 9 - ingest a part"):
        planned(model_folder, pictures)


def test_features_beyond_the_sums_are_one_error(model_folder, pictures, tmp_path, monkeypatch):
    extractor = measure.load_inception()
    monkeypatch.setattr(measure, "load_inception", lambda *_: extractor)
    monkeypatch.setattr(type(extractor), "forward", lambda self, levels: torch.full((len(levels), 8), 65.0))
    with pytest.raises(UserError, match=r"ours: no FID, features must be finite and below 64.* no record was written"):
        evaluate(planned(model_folder, pictures), tmp_path, run_locally)


def test_images_too_small_for_lpips_are_refused_before_any_work(model_folder, pictures):
    with pytest.raises(UserError, match=r"protocol dcae on .* takes images of 31 pixels or more, not 16"):
        planned(model_folder, pictures, PRESETS["dcae"])
    assert planned(model_folder, pictures, PRESETS["vavae"]).key  # VGG's smallest is 16


def test_records_tell_draws_of_the_held_out_images_apart(model_folder, pictures):
    def drawn(**settings):
        manifest = dataclasses.replace(pictures.manifest, settings={**pictures.manifest.settings, **settings})
        return finish._described(planned(model_folder, dataclasses.replace(pictures, manifest=manifest)))["drawn"]

    assert len({drawn(), drawn(seed=1), drawn(holdout=0.2)}) == 3
    assert drawn() == drawn()


def test_images_of_another_geometry_make_another_protocol(model_folder, pictures):
    plan = planned(model_folder, pictures, PRESETS["detok"])
    assert plan.protocol.name == "detok on shorter_side_bilinear"
    assert plan.protocol.identity != PRESETS["detok"].identity


def test_few_images_are_warned_of_and_n_is_there(model_folder, pictures, tmp_path, monkeypatch):
    record = evaluate(planned(model_folder, pictures), tmp_path / "a", run_locally)
    assert record.warnings == ()
    monkeypatch.setattr(finish, "too_few", lambda count, dimension: f"n = {count} is few")
    assert evaluate(planned(model_folder, pictures), tmp_path / "b", run_locally).warnings == ("n = 10 is few",)


@pytest.mark.fault
def test_a_process_that_was_killed_is_continued(model_folder, pictures, tmp_path):
    plan = planned(model_folder, pictures)
    whole = evaluate(plan, tmp_path / "one", run_locally, batch_size=4)

    def killed_after_a_shard(done, total):
        if done >= 4:
            os.kill(os.getpid(), signal.SIGKILL)

    child = multiprocessing.get_context("fork").Process(
        target=evaluate,
        args=(plan, tmp_path / "two", run_locally),
        kwargs={"batch_size": 4, "listen": killed_after_a_shard},
    )
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL
    seen = []
    again = evaluate(plan, tmp_path / "two", run_locally, batch_size=4, listen=lambda *n: seen.append(n))
    assert seen[0] == (4, 10)
    assert numbers(again) == numbers(whole)


@pytest.mark.parametrize(("identical", "mean"), [("infinite", math.inf), ("left out", 30.0)])
def test_images_without_error_count_as_the_protocol_says(identical, mean):
    plan = SimpleNamespace(protocol=dataclasses.replace(DETOK, identical=identical))
    table = pa.table({"item": [0, 1, 2], "view": [0, 0, 0], "psnr": [20.0, math.inf, 40.0], "ssim": [0.5, 1.0, 0.9]})
    means, perfect = finish._means(plan, table)
    assert means == {"psnr": mean, "ssim": pytest.approx(0.8)}
    assert perfect == 1


def test_a_model_without_pixels_is_refused_in_one_sentence(pictures, tmp_path):
    create_model("s-vae-micro-T/f8d16").save_pretrained(tmp_path / "s-vae")
    with pytest.raises(UserError, match=r"^evaluate: ours \(s-vae-micro-T/f8d16\) has no pixels: there is no reconst"):
        planned(tmp_path / "s-vae", pictures)


PIECES = ("values-", "features-", "sums-", "result-")


@pytest.mark.parametrize("after", [1, 3, 6, 10])
def test_a_process_that_was_killed_while_it_tidied_up_is_continued(
    model_folder, pictures, tmp_path, monkeypatch, after
):
    plan, unlink, gone = planned(model_folder, pictures), Path.unlink, []
    whole = evaluate(plan, tmp_path / "one", run_locally, batch_size=4)

    def dies(self, missing_ok=False):
        if self.name.startswith(PIECES) and self.exists():
            if len(gone) == after:
                raise KeyboardInterrupt
            gone.append(self.name)
        unlink(self, missing_ok=missing_ok)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", dies)
        with pytest.raises(KeyboardInterrupt):
            evaluate(plan, tmp_path / "two", run_locally, batch_size=4)
    (folder,) = (path for path in (tmp_path / "two" / "data").iterdir() if path.is_dir())
    (folder / ".features-00000.part-1.safetensors").touch()  # of a process that was killed earlier
    measured = []

    def counted(function, work):
        measured.extend(work)
        return run_locally(function, work)

    assert numbers(evaluate(plan, tmp_path / "two", counted, batch_size=4)) == numbers(whole)
    assert not measured
    final = tmp_path / "two" / "evaluations" / plan.key
    assert {path.name for path in final.iterdir()} == {"images.parquet", "pictures.png", "record.json"}


@pytest.mark.parametrize("name", ["values-00000.parquet", "features-00000.safetensors"])
def test_pieces_whose_files_are_damaged_are_done_again(model_folder, pictures, tmp_path, name):
    plan = planned(model_folder, pictures)
    whole = evaluate(plan, tmp_path / "one", run_locally, batch_size=4)
    interrupted(plan, tmp_path / "two")
    (file,) = (tmp_path / "two" / "data").glob(f"*/{name}")
    file.write_bytes(file.read_bytes()[:-9])
    assert numbers(evaluate(plan, tmp_path / "two", run_locally, batch_size=4)) == numbers(whole)


def test_an_evaluation_that_was_continued_elsewhere_names_both_devices(model_folder, pictures, tmp_path):
    plan = planned(model_folder, pictures)
    interrupted(plan, tmp_path)
    record = evaluate(plan, tmp_path, run_locally, batch_size=4, device="cpu:0")
    assert record.lineage["device"] == "cpu, cpu:0"


def test_larger_images_come_in_smaller_batches_with_as_many_pictures(model_folder, pictures, tmp_path, monkeypatch):
    assert [module.images_at_once(16, px) for px in (32, 256, 384, 512, 1024, 2048)] == [16, 16, 7, 4, 1, 1]
    monkeypatch.setattr(module, "WHOLE", 8)  # a quarter of the pictures' pixels
    record = evaluate(planned(model_folder, pictures), tmp_path, run_locally, batch_size=4)
    assert record.batch_size == 1
    with Image.open(tmp_path / "evaluations" / record.key / "pictures.png") as grid:
        assert grid.size == (4 * 16, 2 * 16)


def test_a_device_without_room_is_one_error_with_the_way_out(model_folder, pictures, tmp_path, monkeypatch):
    def full(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(measure, "reconstruct", full)
    with pytest.raises(UserError, match=r"memory of cpu does not suffice for 4 images at a time - lower --batch-size"):
        evaluate(planned(model_folder, pictures), tmp_path, run_locally, batch_size=4)


def test_fid_of_an_unverified_inception_is_called_so(model_folder, pictures):
    plan = planned(model_folder, pictures)
    made = {"inception": {**plan.networks["inception"], "weights": "unverified"}}
    assert finish._rfid(dataclasses.replace(plan, networks=made)) == "rfid_unverified"
    assert finish._rfid(plan) == "rfid_random"
