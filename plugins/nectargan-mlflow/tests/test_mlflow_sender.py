"""The thread that sends: in order, again after an outage, bounded, and done when it is closed."""

import threading

import pytest
from nectargan_mlflow import sender as module
from nectargan_mlflow.sender import Sender

pytestmark = pytest.mark.slow  # MLflow's exceptions take seconds to import


class Server:
    """Stands for a client; it can be away, and refuse a name."""

    def __init__(self):
        self.done = []
        self.is_away = False
        self.tried = threading.Semaphore(0)

    def begin(self):
        self.answer()
        return self, "run"

    def answer(self):
        self.tried.release()
        if self.is_away:
            raise ConnectionError("nobody is there\nreally")

    def job(self, name):
        def do(client, run_id):
            self.answer()
            if name == "bad":
                raise refusal()
            self.done.append((run_id, name))

        return do


def refusal():
    from mlflow.exceptions import MlflowException

    return MlflowException("it is bad", error_code=1000)  # INVALID_PARAMETER_VALUE


def test_jobs_are_done_in_order_and_closing_waits_for_them():
    server = Server()
    sender = Sender(server.begin)
    for name in range(100):
        sender.put(server.job(name))
    sender.close()
    assert server.done == [("run", name) for name in range(100)]
    assert (sender.run_id, sender.take_error()) == ("run", None)


def test_an_outage_is_told_of_once_and_loses_nothing():
    server = Server()
    server.is_away = True
    sender = Sender(server.begin)
    for name in range(3):
        sender.put(server.job(name))
        server.tried.acquire(timeout=10)
    while (error := sender.take_error()) is None:
        pass
    assert error == "cannot send to MLflow, each flush tries again: nobody is there"
    server.is_away = False
    sender.put(server.job(3))
    sender.close()
    assert sender.take_error() is None
    assert [name for _, name in server.done] == [0, 1, 2, 3]


def test_a_server_that_is_not_there_is_found_before_a_job_is_tried():
    server = Server()

    def check():
        raise ConnectionError("nobody is there")

    sender = Sender(server.begin, check)
    sender.put(server.job("first"))
    sender.close()
    assert (server.done, sender.take_error()) == ([], "1 calls were not sent to MLflow: nobody is there")


def test_closing_says_why_a_server_takes_so_long(monkeypatch):
    monkeypatch.setattr(module, "_PATIENCE_S", 0.05)
    go_on, checks = threading.Event(), iter([None, ConnectionError("it went away")])

    def check():
        if (error := next(checks)) is not None:
            raise error

    sender = Sender(lambda: (None, "run"), check)
    sender.put(lambda client, run_id: go_on.wait(60))
    sender.close()
    go_on.set()
    assert sender.take_error() == "1 calls were not sent to MLflow within a minute: it went away"


def test_what_mlflow_refuses_is_left_out():
    server = Server()
    sender = Sender(server.begin)
    for name in ("first", "bad", "last"):
        sender.put(server.job(name))
    sender.close()
    assert [name for _, name in server.done] == ["first", "last"]
    assert sender.take_error() == "1 calls were not sent to MLflow: it is bad"


def test_no_more_than_so_many_jobs_wait(monkeypatch):
    monkeypatch.setattr(module, "_MOST", 5)
    server = Server()
    server.is_away = True
    sender = Sender(server.begin)
    for name in range(8):
        sender.put(server.job(name))
        server.tried.acquire(timeout=10)
    server.is_away = False
    sender.close()
    assert [name for _, name in server.done] == [3, 4, 5, 6, 7]
    assert sender.take_error() == "3 calls were not sent to MLflow: nobody is there"


def test_closing_does_not_wait_for_ever(monkeypatch):
    monkeypatch.setattr(module, "_PATIENCE_S", 0.05)
    go_on = threading.Event()
    sender = Sender(lambda: (None, "run"))
    sender.put(lambda client, run_id: go_on.wait(60))
    sender.close()
    go_on.set()
    assert sender.take_error() == "1 calls were not sent to MLflow within a minute"


def test_where_no_thread_can_be_started_jobs_are_done_at_once(monkeypatch):
    def start(self):
        raise RuntimeError("can't create new thread at interpreter shutdown")

    server = Server()
    sender = Sender(server.begin)
    with monkeypatch.context() as context:
        context.setattr(threading.Thread, "start", start)
        sender.put(server.job("first"))
        sender.put(server.job("last"))
    sender.close()
    assert [name for _, name in server.done] == ["first", "last"]
