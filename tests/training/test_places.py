"""A bucket of an S3 that refuses, as pyarrow's own client meets it."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from transvae_platform.errors import UnreachableError
from transvae_platform.training.places import check_place

REFUSAL = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"


class Refusing(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def _refuse(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.signed.append("Authorization" in self.headers)
        body = b"" if self.command == "HEAD" else REFUSAL
        self.send_response(403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _refuse  # noqa: N815


@pytest.fixture
def bucket(monkeypatch, tmp_path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    server.signed = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    options = f"endpoint_override=127.0.0.1:{server.server_port}&scheme=http&region=us-east-1"
    yield server, f"s3://bucket/folder?{options}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("credentials", [True, False], ids=["without rights", "without credentials"])
def test_a_bucket_that_refuses_is_named_with_the_ways_out(bucket, monkeypatch, credentials):
    server, location = bucket
    if credentials:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
    with pytest.raises(UnreachableError) as caught:
        check_place(location)
    said = str(caught.value)
    assert said.startswith("resources.checkpoints: s3://bucket/folder")
    assert "cannot be written (" in said
    assert "ACCESS_DENIED" in said
    assert "give this machine rights there (credentials, a role of its node), or choose another place" in said
    assert "s3cret" not in said
    assert any(server.signed) == credentials
