"""Other people's tokenizers beside ours: from folders in diffusers' format to tables 1 and 2, at three sizes."""

import pytest
import torch
from tests.evaluation.test_evaluate import RANDOM
from tests.models.tokenizers.test_tokenizers import SMALL_DC, SMALL_KL

from transvae import create_model
from transvae.torchvision_cpu import ensure_torchvision
from transvae_dashboards.table1 import write_table1
from transvae_dashboards.table2 import write_table2
from transvae_platform.data.latents.extract import extract_latents, plan_extraction
from transvae_platform.data.listing.bundled import list_bundled
from transvae_platform.data.making.ingest import ingest
from transvae_platform.data.making.work import run_locally
from transvae_platform.data.sets.catalogue import DataSet
from transvae_platform.evaluation.evaluate import evaluate, plan_evaluation
from transvae_platform.evaluation.latent_space.measuring import measure
from transvae_platform.evaluation.protocols import PRESETS
from transvae_platform.study.data_spec import Data

pytestmark = pytest.mark.usefixtures("few_features")
SIZES = (32, 64, 96)
NAMES = ("ours", "sd35", "dc")


@pytest.fixture(scope="module")
def bundled(tmp_path_factory):
    """The photographs that ship with dependencies, two of them held out, in a view at the three sizes."""
    home = tmp_path_factory.mktemp("photographs")

    def make(**view):
        for resolution in SIZES:
            data = Data.model_validate(
                {"source": "bundled", "resolution": resolution, "view": view, "holdout": ["coffee", "rocket"]}
            )
            manifest = ingest(list_bundled(), data, home, run_locally)
            yield DataSet(manifest, str(home / "data" / manifest.fingerprint), (f"photographs-{resolution}",))

    return make


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders of random networks: ours, and two in the published formats."""
    diffusers = pytest.importorskip("diffusers")
    ensure_torchvision()
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models")
    for name, config in (("sd35", SMALL_KL), ("dc", SMALL_DC)):
        options = {key: value for key, value in config.items() if not key.startswith("_")}
        getattr(diffusers, config["_class_name"])(**options).save_pretrained(folder / name)
    create_model("vit-micro-T/f8d8").save_pretrained(folder / "ours")
    return folder


def test_folders_of_others_fill_table_1_beside_ours(bundled, models, tmp_path):
    records = []
    photographs = list(bundled(kind="centre", geometry="shorter_side_bilinear"))
    for name in NAMES:
        for data in photographs:
            plan = plan_evaluation(models / name, data, PRESETS["detok"], model_name=name, frozen=RANDOM)
            records.append(evaluate(plan, tmp_path, run_locally, batch_size=2))
    assert [(record.model["name"], record.data["resolution"], record.n) for record in records] == [
        (name, resolution, 2) for name in NAMES for resolution in SIZES
    ]
    assert len({record.metrics["psnr"] for record in records}) == 9
    assert {record.model["compression"] for record in records if record.model["name"] == "dc"} == {32}
    page = write_table1(records, tmp_path / "table1.html").read_text()
    for record in records:
        assert f"{record.metrics['psnr']:.2f}" in page


def test_folders_of_others_fill_table_2_beside_ours(bundled, models, tmp_path):
    records = []
    for data in bundled(kind="crops", per_photograph=8):
        for name in NAMES:
            plan = plan_extraction(data.manifest, data.location, models / name, model_name=name)
            made = extract_latents(plan, tmp_path, run_locally)
            found = DataSet(made, str(tmp_path / "data" / made.fingerprint), ())
            settings = {"images": 100, "runs": 1, "split": "train"}
            records.append(measure(tmp_path, "density", found, f"{name}-{data.manifest.resolution}", settings))
    assert [record.latents["name"] for record in records] == [f"{name}-{side}" for side in SIZES for name in NAMES]
    assert len({record.result["mean"]["gini"] for record in records}) == 9
    page = write_table2(records, [], tmp_path / "table2.html").read_text()
    for record in records:
        assert f"{record.result['mean']['gini']:.4f}" in page
