"""What a run of MLflow has after a training, read back with MLflow's own client."""

import gc
import io
import json
import math
import subprocess
import sys
import textwrap
import time
import warnings

import numpy as np
import pytest
import torch
from nectargan_mlflow import MLflow

from nectargan_core import LossLog, LossManager, Schedule
from nectargan_core.errors import NectarganWarning

pytestmark = pytest.mark.slow

HALVING = Schedule(start_epoch=0, end_epoch=2, initial_value=100.0, target_value=50.0)


def features(y_fake, y):
    return {"relu1": (y_fake - y).abs().mean(), "relu2": (y_fake - y).square().mean()}


def manager_of(observer="mlflow", directory=None, **keywords):
    manager = LossManager(experiment_dir=directory, observers=[observer], **keywords)
    manager.register_loss_fn("G_L1", torch.nn.L1Loss(), schedule=HALVING, tags=["G"])
    manager.register_loss_fn("G_VGG", features, tags=["G"])
    return manager


def train(manager, steps, first=0, per_epoch=4):
    for step in range(first, steps):
        manager.tick(epoch=step // per_epoch, step=step)
        manager.compute_losses({"y_fake": torch.full((4,), step / 8), "y": torch.ones(4)}, query="G")


def runs(store, experiment="0"):
    return sorted(store.search_runs([experiment]), key=lambda run: run.info.start_time)


def curve(store, run, name):
    history = store.get_metric_history(run.info.run_id, name)
    return [each.step for each in history], [each.value for each in history]


def steps_of(store, run):
    return curve(store, run, "loss/G_VGG")[0]


def test_each_curve_has_the_values_of_the_log_at_their_steps(store, tmp_path):
    with manager_of(directory=tmp_path) as manager:
        train(manager, 4)
        with manager.split("val"):
            for value in (0.0, 0.5):
                manager.compute_losses({"y_fake": torch.full((4,), value), "y": torch.ones(4)}, query="G")
            manager.record("psnr", 25.0)
        manager.update_loss_log()
        train(manager, 8, first=4)
        manager.record("lr", 1e-4)
    (run,) = runs(store)
    log = LossLog(tmp_path)
    loss, vgg, part = (log.series(name) for name in ("G_L1", "G_VGG", "G_VGG.relu2"))
    assert curve(store, run, "loss/G_L1") == (loss.step.tolist(), loss.loss.tolist())
    assert curve(store, run, "unweighted/G_L1") == (loss.step.tolist(), loss.unweighted.tolist())
    assert curve(store, run, "loss/G_VGG") == (vgg.step.tolist(), vgg.loss.tolist())
    assert curve(store, run, "components/G_VGG.relu2") == (part.step.tolist(), part.loss.tolist())
    assert curve(store, run, "loss/val/G_L1") == ([3], [75.0])
    assert curve(store, run, "metrics/val/psnr") == ([3], [25.0])
    assert curve(store, run, "metrics/lr") == ([7], [1e-4])
    assert curve(store, run, "epoch")[1][0::7] == [0.0]


def test_a_point_says_when_it_was(store):
    begin = int(time.time() * 1000)
    with manager_of() as manager:
        train(manager, 3)
    times = [each.timestamp for each in store.get_metric_history(runs(store)[0].info.run_id, "loss/G_VGG")]
    end = int(time.time() * 1000)
    in_order = [begin, *times, end]
    assert in_order == sorted(in_order)
    assert end - begin < 60_000


def test_what_is_not_finite_is_sent(store):
    with LossManager(observers=["mlflow"], nonfinite="ignore") as manager:
        manager.register_loss_fn("G", lambda y_fake, y: y_fake.mean())
        for value in (math.nan, math.inf, -math.inf, 1.0):
            manager.tick(epoch=0)
            manager.compute_loss_xy("G", torch.full((1,), value), torch.ones(1))
    steps, values = curve(store, runs(store)[0], "loss/G")
    assert (steps, str(values)) == ([0, 1, 2, 3], "[nan, inf, -inf, 1.0]")


def test_the_objective_is_in_params_and_an_artifact(store, tmp_path):
    with LossManager.from_spec("100*l1", observers=["mlflow"], total_epochs=20) as manager:
        manager.tick(epoch=0)
        manager.compute_loss_xy("G_L1", torch.zeros(1), torch.ones(1))
        manifest = manager.manifest()
    (run,) = runs(store)
    assert run.data.params == {
        "nectargan/objective": "100*l1",
        "nectargan/total_epochs": "20",
        "nectargan/weight/G_L1": "100.0",
    }
    again = LossManager.from_spec(tmp_path / "mlruns/0" / run.info.run_id / "artifacts/manifest.json", strict=True)
    assert again.manifest() == manifest


def test_a_changed_objective_replaces_the_artifact_and_adds_params(store):
    with manager_of() as manager:
        train(manager, 1)
        manager.update_loss_log()
        manager.set_weight("G_L1", 5.0)
        manager.register_loss_fn("D", torch.nn.MSELoss(), tags=["G"])
        train(manager, 2, first=1)
    (run,) = runs(store)
    assert run.data.params["nectargan/schedule/G_L1"].startswith("linear, end_epoch=2")
    assert {"nectargan/weight/D", "nectargan/weight/G_L1"} <= set(run.data.params)


def test_a_run_that_is_begun_has_the_name_of_the_directory_and_is_ended(store, tmp_path):
    observer = MLflow("facades")
    assert observer.run_id is None
    with manager_of(observer, tmp_path / "first") as manager:
        train(manager, 1)
    (run,) = runs(store, store.get_experiment_by_name("facades").experiment_id)
    assert (run.info.run_id, run.info.run_name, run.info.status) == (observer.run_id, "first", "FINISHED")


@pytest.mark.parametrize("how", ["name", "id", "set"])
def test_the_experiment_is_the_one_that_mlflow_was_told(store, monkeypatch, how):
    import mlflow

    experiment = store.create_experiment("ours")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", experiment if how == "id" else "0")
    if how != "id":
        monkeypatch.delenv("MLFLOW_EXPERIMENT_ID")
    if how == "name":
        monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "ours")
    if how == "set":
        monkeypatch.setattr(mlflow.tracking.fluent, "_active_experiment_id", None)
        mlflow.set_experiment("ours")
    with manager_of() as manager:
        train(manager, 1)
    assert len(runs(store, experiment)) == 1


def test_a_run_is_where_the_option_says(store, tmp_path):
    import mlflow

    elsewhere = (tmp_path / "elsewhere").as_uri()
    with mlflow.start_run(), manager_of(MLflow(tracking_uri=elsewhere)) as manager:
        train(manager, 1)
    (run,) = runs(mlflow.MlflowClient(elsewhere))
    assert curve(mlflow.MlflowClient(elsewhere), run, "loss/G_VGG")[0] == [0]


def test_the_active_run_is_used_and_not_ended(store):
    import mlflow

    with mlflow.start_run() as mine:
        with manager_of() as manager:
            mlflow.log_metric("fid", 30.0, step=1)
            train(manager, 2)
        mlflow.log_metric("fid", 20.0, step=2)
        assert store.get_run(mine.info.run_id).info.status == "RUNNING"
    (run,) = runs(store)
    assert curve(store, run, "fid") == ([1, 2], [30.0, 20.0])
    assert curve(store, run, "loss/G_VGG")[0] == [0, 1]


def test_the_run_that_a_variable_names_is_used_and_not_ended(store, monkeypatch):
    run_id = store.create_run("0").info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    with manager_of() as manager:
        train(manager, 2)
    (run,) = runs(store)
    assert (run.info.run_id, run.info.status, steps_of(store, run)) == (run_id, "RUNNING", [0, 1])


@pytest.mark.parametrize(("error", "status"), [(ZeroDivisionError, "FAILED"), (KeyboardInterrupt, "KILLED")])
def test_a_run_says_how_it_ended(store, error, status):
    with pytest.raises(error), manager_of() as manager:
        train(manager, 1)
        raise error
    assert runs(store)[0].info.status == status


def test_two_managers_begin_a_run_each(store):
    with manager_of() as first, manager_of() as second:
        train(first, 2)
        train(second, 3)
    assert sorted(len(steps_of(store, run)) for run in runs(store)) == [2, 3]


def test_two_managers_in_one_run_need_a_prefix(store, tmp_path):
    import mlflow

    with (
        mlflow.start_run(),
        manager_of() as first,
        manager_of() as second,
        manager_of(MLflow(prefix="teacher/")) as third,
    ):
        for manager in (first, third):
            train(manager, 1)
            manager.update_loss_log()
        train(second, 1)
        with pytest.warns(NectarganWarning, match=r"another manager sends to the run \w+ under the same names; give"):
            second.update_loss_log()
        train(second, 2, first=1)
    (run,) = runs(store)
    assert (curve(store, run, "loss/G_VGG"), curve(store, run, "teacher/loss/G_VGG")) == (([0], [2.0]), ([0], [2.0]))
    assert "teacher/nectargan/weight/G_VGG" in run.data.params
    assert (tmp_path / "mlruns/0" / run.info.run_id / "artifacts/teacher/manifest.json").exists()


def test_one_manager_after_another_may_send_to_one_run(store):
    import mlflow

    with mlflow.start_run():
        for first in (0, 2):
            with manager_of() as manager:
                train(manager, first + 2, first=first)
    assert steps_of(store, runs(store)[0]) == [0, 1, 2, 3]


def test_an_observer_is_of_one_manager(store):
    observer = MLflow()
    with manager_of(observer) as first:
        train(first, 1)
        first.update_loss_log()
        with pytest.warns(NectarganWarning, match="give each manager one of its own"):
            second = manager_of(observer)
        second.hooks.unregister(observer)


def test_a_resumed_run_goes_on_in_its_run(store, tmp_path):
    with manager_of(directory=tmp_path) as manager:
        train(manager, 4)
        state = manager.state_dict()
        train(manager, 6, first=4)
    with manager_of(directory=tmp_path, resume=True) as manager:
        manager.load_state_dict(state)
        train(manager, 8, first=4)
        manager.update_loss_log()
    (run,) = runs(store)
    assert run.info.status == "FINISHED"
    assert steps_of(store, run) == [0, 1, 2, 3, 4, 5, 4, 5, 6, 7]


def test_a_run_that_is_not_there_any_more_is_not_resumed(store, tmp_path):
    with manager_of(directory=tmp_path) as manager:
        train(manager, 2)
    kept = tmp_path / "mlflow_run.json"
    kept.write_text(kept.read_text().replace(runs(store)[0].info.run_id, "0" * 32))
    with manager_of(directory=tmp_path, resume=True) as manager:
        train(manager, 4, first=2)
    assert [steps_of(store, run) for run in runs(store)] == [[0, 1], [2, 3]]


def test_a_run_that_was_deleted_is_not_resumed(store, tmp_path):
    with manager_of(directory=tmp_path) as manager:
        train(manager, 2)
    (deleted,) = runs(store)
    store.delete_run(deleted.info.run_id)
    with manager_of(directory=tmp_path, resume=True) as manager:
        train(manager, 4, first=2)
    (run,) = runs(store)
    assert (run.info.run_id != deleted.info.run_id, steps_of(store, run)) == (True, [2, 3])


def test_the_files_stay_where_the_log_is_when_the_directory_changes(store, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    manager = manager_of(directory="first")
    monkeypatch.chdir("elsewhere")
    train(manager, 2)
    manager.close()
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert (tmp_path / "first/mlflow_run.json").exists()
    assert runs(store)[0].info.run_name == "first"


def test_what_was_recorded_before_a_run_could_begin_is_sent_then(store, monkeypatch):
    def half_imported():
        raise AttributeError("partially initialized")

    with manager_of() as manager:
        train(manager, 2)
        with monkeypatch.context() as early:
            early.setattr("nectargan_mlflow.observer.active_run_id", half_imported)
            with pytest.warns(NectarganWarning, match="partially initialized"):
                manager.update_loss_log()
        train(manager, 4, first=2)
    assert steps_of(store, runs(store)[0]) == [0, 1, 2, 3]


def test_a_manager_waits_for_the_import_that_another_one_began(store, tmp_path):
    program = """
        import torch
        from nectargan_core import LossManager
        managers = [LossManager(observers=["mlflow"]) for _ in range(2)]
        for manager in managers:
            manager.register_loss_fn("G_VGG", torch.nn.L1Loss())
        for step in range(3):
            for manager in managers:
                manager.tick(epoch=0)
                manager.compute_loss_xy("G_VGG", torch.zeros(1), torch.ones(1))
                manager.update_loss_log()
        for manager in managers:
            manager.close()
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert [steps_of(store, run) for run in runs(store)] == [[0, 1, 2]] * 2


@pytest.mark.parametrize(("end", "status"), [("1 / 0", "FAILED"), ("raise KeyboardInterrupt", "KILLED")])
def test_a_program_says_how_it_ended_without_closing(store, tmp_path, end, status):
    program = f"""
        import torch
        from nectargan_core import LossManager
        manager = LossManager(observers=["mlflow"])
        manager.register_loss_fn("G_VGG", torch.nn.L1Loss())
        manager.tick(epoch=0)
        manager.compute_loss_xy("G_VGG", torch.zeros(1), torch.ones(1))
        {end}
    """
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], cwd=tmp_path, capture_output=True, timeout=120, check=False
    )
    (run,) = runs(store)
    assert (steps_of(store, run), run.info.status) == ([0], status)


def test_a_run_that_begins_anew_in_a_directory_has_a_run_of_its_own(store, tmp_path):
    for _ in range(2):
        with manager_of(directory=tmp_path) as manager:
            train(manager, 2)
    assert [steps_of(store, run) for run in runs(store)] == [[0, 1], [0, 1]]


def test_more_steps_than_points_are_sent_as_means(store):
    with LossManager(observers=[MLflow(points=100)]) as manager:
        manager.register_loss_fn("G", lambda y_fake, y: y_fake.mean())
        for step in range(1001):
            manager.tick(epoch=0)
            manager.compute_loss_xy("G", torch.full((1,), float(step)), torch.ones(1))
    steps, values = curve(store, runs(store)[0], "loss/G")
    # The last step comes when the manager is closed.
    assert steps == [*range(9, 1000, 10), 1000]
    np.testing.assert_allclose(values, [*np.arange(1000).reshape(100, 10).mean(axis=1), 1000])


def test_more_than_a_thousand_values_take_several_calls(store):
    with LossManager(observers=[MLflow(points=10_000)]) as manager:
        manager.register_loss_fn("G", torch.nn.L1Loss())
        for _ in range(2500):
            manager.tick(epoch=0)
            manager.compute_loss_xy("G", torch.zeros(1), torch.ones(1))
    assert curve(store, runs(store)[0], "loss/G")[0] == list(range(2500))


def test_a_manager_that_nobody_closes_leaves_an_ended_run(store):
    observer = MLflow()
    manager = manager_of(observer)
    train(manager, 2)
    manager.update_loss_log()
    del manager
    gc.collect()
    observer._sender.close()
    assert runs(store)[0].info.status == "FINISHED"


@pytest.mark.parametrize("own", [True, False])
def test_a_program_that_closes_nothing_leaves_all_points(store, tmp_path, own):
    program = f"""
        import torch, mlflow
        from nectargan_core import LossManager
        if not {own}:
            mlflow.start_run()
        manager = LossManager(observers=["mlflow"])
        manager.register_loss_fn("G_VGG", torch.nn.L1Loss())
        for step in range(3):
            manager.tick(epoch=0)
            manager.compute_loss_xy("G_VGG", torch.zeros(1), torch.ones(1))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    (run,) = runs(store)
    assert (steps_of(store, run), run.info.status) == ([0, 1, 2], "FINISHED")


def test_nothing_of_mlflow_is_imported_before_there_are_records(tmp_path):
    program = """
        import sys, torch
        from nectargan_core import LossManager
        manager = LossManager(observers=["mlflow"])
        manager.register_loss_fn("G", torch.nn.L1Loss())
        manager.close()
        sys.exit("mlflow" in sys.modules)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], cwd=tmp_path, timeout=120, check=False)
    assert done.returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_ranks_other_than_0_send_nothing(store, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with manager_of() as manager:
        train(manager, 2)
    assert runs(store) == []


def test_a_server_that_does_not_answer_is_one_warning_and_costs_the_training_nothing(store, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    begin = time.monotonic()
    manager = manager_of(directory=tmp_path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for step in range(3):
            train(manager, step + 1, first=step)
            manager.update_loss_log()
            wait_for_error(manager)
        manager.close()
    said = [str(warning.message) for warning in caught if issubclass(warning.category, NectarganWarning)]
    assert len(said) == 2
    assert "MLflow failed to observe nectargan_history_flushed" in said[0]
    assert "cannot send to MLflow, each flush tries again" in said[0]
    assert "http://127.0.0.1:9 does not answer: " in said[0]
    assert "calls were not sent to MLflow: http://127.0.0.1:9 does not answer: " in said[1]
    assert time.monotonic() - begin < 20
    assert LossLog(tmp_path).series("G_L1").step.tolist() == [0, 1, 2]


def wait_for_error(manager):
    (observer,) = [each for each in manager.hooks.get_plugins() if isinstance(each, MLflow)]
    for _ in range(1000):
        if observer._sender._cause is not None:
            return
        time.sleep(0.01)


def test_a_store_of_files_that_mlflow_refuses_is_said_with_the_remedy(store, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "others").as_uri())
    manager = manager_of()
    train(manager, 1)
    with pytest.warns(NectarganWarning, match="set MLFLOW_ALLOW_FILE_STORE=true to keep runs in files, or MLFLOW_TRA"):
        manager.close()


def test_a_store_that_needs_the_whole_of_mlflow_is_said_so(store, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    manager = manager_of()
    train(manager, 1)
    with pytest.warns(
        NectarganWarning, match="sqlite:///mlflow.db needs the whole of MLflow: pip install mlflow, or set"
    ):
        manager.close()


def test_loss_maps_are_sent_when_they_are_due(store, tmp_path):
    from PIL import Image

    pytest.importorskip("matplotlib")
    with LossManager(observers=[MLflow(loss_maps=0.0)]) as manager:
        manager.register_loss_fn("G", torch.nn.L1Loss(reduction="none"))
        for _ in range(2):
            manager.tick(epoch=0)
            manager.compute_loss_xy("G", torch.zeros(1, 3, 4, 4), torch.ones(1, 3, 4, 4))
            manager.update_loss_log()
        drawn = io.BytesIO()
        manager.save_loss_maps(drawn)
    (run,) = runs(store)
    pictures = sorted((tmp_path / "mlruns/0" / run.info.run_id / "artifacts/images").glob("loss_maps*.png"))
    assert len(pictures) == 2
    with Image.open(pictures[1]) as image, Image.open(drawn) as expected:
        assert image.convert("RGB").tobytes() == expected.convert("RGB").tobytes()


def test_loss_maps_that_cannot_be_drawn_cost_nothing_else(store, monkeypatch):
    def save_loss_maps(self, file):
        raise RuntimeError("no room")

    monkeypatch.setattr(LossManager, "save_loss_maps", save_loss_maps)
    with LossManager(observers=["mlflow"]) as manager:
        manager.register_loss_fn("G", torch.nn.L1Loss(reduction="none"))
        with pytest.warns(NectarganWarning, match="no room"):
            for _ in range(2):
                manager.tick(epoch=0)
                manager.compute_loss_xy("G", torch.zeros(4), torch.ones(4))
                manager.update_loss_log()
            manager.close()
    (run,) = runs(store)
    assert (curve(store, run, "loss/G")[0], run.info.status) == ([0, 1], "FINISHED")
    assert json.loads(json.dumps(run.data.params))["nectargan/weight/G"] == "1.0"
