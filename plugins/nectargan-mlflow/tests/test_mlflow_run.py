"""Whether a server is there, which is asked before MLflow tries for minutes."""

import http.server
import threading

import pytest
from nectargan_mlflow.run import RunOfMLflow


class Refusing(http.server.BaseHTTPRequestHandler):
    """Answers all that it is not for this client."""

    def do_HEAD(self):
        self.send_response(401)
        self.end_headers()

    def log_message(self, *arguments):
        pass


def check(uri):
    RunOfMLflow(None, uri, experiment=None, name=None, kept=None, log_started=None).check_server()


@pytest.fixture
def port():
    with http.server.HTTPServer(("127.0.0.1", 0), Refusing) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_a_server_that_refuses_is_there(port):
    check(f"http://me:secret@127.0.0.1:{port}/mlflow")


def test_a_server_that_is_not_there_is_named_without_its_password():
    with pytest.raises(ConnectionError, match=r"^http://127.0.0.1:9 does not answer: .*refused") as caught:
        check("http://me:secret@127.0.0.1:9/mlflow")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("uri", ["sqlite:///mlflow.db", "mlruns", "databricks"])
def test_what_is_no_server_is_not_asked(uri):
    check(uri)
