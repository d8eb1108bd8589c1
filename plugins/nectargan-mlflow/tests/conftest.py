"""MLflow without a server: runs in files of the test's own directory."""

import pytest

_VARIABLES = ("RUN_ID", "EXPERIMENT_ID", "EXPERIMENT_NAME", "REGISTRY_URI", "ENABLE_ASYNC_LOGGING")


@pytest.fixture
def store(tmp_path, monkeypatch):
    """Let MLflow keep runs in files; returns a client that reads them."""
    for name in _VARIABLES:
        monkeypatch.delenv(f"MLFLOW_{name}", raising=False)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.chdir(tmp_path)
    import mlflow

    yield mlflow.MlflowClient()
    while mlflow.active_run() is not None:
        mlflow.end_run()
