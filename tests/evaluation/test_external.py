"""Other people's tokenizers beside ours: from folders in diffusers' format to the page of table 1, at three sizes."""

import pytest
import torch
from tests.evaluation.test_evaluate import RANDOM
from tests.models.tokenizers.test_tokenizers import SMALL_DC, SMALL_KL

from transvae import create_model
from transvae.torchvision_cpu import ensure_torchvision
from transvae_dashboards.table1 import write_table1
from transvae_platform.data.listing.bundled import list_bundled
from transvae_platform.data.making.ingest import ingest
from transvae_platform.data.making.work import run_locally
from transvae_platform.data.sets.catalogue import DataSet
from transvae_platform.evaluation.evaluate import evaluate, plan_evaluation
from transvae_platform.evaluation.protocols import PRESETS
from transvae_platform.study.data_spec import Data

pytestmark = pytest.mark.usefixtures("few_features")


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Two held-out photographs at 32, 64 and 96 pixels."""
    home = tmp_path_factory.mktemp("photographs")
    made = []
    for resolution in (32, 64, 96):
        view = {"kind": "centre", "geometry": "shorter_side_bilinear"}
        data = Data.model_validate(
            {"source": "bundled", "resolution": resolution, "view": view, "holdout": ["coffee", "rocket"]}
        )
        manifest = ingest(list_bundled(), data, home, run_locally)
        made.append(DataSet(manifest, str(home / "data" / manifest.fingerprint), (f"photographs-{resolution}",)))
    return made


def test_folders_of_others_fill_table_1_beside_ours(photographs, tmp_path):
    diffusers = pytest.importorskip("diffusers")
    ensure_torchvision()
    torch.manual_seed(0)
    for name, config in (("sd35", SMALL_KL), ("dc", SMALL_DC)):
        options = {key: value for key, value in config.items() if not key.startswith("_")}
        getattr(diffusers, config["_class_name"])(**options).save_pretrained(tmp_path / name)
    create_model("vit-micro-T/f8d8").save_pretrained(tmp_path / "ours")
    records = []
    for name in ("ours", "sd35", "dc"):
        for data in photographs:
            plan = plan_evaluation(tmp_path / name, data, PRESETS["detok"], model_name=name, frozen=RANDOM)
            records.append(evaluate(plan, tmp_path / "home", run_locally, batch_size=2))
    assert [(record.model["name"], record.data["resolution"], record.n) for record in records] == [
        (name, resolution, 2) for name in ("ours", "sd35", "dc") for resolution in (32, 64, 96)
    ]
    assert len({record.metrics["psnr"] for record in records}) == 9
    assert {record.model["compression"] for record in records if record.model["name"] == "dc"} == {32}
    page = write_table1(records, tmp_path / "table1.html").read_text()
    for record in records:
        assert f"{record.metrics['psnr']:.2f}" in page
