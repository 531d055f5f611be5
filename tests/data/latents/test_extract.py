"""Latents of an image data set: right values, the same whoever makes them, whatever is killed in between."""

import dataclasses
import multiprocessing
import os
import signal
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from transvae import Autoencoder, create_model
from transvae.torchvision_cpu import ensure_torchvision
from transvae_platform.data.latents import encode
from transvae_platform.data.latents.channels import channel_statistics, channel_sums, to_float32, to_stored
from transvae_platform.data.latents.encode import model_identity
from transvae_platform.data.latents.extract import extract_latents, plan_extraction
from transvae_platform.data.making.verify import find_damage
from transvae_platform.data.making.work import run_locally
from transvae_platform.data.sets.local import LocalShelf
from transvae_platform.data.sets.manifest import Manifest, Quarantined, write_manifest
from transvae_platform.data.sets.samples import SampleSet
from transvae_platform.data.sets.shards import ShardFile, image_field, write_shard
from transvae_platform.data.sets.transfer import copy_set
from transvae_platform.data.stream.hashing import Purpose, keys
from transvae_platform.data.stream.noise import normal_noise
from transvae_platform.errors import SpecError, UserError

SIDE, PER_SHARD = 16, 5
SHARDS = ("validation", "train", "train")
TOLERANCE = 1e-5  # of float32 latents of about 1, for kernels that add in another order


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    create_model("vit-micro-T/f8d8").save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> tuple[Manifest, Path]:
    """Two views of each item; the first shard has no captions."""
    folder = tmp_path_factory.mktemp("images")
    pixels = np.random.default_rng(0).integers(0, 256, (15, SIDE, SIDE, 3), np.uint8)
    shards = []
    for number, split in enumerate(SHARDS):
        rows = np.arange(number * PER_SHARD, (number + 1) * PER_SHARD)
        columns = {
            "item": pa.array(rows // 2, pa.int64()),
            "view": pa.array(rows % 2, pa.int32()),
            "sha256": pa.array([bytes([row // 2] * 32) for row in rows.tolist()], pa.binary(32)),
            "label": pa.array(rows % 3, pa.int32()),
        }
        if number:
            columns["caption"] = pa.array([f"caption {row}" if row % 2 else None for row in rows.tolist()])
        shards.append(
            write_shard(folder / f"{split}-{number:05d}.arrow", split, {image_field(SIDE): pixels[rows]}, columns)
        )
    manifest = Manifest(
        fingerprint="a" * 16, kind="images", fields=(image_field(SIDE),), items=9, shards=tuple(shards),
        quarantined=(Quarantined("bad.png", "train", "the file is empty"),),
        settings={"resolution": SIDE}, source={"classes": ["a", "b", "c"]}, versions={},
    )  # fmt: skip
    write_manifest(folder, manifest)
    return manifest, folder


def latents_of(images: Manifest, location, model: Path, home: Path, mapper, **options) -> Manifest:
    """Planned and made."""
    how = {key: options.pop(key) for key in ("batch_size", "device", "listen") if key in options}
    return extract_latents(plan_extraction(images, location, model, **options), home, mapper, **how)


@pytest.fixture
def extract(images, model_folder, tmp_path):
    def make(home="home", mapper=run_locally, **options) -> tuple[Manifest, Path]:
        options = {"model_name": "tiny", "dtype": "float32", "batch_size": 4, **options}
        manifest = latents_of(*images, model_folder, tmp_path / home, mapper, **options)
        return manifest, tmp_path / home / "data" / manifest.fingerprint

    return make


def read(manifest: Manifest, folder: Path, field: str, split: str = "train") -> np.ndarray:
    samples = SampleSet(manifest, LocalShelf(folder), split)
    return samples.read(np.arange(len(samples)), field)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_means_are_those_of_the_images_and_of_their_mirror_images(extract, images, model_folder):
    manifest, folder = extract(content="mean")
    pixels = torch.from_numpy(read(*images, "image")).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.no_grad():
        model = Autoencoder.from_pretrained(model_folder)
        expected, flipped = model.encode(pixels), model.encode(pixels.flip(3))
    np.testing.assert_allclose(read(manifest, folder, "latent"), expected.numpy(), atol=TOLERANCE)
    np.testing.assert_allclose(read(manifest, folder, "latent_flip"), flipped.numpy(), atol=TOLERANCE)


def test_samples_are_mean_plus_noise_of_the_posterior(extract, images):
    posterior, folder = extract(content="posterior")
    mean, logvar = np.split(read(posterior, folder, "latent"), 2, axis=1)
    flip_mean, flip_logvar = np.split(read(posterior, folder, "latent_flip"), 2, axis=1)
    manifest, folder = extract(seed=3)
    train = [ShardFile(folder / shard.file) for shard in manifest.shards if shard.split == "train"]
    items, views = (np.concatenate([file.column(name).to_numpy() for file in train]) for name in ("item", "view"))
    owners = [keys(Purpose.LATENT, 3, items, views.astype(np.int64), np.full_like(items, side)) for side in (0, 1)]
    noise = [normal_noise(torch.from_numpy(owner), mean.shape[1:]).numpy() for owner in owners]
    found = read(manifest, folder, "latent"), read(manifest, folder, "latent_flip")
    np.testing.assert_allclose(found[0], mean + np.exp(logvar / 2) * noise[0], atol=TOLERANCE)
    np.testing.assert_allclose(found[1], flip_mean + np.exp(flip_logvar / 2) * noise[1], atol=TOLERANCE)


def test_records_stand_where_their_images_stand(extract, images):
    manifest, folder = extract()
    assert [(s.file, s.split, s.records) for s in manifest.shards] == [
        (s.file, s.split, s.records) for s in images[0].shards
    ]
    for shard in manifest.shards:
        latents, pictures = ShardFile(folder / shard.file), ShardFile(images[1] / shard.file)
        for name in ("item", "view", "sha256", "label", "caption"):
            assert latents.column(name) == pictures.column(name)
    assert (manifest.items, manifest.quarantined, manifest.source) == (9, images[0].quarantined, images[0].source)
    assert find_damage(str(folder), manifest) == []


def test_settings_say_of_what_and_by_whom(extract, model_folder):
    manifest, _ = extract(seed=5)
    assert manifest.kind == "latents"
    assert manifest.resolution == SIDE
    assert [(field.name, field.shape, field.dtype) for field in manifest.fields] == [
        ("latent", (8, 2, 2), "float32"), ("latent_flip", (8, 2, 2), "float32"),
    ]  # fmt: skip
    assert manifest.settings == {
        "resolution": SIDE, "data": "a" * 16, "content": "sample", "dtype": "float32", "seed": 5,
        "model": model_identity(model_folder, "tiny"),
    }  # fmt: skip


def test_whatever_decides_the_latents_decides_the_fingerprint(extract, images, model_folder, tmp_path):
    torch.manual_seed(1)
    create_model("vit-micro-T/f8d8").save_pretrained(tmp_path / "other")
    others = [extract(), extract(seed=1), extract(content="mean"), extract(dtype="bfloat16")]
    other_model = latents_of(*images, tmp_path / "other", tmp_path / "home", run_locally, model_name="tiny",
                                  dtype="float32")  # fmt: skip
    assert len({manifest.fingerprint for manifest, _ in others} | {other_model.fingerprint}) == 5
    assert extract(content="mean", seed=9)[0] == others[2][0]  # means have no noise
    assert extract(model_name="/abs/tiny")[0] == others[0][0]  # the same weights, spelt otherwise


@pytest.mark.parametrize("content", ["sample", "mean"])
def test_other_batch_sizes_give_the_same_up_to_rounding_in_the_network(extract, content):
    one, other = extract(content=content), extract("other", content=content, batch_size=3)
    assert one[0].fingerprint == other[0].fingerprint
    for field in ("latent", "latent_flip"):
        np.testing.assert_allclose(read(*one, field), read(*other, field), atol=TOLERANCE)


def test_bfloat16_and_float16_are_the_rounded_float32(extract):
    exact = torch.from_numpy(read(*extract(content="mean"), "latent"))
    half = read(*extract(content="mean", dtype="float16"), "latent")
    brain = read(*extract(content="mean", dtype="bfloat16"), "latent")
    assert half.dtype == np.float16
    assert (half == exact.half().numpy()).all()
    assert brain.dtype == np.uint16
    assert (to_float32(brain, "bfloat16") == exact.bfloat16().float().numpy()).all()


@pytest.mark.parametrize("content", ["sample", "mean"])
def test_statistics_are_of_the_straight_training_latents(extract, content):
    manifest, folder = extract(content=content)
    latents = torch.from_numpy(read(manifest, folder, "latent")).double()
    np.testing.assert_allclose(manifest.statistics["mean"], latents.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(manifest.statistics["std"], latents.std((0, 2, 3)), rtol=1e-9)


def test_statistics_of_posteriors_are_those_of_their_samples():
    random = np.random.default_rng(0)
    mean, logvar = random.normal(2, 0.5, (4000, 3, 2, 2)), random.normal(-1, 0.3, (4000, 3, 2, 2))
    samples = mean + np.exp(logvar / 2) * random.normal(size=mean.shape)
    found = channel_statistics([channel_sums(np.concatenate([mean, logvar], 1).astype(np.float32), "posterior")])
    np.testing.assert_allclose(found["mean"], samples.mean((0, 2, 3)), atol=0.03)
    np.testing.assert_allclose(found["std"], samples.std((0, 2, 3)), atol=0.03)


def dying_after(pieces):
    """A mapper whose process ends after so many pieces of work."""

    def mapper(function, work):
        for number, piece in enumerate(work):
            if number == pieces:
                raise KeyboardInterrupt
            function(piece)
            yield piece

    return mapper


@pytest.mark.parametrize("pieces", [1, 2])
def test_killed_extraction_continues_with_the_same_bytes(extract, pieces):
    _, undisturbed = extract("undisturbed")
    calls = []

    def counting(function, work):
        calls.extend(work)
        return run_locally(function, work)

    with pytest.raises(KeyboardInterrupt):
        extract(mapper=dying_after(pieces))
    assert not list((undisturbed.parents[2] / "home" / "data").glob("*/manifest.json"))
    _, continued = extract(mapper=counting)
    assert len(calls) == len(SHARDS) - pieces
    assert contents(continued) == contents(undisturbed)


def test_no_latents_are_of_two_batch_sizes(extract, tmp_path):
    _, undisturbed = extract("undisturbed", batch_size=4)
    with pytest.raises(KeyboardInterrupt):
        extract(mapper=dying_after(2), batch_size=2)
    calls = []

    def counting(function, work):
        calls.extend(work)
        return run_locally(function, work)

    _, made = extract(mapper=counting, batch_size=4)
    assert len(calls) == len(SHARDS)
    assert contents(made) == contents(undisturbed)
    assert not list((tmp_path / "home" / "data").glob(".making-*"))


def test_piece_that_could_not_finish_its_shard_is_done_again(extract, monkeypatch):
    _, undisturbed = extract("undisturbed")
    with monkeypatch.context() as patch:
        patch.setattr(encode, "write_result", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            extract()
    assert contents(extract()[1]) == contents(undisturbed)


def _killed_after_one_piece(images, model_folder, home) -> None:
    def mapper(function, work):
        function(work[0])
        os.kill(os.getpid(), signal.SIGKILL)
        yield work[0]

    latents_of(*images, model_folder, home, mapper, model_name="tiny", dtype="float32", batch_size=4)


@pytest.mark.fault
def test_process_killed_by_the_system(extract, images, model_folder, tmp_path):
    process = multiprocessing.get_context("fork").Process(
        target=_killed_after_one_piece, args=(images, model_folder, tmp_path / "home")
    )
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    assert contents(extract()[1]) == contents(extract("undisturbed")[1])


def test_two_at_once_make_it_once(extract):
    calls, made = [], []

    def counting(function, work):
        calls.append(len(work))
        return run_locally(function, work)

    threads = [threading.Thread(target=lambda: made.append(extract(mapper=counting)[0])) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert calls == [len(SHARDS)]
    assert made[0] == made[1]


def test_listener_hears_of_every_image(extract):
    heard = []
    extract(listen=lambda done, total: heard.append((done, total)))
    assert heard == [(0, 15), (5, 15), (10, 15), (15, 15)]


def test_model_is_loaded_once_per_process(extract, monkeypatch):
    encode._load_model.cache_clear()
    loaded = []
    original = Autoencoder.from_pretrained
    monkeypatch.setattr(Autoencoder, "from_pretrained", lambda *given: loaded.append(given) or original(*given))
    extract()
    assert len(loaded) == 1


def test_images_on_a_store_give_the_same_latents(extract, images, model_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("TRANSVAE_CACHE", str(tmp_path / "cache"))
    location = f"memory://{tmp_path.name}/images"
    list(copy_set(images[1], images[0], location))
    local, folder = extract()
    far = latents_of(images[0], location, model_folder, tmp_path / "other", run_locally, model_name="tiny",
                          dtype="float32", batch_size=4)  # fmt: skip
    assert far == local
    for shard in far.shards:
        assert (folder / shard.file).read_bytes() == (
            tmp_path / "other/data" / far.fingerprint / shard.file
        ).read_bytes()


def test_damaged_or_missing_images_are_refused_by_name(extract, images, tmp_path, model_folder):
    manifest, folder = images
    bad = tmp_path / "bad"
    bad.mkdir()
    for path in folder.iterdir():
        (bad / path.name).write_bytes(path.read_bytes())
    (bad / "train-00001.arrow").write_bytes(b"x" + (folder / "train-00001.arrow").read_bytes()[1:])
    with pytest.raises(UserError, match=r"train-00001.arrow is damaged"):
        latents_of(manifest, bad, model_folder, tmp_path / "home", run_locally, model_name="tiny")
    (bad / "train-00001.arrow").unlink()
    with pytest.raises(UserError, match=r"train-00001.arrow cannot be read"):
        latents_of(manifest, bad, model_folder, tmp_path / "home", run_locally, model_name="tiny")


def test_model_that_changed_on_the_way_is_refused(extract, images, model_folder, tmp_path):
    changed = tmp_path / "model"
    Autoencoder.from_pretrained(model_folder).save_pretrained(changed)

    def late(function, work):
        torch.manual_seed(7)
        create_model("vit-micro-T/f8d8").save_pretrained(changed)
        return run_locally(function, work)

    with pytest.raises(UserError, match="is not the model that tiny was"):
        latents_of(*images, changed, tmp_path / "home", late, model_name="tiny")


def test_unknown_contents_and_types_are_refused(extract):
    with pytest.raises(SpecError, match="content is one of"):
        extract(content="mode")
    with pytest.raises(SpecError, match="dtype one of"):
        extract(dtype="float64")


def test_latents_are_made_of_images_only(extract, model_folder, tmp_path):
    latents, folder = extract()
    with pytest.raises(UserError, match="holds latents"):
        latents_of(latents, folder, model_folder, tmp_path / "home", run_locally, model_name="tiny")


def test_images_that_do_not_divide_are_refused(images, model_folder, tmp_path):
    manifest = dataclasses.replace(images[0], settings={"resolution": 20})
    with pytest.raises(UserError, match="20 pixels do not divide by the model's f=8"):
        latents_of(manifest, images[1], model_folder, tmp_path / "home", run_locally, model_name="tiny")


def test_folder_without_a_usable_model_is_refused(images, model_folder, tmp_path):
    with pytest.raises(UserError, match="holds no model"):
        latents_of(*images, tmp_path, tmp_path / "home", run_locally, model_name="none")
    damaged = tmp_path / "damaged"
    Autoencoder.from_pretrained(model_folder).save_pretrained(damaged)
    (damaged / "model.safetensors").write_bytes(b"half")
    with pytest.raises(UserError, match="holds no usable model"):
        latents_of(*images, damaged, tmp_path / "home", run_locally, model_name="none")


def test_latents_out_of_range_are_refused(images, model_folder, tmp_path):
    model = Autoencoder.from_pretrained(model_folder)
    with torch.no_grad():
        model.encoder.moments.bias[0] = 1e6
    model.save_pretrained(tmp_path / "far")
    with pytest.raises(UserError, match=r"latents of far for .*: values are not finite in float16 - use bfloat16"):
        latents_of(*images, tmp_path / "far", tmp_path / "home", run_locally, model_name="far")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_missing_gpu_is_named(extract):
    with pytest.raises(UserError, match="sees no GPU"):
        extract(device="cuda")


@pytest.mark.gpu
def test_gpu_gives_the_latents_of_the_cpu(extract):
    for content in ("mean", "sample"):
        cpu, gpu = extract(content=content), extract("gpu", content=content, device="cuda")
        for field in ("latent", "latent_flip"):  # convolutions may use TF32, which has 10 bits
            np.testing.assert_allclose(read(*cpu, field), read(*gpu, field), atol=1e-2)


def test_rounding_to_storage_keeps_range_and_refuses_the_rest():
    for dtype in ("float16", "bfloat16", "float32"):
        values = torch.tensor([0.0, -0.0, 1.5, -3.25])
        assert (to_float32(to_stored(values, dtype), dtype) == values.numpy()).all()
    with pytest.raises(ValueError, match="float16"):
        to_stored(torch.tensor([70000.0]), "float16")
    with pytest.raises(ValueError, match="float32"):
        to_stored(torch.tensor([float("nan")]), "float32")


def test_latents_of_another_tokenizer(images, tmp_path):
    ensure_torchvision()
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    network = diffusers.AutoencoderKL(
        block_out_channels=(8, 8, 8, 8), down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4, latent_channels=16, norm_num_groups=4, use_quant_conv=False,
        use_post_quant_conv=False,
    )  # fmt: skip
    network.save_pretrained(tmp_path / "vae")
    manifest, folder = images
    plan = plan_extraction(manifest, folder, tmp_path / "vae", model_name="sd3.5", content="mean", dtype="float32")
    made = extract_latents(plan, tmp_path, run_locally)
    assert made.fields[0].shape == (16, SIDE // 8, SIDE // 8)
    shard = made.shards[1]
    pixels = ShardFile(folder / manifest.shards[1].file).array("image")
    with torch.no_grad():
        x = torch.from_numpy(pixels.copy()).permute(0, 3, 1, 2) / 127.5 - 1
        expected = network.eval().encode(x).latent_dist.mean
    stored = torch.from_numpy(ShardFile(tmp_path / "data" / made.fingerprint / shard.file).array("latent").copy())
    torch.testing.assert_close(stored, expected, atol=TOLERANCE, rtol=TOLERANCE)


@pytest.mark.parametrize("name", ["s-vae-micro-T/f8d16", "ps-vae-micro-T/f8d16", "rae-micro-T/f8d32"])
def test_latents_of_models_on_a_vision_network(name, images, tmp_path):
    """They are stored as any model's, S-VAE's too, which has no pixels, and RAE's, which are the features."""
    model = create_model(name).eval()
    model.save_pretrained(tmp_path / "model")
    options = {"model_name": name, "dtype": "float32", "content": "posterior"}
    made = latents_of(*images, tmp_path / "model", tmp_path / "home", run_locally, **options)
    stored = read(made, tmp_path / "home" / "data" / made.fingerprint, "latent")
    pixels = torch.from_numpy(read(*images, "image")).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.no_grad():
        posterior = model.posterior(pixels)
    expected = torch.cat([posterior.mean, posterior.logvar], 1)
    np.testing.assert_allclose(stored, expected.numpy(), atol=TOLERANCE)
    assert made.settings["model"]["name"] == name
