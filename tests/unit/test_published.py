"""Published weights come from GluonCV's folder, its host or a mirror; here from a server of this machine."""

import hashlib
import http.server
import io
import re
import threading
import zipfile

import pytest

from heatcrop.errors import WeightsError
from heatcrop.nets.gluon.engine import zoo_checksums
from heatcrop.nets.weights.published import RESNETS, published_file

CONTENT = b"weights" * 1000
SHA1 = hashlib.sha1(CONTENT).hexdigest()
NAME = f"net-{SHA1[:8]}"


def packed(name=f"{NAME}.params", content=CONTENT):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as files:
        files.writestr(name, content)
    return file.getvalue()


@pytest.fixture
def server(monkeypatch, tmp_path):
    """Answer each request with `status`, and `body` of which `sent` bytes are sent; list the paths."""

    class Server(http.server.ThreadingHTTPServer):
        status, body, sent = 200, packed(), None
        paths: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            server.paths.append(self.path)
            self.send_response(server.status)
            self.send_header("Content-Length", str(len(server.body)))
            self.end_headers()
            self.wfile.write(server.body[: server.sent])

        def log_message(self, *_):
            pass

    server = Server(("127.0.0.1", 0), Handler)
    server.paths = []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("MXNET_HOME", str(tmp_path))
    monkeypatch.setenv("MXNET_GLUON_REPO", f"http://127.0.0.1:{server.server_port}/mirror/")
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def files_in(folder):
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def test_a_mirror_provides_them_once(server, tmp_path):
    path = published_file("net", SHA1)
    assert path == tmp_path / "models" / f"{NAME}.params"
    assert path.read_bytes() == CONTENT
    assert published_file("net", SHA1) == path
    assert server.paths == [f"/mirror/gluon/models/{NAME}.zip"]
    assert files_in(tmp_path / "models") == [f"{NAME}.params"]


def test_a_file_that_is_there_needs_no_server(monkeypatch, tmp_path):
    monkeypatch.setenv("MXNET_HOME", str(tmp_path))
    monkeypatch.setenv("MXNET_GLUON_REPO", "no address at all")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / f"{NAME}.params").write_bytes(CONTENT)
    assert published_file("net", SHA1).read_bytes() == CONTENT
    assert files_in(tmp_path / "models") == [f"{NAME}.params"]


def test_a_damaged_file_is_replaced(server, tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / f"{NAME}.params").write_bytes(CONTENT[:100])
    assert published_file("net", SHA1).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        ({"status": 403}, "HTTP Error 403"),
        ({"sent": len(packed()) // 2}, f"only {len(packed()) // 2} of {len(packed())} bytes arrived"),
        ({"body": packed()[: len(packed()) // 2]}, "File is not a zip file"),
        ({"body": packed(content=b"other")}, f"has the SHA-1 {hashlib.sha1(b'other').hexdigest()}, expected"),
        ({"body": packed("../net.params")}, f"does not contain {NAME}.params"),
        ({"body": b"<html>moved</html>"}, "File is not a zip file"),
    ],
)
def test_what_fails_is_one_message_with_the_three_ways(server, tmp_path, answer, cause):
    vars(server).update(answer)
    with pytest.raises(WeightsError, match=re.escape(cause)) as caught:
        published_file("net", SHA1)
    text = str(caught.value)
    assert "\n" not in text
    assert f"http://127.0.0.1:{server.server_port}/mirror/gluon/models/{NAME}.zip" in text
    assert "set MXNET_GLUON_REPO to the address of a mirror" in text
    assert f"put {NAME}.params (SHA-1 {SHA1}) into {tmp_path / 'models'}" in text
    assert "--set network.weights=FILE" in text
    assert files_in(tmp_path / "models") == [], "nothing of it is left"


def test_a_host_that_does_not_answer_is_the_same_message(server, monkeypatch):
    server.shutdown()
    server.socket.close()
    with pytest.raises(WeightsError, match=r"refused.*Three ways: set MXNET_GLUON_REPO"):
        published_file("net", SHA1)


def test_our_checksums_are_those_of_gluoncv():
    assert RESNETS.items() <= zoo_checksums().items()
