"""Passwords in server addresses stay where they are."""

import os

import pytest

from transvae_platform.errors import UnreachableError
from transvae_platform.redaction import without_password
from transvae_platform.tracking.server import connect


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://bob:s3cret@host:5000/path", "http://host:5000/path"),
        ("postgresql://bob:s3cret@db/mlflow", "postgresql://db/mlflow"),
        ("sqlite:////somewhere/mlflow.db", "sqlite:////somewhere/mlflow.db"),
    ],
)
def test_without_password(uri, shown):
    assert without_password(uri) == shown


def test_connecting_leaves_no_address_behind(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(UnreachableError):
        connect("http://127.0.0.1:9", tmp_path)
    assert "MLFLOW_TRACKING_URI" not in os.environ


def test_an_unreachable_server_is_named_without_its_password(tmp_path):
    with pytest.raises(UnreachableError) as caught:
        connect("http://bob:s3cret@127.0.0.1:9", tmp_path)
    assert "http://127.0.0.1:9" in str(caught.value)
    assert "s3cret" not in str(caught.value)
