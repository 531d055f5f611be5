"""What a checkpoint asks of an S3: three requests per file, and none for folders, which an S3 does not know."""

import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest

from transvae_platform.training.bucket import Bucket

BEGUN = b"<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>"
ENDED = b"<CompleteMultipartUploadResult><ETag>1</ETag></CompleteMultipartUploadResult>"


class Taking(BaseHTTPRequestHandler):
    """Takes whatever is written, and holds nothing."""

    protocol_version = "HTTP/1.1"

    def do_PUT(self):
        self._answer(200)

    def do_POST(self):
        self._answer(200, BEGUN if self.path.endswith("?uploads") or "uploads=" in self.path else ENDED)

    def do_HEAD(self):
        self._answer(200 if urlsplit(self.path).path == "/bucket" else 404)

    def _answer(self, status, body=b""):
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            while size := int(self.rfile.readline().split(b";")[0], 16):
                self.rfile.read(size + 2)
            self.rfile.readline()
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked[(self.command, urlsplit(self.path).path)] += 1
        self.send_response(status)
        self.send_header("ETag", '"1"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Taking)
    server.asked = Counter()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "none")
    yield server
    server.shutdown()
    server.server_close()


def test_a_checkpoint_makes_no_folders(server):
    place = Bucket(f"s3://bucket/all?endpoint_override=127.0.0.1:{server.server_port}&scheme=http&region=us-east-1")
    draft = place.draft("step_000000001", "token")
    files = ("state.json", "state/one", "ema/two")
    for file in files:
        (draft.folder / file).parent.mkdir(parents=True, exist_ok=True)
        (draft.folder / file).write_bytes(b"1" * 100)
    place.send(draft, dict.fromkeys(files, "0"))
    place.discard(draft, committed=True)
    objects = [f"/bucket/all/step_000000001/token/{file}" for file in files]
    written = Counter({what: count for what, count in server.asked.items() if what[0] != "HEAD"})
    assert written == Counter({("PUT", name): 1 for name in objects}) + Counter({("POST", name): 2 for name in objects})
