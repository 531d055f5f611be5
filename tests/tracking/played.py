"""A tracking server that is played: it gives the same pages, whatever is asked."""

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def answering(pages, seconds=0.0):
    """A server that gives `pages` ({path: (status, document)}) after a while; yields its address and what was asked."""
    asked = []

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self):
            time.sleep(seconds)
            asked.append((self.path, dict(self.headers)))
            status, document = pages.get(self.path.partition("?")[0], (500, "<html>"))
            body = document.encode() if isinstance(document, str) else json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
