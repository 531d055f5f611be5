"""Evaluations in MLflow: a run of their own below the model's, once."""

from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from transvae_platform.evaluation.latent_space.records import LatentRecord
from transvae_platform.evaluation.records import Record
from transvae_platform.tracking.evaluations import log_evaluation
from transvae_platform.tracking.server import connect


def record(key="abc"):
    return Record(
        key=key, model={"name": "m", "weights_sha256": "w" * 64},
        data={"name": "mine", "fingerprint": "f", "split": "validation", "resolution": 32},
        protocol={"name": "vavae", "identity": "i"}, networks={}, n=12,
        metrics={"psnr": 20.5, "rfid_random": 3.25, "ssim": None, "lpips": float("inf")}, identical=0,
        warnings=("n = 12 is few",), seed=0, batch_size=4, lineage={},
    )  # fmt: skip


def density():
    result = {"n": 120, "runs": 2, "mean": {"gini": 0.3}, "spread": {"gini": 0.01}, "settings": {"kde": "scott"}}
    latents = {"fingerprint": "f", "content": "sample", "resolution": 32, "images": "i", "model": {"name": "m"}}
    return LatentRecord("density-key", "density", latents, result, {})


def test_an_evaluation_is_a_run_below_the_models(tmp_path):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    client = connect(uri, tmp_path)
    experiment = client.create_experiment("study", artifact_location=(tmp_path / "artifacts").as_uri())
    trained = client.create_run(experiment).info.run_id
    client.create_registered_model("m")
    client.create_model_version("m", source=str(tmp_path), run_id=trained, tags={"weights_sha256": "w" * 64})
    run = log_evaluation("models:/m/1", record(), tmp_path, uri)
    assert log_evaluation("models:/m/1", record(), tmp_path, uri) == run
    assert log_evaluation("models:/m/1", record("other"), tmp_path, uri) != run
    found = client.get_run(run)
    assert found.data.metrics == {"eval/psnr": 20.5, "eval/rfid_random": 3.25}
    assert found.data.params["n"] == "12"
    assert found.data.tags[MLFLOW_PARENT_RUN_ID] == trained
    assert found.data.tags["warning.0"] == "n = 12 is few"
    assert [file.path for file in client.list_artifacts(run)] == ["record.json"]
    assert client.get_run(trained).data.metrics == {}  # the trial's run stays equal to its journal
    mapped = client.get_run(log_evaluation("models:/m/1", density(), tmp_path, uri))
    assert mapped.data.metrics == {"eval/gini": 0.3, "eval/gini_spread": 0.01}
    assert mapped.data.params.items() >= {"n": "120", "content": "sample", "kde": "scott"}.items()
