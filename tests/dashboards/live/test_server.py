"""The server on its socket: methods, names it answers to, headers of every answer, and where it refuses to listen."""

import http.client
import socket
import struct

import pytest

from transvae_dashboards.live.guard import HEADERS
from transvae_dashboards.live.server import open_dashboard
from transvae_platform.errors import SpecError, UserError


def ask(server, path, method="GET", **headers):
    connection = http.client.HTTPConnection(*server.server_address[:2], timeout=60)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer, body


def raw(server, request):
    with socket.create_connection(server.server_address[:2], timeout=60) as line:
        line.sendall(request)
        line.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: line.recv(65536), b""))


def test_every_answer_forbids_scripts_and_requests_of_strangers(dashboard):
    for path in ("/", "/app.js", "/nothing", "/study/demo"):
        answer, _ = ask(dashboard, path)
        assert {name: answer.getheader(name) for name in HEADERS} == dict(HEADERS)
    assert "script-src 'self'" in HEADERS["Content-Security-Policy"]
    assert "default-src 'none'" in HEADERS["Content-Security-Policy"]


def test_other_names_are_refused(dashboard):
    answer, body = ask(dashboard, "/", Host="evil.example")
    assert answer.status == 421
    assert b"demo" not in body
    assert ask(dashboard, "/", Host="localhost:1234")[0].status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_nothing_but_reading(dashboard, method):
    assert ask(dashboard, "/", method)[0].status == 501


def test_head_has_no_body(dashboard):
    answer, body = ask(dashboard, "/", "HEAD")
    assert (answer.status, body) == (200, b"")
    assert int(answer.getheader("Content-Length")) > 100


@pytest.mark.parametrize("path", ["/../../../etc/passwd", "/study/demo/../../../../etc/passwd", "//etc/passwd", "/%00"])
def test_no_path_leaves_the_views(dashboard, path):
    answer = raw(dashboard, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 404")
    assert b"root:" not in answer


def test_addresses_of_others_and_taken_ports_are_refused(dashboard, tmp_path):
    with pytest.raises(SpecError, match="ssh -N -L"):
        open_dashboard(tmp_path, "0.0.0.0", 0)
    with pytest.raises(UserError, match="another process listens there"):
        open_dashboard(tmp_path, "127.0.0.1", dashboard.server_address[1])


def test_browsers_that_leave_in_the_middle_are_no_error(dashboard, capfd):
    for _ in range(3):
        with socket.create_connection(dashboard.server_address[:2], timeout=60) as line:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closing resets it
            line.sendall(b"GET /study/demo/scaling HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert ask(dashboard, "/study/demo/scaling")[0].status == 200  # after those: one page is drawn at a time
    assert capfd.readouterr().err == ""
