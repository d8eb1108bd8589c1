"""Shared fixtures: seeded weight files, an empty cache folder for each test, and a server of published weights."""

import hashlib
import http.server
import io
import threading
from dataclasses import replace

import pytest
import torch
from nectargan_vgg import network

# torchvision's vgg19, written out: the position of each convolution in `features`, input and output channels.
CONVOLUTIONS = {
    0: (3, 64), 2: (64, 64),
    5: (64, 128), 7: (128, 128),
    10: (128, 256), 12: (256, 256), 14: (256, 256), 16: (256, 256),
    19: (256, 512), 21: (512, 512), 23: (512, 512), 25: (512, 512),
    28: (512, 512), 30: (512, 512), 32: (512, 512), 34: (512, 512),
}  # fmt: skip


def seeded_state(last):
    generator = torch.Generator().manual_seed(last)
    state = {}
    for position, (inward, outward) in CONVOLUTIONS.items():
        if position <= last:
            scale = (2 / (9 * inward)) ** 0.5
            state[f"features.{position}.weight"] = torch.randn(outward, inward, 3, 3, generator=generator) * scale
            state[f"features.{position}.bias"] = torch.randn(outward, generator=generator) * 0.1
    return state


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty TORCH_HOME, no records of copies, and no weights named in the environment."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "state"))
    monkeypatch.delenv("NECTARGAN_VGG19_WEIGHTS", raising=False)
    return tmp_path / "torch" / "hub" / "checkpoints"


@pytest.fixture(scope="session")
def state():
    """Weights up to relu3_4, seeded."""
    return seeded_state(16)


@pytest.fixture(scope="session")
def deep_state():
    """Weights of all sixteen convolutions, seeded."""
    return seeded_state(34)


@pytest.fixture(scope="session")
def weights(state, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "vgg19.pth"
    torch.save(state, path)
    return path


@pytest.fixture(scope="session")
def deep_weights(deep_state, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "vgg19-deep.pth"
    torch.save(deep_state, path)
    return path


class Server(http.server.ThreadingHTTPServer):
    """Serves one file; can send less than its Content-Length, and wait for an event before it answers."""

    def __init__(self, data):
        super().__init__(("127.0.0.1", 0), Handler)
        self.data = data
        self.sent = len(data)
        self.status = 200
        self.gets = 0
        self.asked, self.go_on = threading.Event(), threading.Event()
        self.requests = threading.Semaphore(0)  # one more for each request
        self.go_on.set()
        self.url = f"http://127.0.0.1:{self.server_port}/models/vgg19-made.pth"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(self.server.data)))
        self.end_headers()

    def do_GET(self):
        self.server.gets += 1
        self.server.asked.set()
        self.server.requests.release()
        self.server.go_on.wait()
        self.do_HEAD()
        self.wfile.write(self.server.data[: self.server.sent])

    def log_message(self, *args):
        pass


@pytest.fixture(scope="session")
def made():
    """A small checkpoint in the old format of the published one, with the layers that these tests need."""
    generator = torch.Generator().manual_seed(5)
    shapes = {0: (64, 3), 2: (64, 64), 5: (128, 64), 7: (128, 128)}
    state = {}
    for position, shape in shapes.items():
        state[f"features.{position}.weight"] = torch.randn(*shape, 3, 3, generator=generator) * 0.1
        state[f"features.{position}.bias"] = torch.randn(shape[0], generator=generator)
    file = io.BytesIO()
    torch.save({**state, "classifier.0.weight": torch.zeros(1000)}, file, _use_new_zipfile_serialization=False)
    return state, file.getvalue()


@pytest.fixture
def server(made, monkeypatch):
    with Server(made[1]) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        weights = {"url": server.url, "sha256": hashlib.sha256(made[1]).hexdigest(), "file": "vgg19-made.pth"}
        monkeypatch.setattr(network, "VGG19_WEIGHTS", replace(network.VGG19_WEIGHTS, **weights))
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.delenv(name, raising=False)
        yield server
        server.go_on.set()
        server.shutdown()
        thread.join()
