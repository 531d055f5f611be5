"""What a data command cannot do is told before Ray starts, and without even importing it."""

import subprocess
import sys

import pytest
import torch

from transvae import create_model
from transvae_platform.cluster import mapping
from transvae_platform.data.sets.catalogue import find_data_set
from transvae_platform.tracking import registry


@pytest.fixture
def model(tmp_path):
    torch.manual_seed(0)
    create_model("vit-micro-T/f8d8").save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_latents_are_made_once(made, data, model, starts, tmp_path):
    assert starts == [None]
    for _ in range(2):  # the second finds what the first made
        answer = data("latents", model, "mine", "--name", "codes", "--content", "mean")
        assert answer.code == 0, answer.err
    assert starts == [None, None]
    codes = find_data_set(tmp_path / "home", "codes").manifest
    assert (codes.kind, codes.samples("train")) == ("latents", 4)


def test_registered_model_is_read_where_the_registry_keeps_it(made, data, model, tmp_path, monkeypatch):
    asked = []

    def local_model(uri, home, tracking_uri):
        asked.append((uri, home, tracking_uri))
        return model, "0" * 64

    monkeypatch.setattr(registry, "local_model", local_model)
    answer = data("latents", "models:/m@best", "mine", "--name", "codes", "--content", "mean")
    assert answer.code == 0, answer.err
    assert asked == [("models:/m@best", tmp_path / "home", None)]
    assert not (tmp_path / "home" / "data" / "models").exists()  # no second copy
    assert find_data_set(tmp_path / "home", "codes").manifest.settings["model"]["name"] == "models:/m@best"


def test_ingest_of_what_is_made_starts_no_ray(made, data, images, starts):
    assert data("ingest", images, "--name", "mine", "--resolution", "64", "--holdout", "0.3").code == 0
    assert starts == [None]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("{model} nothing --name codes", "no data set 'nothing' in"),
        (
            "m@best mine --name codes",
            "'m@best' is neither a registered model (models:/NAME@best, models:/NAME/3)",
        ),
        ("{folder} mine --name codes", "holds no model"),
        ("{model} odd --name codes", "images of 30 pixels do not divide by the model's f=8"),
        ("{model} mine --name codes --content means", "Invalid value for '--content'"),
        ("{model} mine --name codes --dtype float8", "Invalid value for '--dtype'"),
        ("{model} mine --name Codes", "--name: 'Codes'"),
        ("{model} mine --name odd", "--name: 'odd' stands for"),
        ("{model} mine --name codes --gpus 3", "--gpus: 3 are asked for, this machine has 2"),
        ("models:/m@best mine --name codes", "holds no MLflow store"),
    ],
)
def test_impossible_extraction(made, data, images, model, starts, tmp_path, monkeypatch, command, message):
    monkeypatch.setattr(mapping, "local_devices", lambda: (4, 2))
    assert data("ingest", images, "--name", "odd", "--resolution", "30").code == 0
    starts.clear()
    words = command.format(model=model, folder=tmp_path / "images").split()
    answer = data("latents", *words)
    assert answer.code != 0
    assert message in " ".join(answer.err.split())  # typer's own errors stand in a box
    assert starts == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--layout imagenet", "it is no ImageNet"),
        ("--layout webdataset", "holds no images"),
        ("--resolution 32 --holdout 0.3", "--name: 'mine' stands for"),
        ("--resolution 64", "--name: 'mine' stands for"),
        ("--resolution 64 --holdout 0.99", "data.holdout: all 6 images"),
        ("--home {folder}/file/home --name other", "choose another --home"),
    ],
)
def test_impossible_ingest(made, data, images, starts, tmp_path, options, message):
    (tmp_path / "file").write_text("")
    starts.clear()
    answer = data("ingest", images, "--name", "mine", *options.format(folder=tmp_path).split())
    assert answer.code != 0
    assert message in answer.err
    assert starts == []


def test_name_of_a_smaller_source_is_told_before_the_work(made, data, images, starts):
    (images / "a" / "new.png").write_bytes(next((images / "a").glob("*.png")).read_bytes())
    starts.clear()
    answer = data("ingest", images, "--name", "mine", "--resolution", "64", "--holdout", "0.3")
    assert answer.code == 2
    assert "'mine' stands for" in answer.err
    assert starts == []


@pytest.mark.parametrize(
    "command",
    ["ingest /nowhere --name mine", "latents models:/m@best mine --name codes", "latents m mine --name codes"],
)
def test_refusal_needs_no_import_of_ray(command, tmp_path):
    code = (
        "import atexit, sys; atexit.register(lambda: print('ray' in sys.modules));"
        "from transvae_platform.cli.main import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "data", *command.split(), "--home", str(tmp_path / "home")],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stdout == "False\n", done.stderr
