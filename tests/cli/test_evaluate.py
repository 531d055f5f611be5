"""`transvae evaluate` and `transvae tables` as a user types them, with the work done in this process."""

import dataclasses
import re

import pytest
import torch
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from torch import Tensor

from transvae import create_model
from transvae.losses.frozen import Frozen, Origin
from transvae.losses.hubs import TorchHub
from transvae.losses.perceptual import TRUNKS
from transvae.tokenizers.files import file_sha256
from transvae_platform.cluster import jobs
from transvae_platform.evaluation import finish, measure
from transvae_platform.evaluation.records import all_records
from transvae_platform.tracking.server import connect


class Means(Frozen):
    """Three numbers of each picture in place of Inception's features, which would take a second per picture."""

    def __init__(self) -> None:
        super().__init__(Origin("means", "random", seed=0))

    def forward(self, levels_B3HW: Tensor) -> Tensor:
        return levels_B3HW.float().mean((2, 3)) / 255


@pytest.fixture
def evaluate(transvae, made, tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "load_inception", lambda *arguments: Means())
    monkeypatch.setattr(finish, "DIMENSION", 3)
    torch.manual_seed(0)
    create_model("vit-micro-T/f8d8").save_pretrained(tmp_path / "model")
    return lambda *arguments: transvae("evaluate", tmp_path / "model", "--data", "mine", *arguments)


def test_evaluate_says_what_it_measured_and_the_table_shows_it(evaluate, transvae, tmp_path):
    answer = evaluate("--preset", "detok", "--preset", "dcae", "--random-networks")
    assert answer.code == 0, answer.err
    assert "on mine (validation, 64 x 64), protocol detok on shorter_side" in answer.out
    assert "n = 2: psnr " in answer.out
    assert re.search(r"psnr \d+\.\d\d dB, ssim 0\.\d+, lpips_random \d\.\d+, rfid_random ", answer.out)
    assert "warning: n = 2: the covariance of 3 features needs more than 3 images" in answer.out
    assert "evaluating: 2 of 2" in answer.err
    assert [record.protocol["name"] for record in all_records(tmp_path / "home")] == [
        "dcae on shorter_side", "detok on shorter_side",
    ]  # fmt: skip
    tables = transvae("tables")
    assert tables.code == 0, tables.err
    pages = tmp_path / "home" / "evaluations"
    assert tables.out == f"table 1: {pages}/table1.html\ntable 2: {pages}/table2.html\n" + (
        f"extrapolation: {pages}/extrapolation.html\n"
    )
    assert "vit-micro-T/f8d8, f8d8" in (pages / "table1.html").read_text()


def test_latents_are_probed_and_mapped(transvae, evaluate, data, tmp_path):
    made = data("latents", tmp_path / "model", "mine", "--name", "mine-latents", "--content", "mean")
    assert made.code == 0, made.err
    for _ in range(2):  # the second time the record is found
        answer = transvae("probe", "mine-latents")
        assert answer.code == 0, answer.err
        assert re.search(r"mine-latents: \d+\.00 % of 2 validation images, 2 classes, 4 training images", answer.out)
    assert "too few for t-SNE" in transvae("density", "mine-latents").err
    assert "holds images, not latents" in transvae("probe", "mine").err
    assert "needs the solver sgd" in transvae("probe", "mine-latents", "--augment", "flip").err
    transvae("tables")
    page = (tmp_path / "home" / "evaluations" / "table2.html").read_text()
    assert "solver lbfgs, iterations 1000" in page
    assert "58.77" in page  # the paper's


def test_missing_weights_are_one_error_with_the_ways_out(evaluate, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    answer = evaluate()
    assert answer.code == 1
    assert "VGG16 of LPIPS: no weights in" in answer.err
    assert "--random-networks" in answer.err
    answer = evaluate("--lpips", tmp_path / "none.pth")
    assert "there is no weight file" in answer.err


def test_each_preset_gets_the_trunk_that_its_file_holds(evaluate, tmp_path, monkeypatch):
    files = {name: tmp_path / name for name in ("vgg", "alex")}
    for name, file in files.items():
        file.write_text(name)
        hub = TorchHub(f"https://example.org/net-{file_sha256(file)[:8]}.pth")
        monkeypatch.setitem(TRUNKS, name, dataclasses.replace(TRUNKS[name], published=hub))
    both = ("--lpips", files["vgg"], "--lpips", files["alex"])
    for preset, network, name in (("dcae", "AlexNet", "alex"), ("vavae", "VGG16", "vgg")):  # texts are no weights
        assert f"{network} of LPIPS: {files[name]} cannot be read as weights" in evaluate("--preset", preset, *both).err
    (other := tmp_path / "other").touch()
    answer = evaluate("--preset", "dcae", "--preset", "vavae", "--lpips", files["vgg"], "--lpips", other)
    assert answer.code == 2
    assert f"--lpips: {other} has the SHA-256 e3b0c44298fc" in answer.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(("--preset", "vave"), "did you mean 'vavae'"), (("--random-networks", "--download"), "leave --download out"),
     (("--split", "train", "--data", "yours"), "no data set 'yours'")],
)  # fmt: skip
def test_wrong_options_are_told(evaluate, arguments, said):
    answer = evaluate(*arguments)
    assert answer.code == 2
    assert said in answer.err


def test_a_model_that_is_none_is_told(transvae, made, tmp_path):
    answer = transvae("evaluate", "sd3-vae", "--data", "mine")
    assert answer.code == 2
    assert "did you mean 'sd3.5-vae'" in answer.err
    assert "models:/NAME@best" in answer.err


def test_a_job_of_an_evaluation_does_what_was_typed(transvae, evaluate, tmp_path, monkeypatch):
    sent = []
    monkeypatch.setattr(jobs, "submit_job", lambda job, *arguments, **options: sent.append(job))
    address = ("--address", "http://head:8265", "--home", "/shared/runs")
    typed = ("--data", "yours", "--preset", "rae", "--preset", "detok", "--random-networks", "--seed", "3")
    answer = evaluate(*typed, *address)
    assert answer.code == 0, answer.err
    (job,) = sent
    options, (model,) = job.command[1:-2], job.command[-1:]
    assert job.command[0] == "evaluate"
    assert model == str(tmp_path / "model")
    assert {"--data=mine", "--data=yours", "--preset=rae", "--preset=detok", "--random-networks"} < {*options}
    assert "--seed=3" in options
    assert not any(option.startswith(("--address", "--home", "--download")) for option in options)
    refused = evaluate("--lpips", "vgg.pth", *address)
    assert refused.code == 2
    assert "--lpips: vgg.pth is relative" in refused.err


def test_an_evaluation_of_a_registered_model_is_told_to_mlflow(transvae, evaluate, tmp_path):
    home = tmp_path / "home"
    uri = f"sqlite:///{home}/mlflow.db"
    client = connect(uri, home)
    experiment = client.create_experiment("study", artifact_location=(home / "artifacts").as_uri())
    trained = client.create_run(experiment).info.run_id
    sha256 = file_sha256(tmp_path / "model" / "model.safetensors")
    client.create_registered_model("m")
    client.create_model_version("m", str(tmp_path / "model"), trained, tags={"weights_sha256": sha256})
    client.set_registered_model_alias("m", "best", "1")
    (home / "models").mkdir()
    (tmp_path / "model").rename(home / "models" / sha256)
    for _ in range(2):  # found the second time, and told again: a server that was down gets it then
        answer = transvae("evaluate", "models:/m@best", "--data", "mine", "--preset", "detok", "--random-networks")
        assert answer.code == 0, answer.err
        assert "models:/m@best on mine (validation, 64 x 64)" in answer.out
    (run,) = (run for run in client.search_runs([experiment]) if run.info.run_id != trained)
    (record,) = all_records(home)
    assert run.data.tags[MLFLOW_PARENT_RUN_ID] == trained
    assert run.data.metrics["eval/psnr"] == record.metrics["psnr"]
    assert run.data.params["weights_sha256"] == sha256
