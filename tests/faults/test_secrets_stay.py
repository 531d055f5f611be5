"""What a submission knows and nobody else may: passwords and keys stand in no file of the home and in no output."""

SECRETS = {
    "MLFLOW_TRACKING_URI": "http://bob:s3cret@127.0.0.1:9",
    "AWS_SECRET_ACCESS_KEY": "aws-s3cret",
    "RAY_AUTH_TOKEN": "ray-s3cret",
}


def test_no_secret_is_written_or_printed(study, monkeypatch):
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    submission = study.submit()
    assert submission.end() == 0, submission.err
    files = [path for path in study.home.rglob("*") if path.is_file()]
    assert [path for path in files if b"s3cret" in path.read_bytes()] == []
    assert b"http://127.0.0.1:9" in (study.folder / "journal.jsonl").read_bytes(), "the address itself is known"
    assert "s3cret" not in submission.out + submission.err
