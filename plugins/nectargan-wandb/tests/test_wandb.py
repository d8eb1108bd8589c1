"""What a run of W&B has after a training, read from the file that W&B writes in offline mode."""

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
from nectargan_wandb import WandB

from nectargan_core import LossLog, LossManager, Schedule
from nectargan_core.errors import NectarganWarning

pytestmark = pytest.mark.slow

HALVING = Schedule(start_epoch=0, end_epoch=2, initial_value=100.0, target_value=50.0)


def features(y_fake, y):
    return {"relu1": (y_fake - y).abs().mean(), "relu2": (y_fake - y).square().mean()}


def manager_of(observer="wandb", directory=None, **keywords):
    manager = LossManager(experiment_dir=directory, observers=[observer], **keywords)
    manager.register_loss_fn("G_L1", torch.nn.L1Loss(), schedule=HALVING, tags=["G"])
    manager.register_loss_fn("G_VGG", features, tags=["G"])
    return manager


def train(manager, steps, first=0, per_epoch=4):
    for step in range(first, steps):
        manager.tick(epoch=step // per_epoch, step=step)
        manager.compute_losses({"y_fake": torch.full((4,), step / 8), "y": torch.ones(4)}, query="G")


def test_each_curve_has_the_values_of_the_log_at_their_steps(offline, tmp_path):
    with manager_of(directory=tmp_path) as manager:
        train(manager, 4)
        with manager.split("val"):
            for value in (0.0, 0.5):
                manager.compute_losses({"y_fake": torch.full((4,), value), "y": torch.ones(4)}, query="G")
            manager.record("psnr", 25.0)
        manager.update_loss_log()
        train(manager, 8, first=4)
        manager.record("lr", 1e-4)
    (run,) = offline()
    log = LossLog(tmp_path)
    loss, vgg, part = (log.series(name) for name in ("G_L1", "G_VGG", "G_VGG.relu2"))
    assert run.curve("loss/G_L1") == (loss.step.tolist(), pytest.approx(loss.loss.tolist()))
    assert run.curve("unweighted/G_L1") == (loss.step.tolist(), pytest.approx(loss.unweighted.tolist()))
    assert run.curve("loss/G_VGG") == (vgg.step.tolist(), pytest.approx(vgg.loss.tolist()))
    assert run.curve("components/G_VGG.relu2") == (part.step.tolist(), pytest.approx(part.loss.tolist()))
    assert run.curve("loss/val/G_L1") == ([3], [pytest.approx(75.0)])
    assert (run.curve("metrics/val/psnr"), run.curve("metrics/lr")) == (([3], [25.0]), ([7], [1e-4]))
    assert run.curve("weight/G_L1")[1][0::7] == [100.0]
    assert run.curve("nectargan/epoch") == (list(range(8)), [0, 0, 0, 0, 1, 1, 1, 1])


def test_a_step_has_one_row_that_says_when_it_was(offline):
    begin = time.time()
    with manager_of() as manager:
        train(manager, 3)
        manager.update_loss_log()
        train(manager, 6, first=3)
    rows = offline()[0].rows
    assert [row["nectargan/step"] for row in rows] == list(range(6))
    times = [row["_timestamp"] for row in rows]
    in_order = [begin, *times, time.time()]
    assert in_order == sorted(in_order)


def test_a_step_that_two_flushes_have_a_part_of_has_one_row(offline):
    with manager_of() as manager:
        manager.tick(epoch=0)
        manager.compute_loss_xy("G_L1", torch.zeros(4), torch.ones(4))
        manager.update_loss_log()
        manager.compute_loss_xy("G_VGG", torch.zeros(4), torch.ones(4))
    (row,) = offline()[0].rows
    assert (row["loss/G_L1"], row["loss/G_VGG"]) == (100.0, 2.0)


def test_curves_are_drawn_over_the_steps_of_the_clock(offline):
    with manager_of() as manager:
        train(manager, 2)
    metrics = offline()[0].metrics
    assert metrics.pop("nectargan/step") == ""
    assert set(metrics.values()) == {"nectargan/step"}
    assert {"loss/G_L1", "weight/G_L1", "components/G_VGG.relu1", "nectargan/epoch"} <= set(metrics)


def test_what_is_not_finite_is_sent(offline):
    with LossManager(observers=["wandb"], nonfinite="ignore") as manager:
        manager.register_loss_fn("G", lambda y_fake, y: y_fake.mean())
        for value in (math.nan, math.inf, -math.inf, 1.0):
            manager.tick(epoch=0)
            manager.compute_loss_xy("G", torch.full((1,), value), torch.ones(1))
    assert offline()[0].curve("loss/G") == (
        [0, 1, 2, 3],
        [pytest.approx(math.nan, nan_ok=True), math.inf, -math.inf, 1],
    )


def test_a_name_with_a_star_is_a_column_like_any_other(offline):
    with LossManager(observers=["wandb"]) as manager:
        manager.register_loss_fn("G*", torch.nn.L1Loss())
        manager.tick(epoch=0)
        manager.compute_loss_xy("G*", torch.zeros(1), torch.ones(1))
    assert offline()[0].curve("loss/G*") == ([0], [1.0])


def test_the_objective_is_in_the_configuration_and_a_file(offline):
    with LossManager.from_spec("100*l1", observers=["wandb"]) as manager:
        manager.tick(epoch=0)
        manager.compute_loss_xy("G_L1", torch.zeros(1), torch.ones(1))
        manifest = manager.manifest()
    (run,) = offline()
    assert run.config["nectargan"] == json.loads(json.dumps(manifest.to_dict()))
    again = LossManager.from_spec(run.directory / "files" / "manifest.json", strict=True)
    assert again.manifest() == manifest


def test_a_changed_objective_replaces_the_former(offline):
    with manager_of() as manager:
        train(manager, 1)
        manager.update_loss_log()
        manager.register_loss_fn("D", torch.nn.MSELoss(), tags=["G"])
        train(manager, 2, first=1)
    assert "D" in offline()[0].config["nectargan"]["losses"]


def test_a_run_that_is_begun_has_the_name_of_the_directory_and_is_finished(offline, tmp_path):
    import wandb

    observer = WandB(project="facades")
    assert observer.run is None
    manager = manager_of(observer, tmp_path / "first")
    train(manager, 1)
    manager.update_loss_log()
    assert (observer.run.project, wandb.run) == ("facades", None)
    manager.close()
    (run,) = offline(tmp_path / "first")
    assert (run.name, run.project, run.exit_code) == ("first", "facades", 0)


def test_variables_of_wandb_come_before_what_follows_from_the_directory(offline, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_NAME", "mine")
    monkeypatch.setenv("WANDB_PROJECT", "ours")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    with manager_of(directory=tmp_path / "first") as manager:
        train(manager, 1)
    (run,) = offline()
    assert (run.name, run.project) == ("mine", "ours")


def test_an_exception_fails_the_run(offline):
    with pytest.raises(ZeroDivisionError), manager_of() as manager:
        train(manager, 1)
        raise ZeroDivisionError
    assert offline()[0].exit_code == 1


def test_the_active_run_is_used_and_not_finished(offline):
    import wandb

    with wandb.init(project="mine") as mine:
        with manager_of() as manager:
            mine.log({"fid": 30.0})
            train(manager, 2)
        mine.log({"fid": 20.0})
    (run,) = offline()
    assert [row["fid"] for row in run.rows if "fid" in row] == [30.0, 20.0]
    assert run.curve("loss/G_VGG")[0] == [0, 1]
    assert run.metrics.get("fid") is None


def test_a_run_that_is_given_is_used_beside_the_active_one(offline):
    import wandb

    mine, other = wandb.init(project="mine"), wandb.init(project="other", reinit="create_new")
    with manager_of(WandB(run=other)) as manager:
        train(manager, 2)
    mine.log({"fid": 30.0}, step=1)
    other.finish()
    mine.finish()
    runs = {run.project: run for run in offline()}
    assert runs["other"].curve("loss/G_VGG")[0] == [0, 1]
    assert [row["fid"] for row in runs["mine"].rows] == [30.0]


def test_two_managers_begin_a_run_each(offline):
    with manager_of() as first, manager_of() as second:
        train(first, 2)
        train(second, 3)
    assert sorted(len(run.rows) for run in offline()) == [2, 3]


def test_two_managers_in_one_run_need_a_prefix(offline):
    import wandb

    with wandb.init(), manager_of() as first, manager_of() as second, manager_of(WandB(prefix="teacher/")) as third:
        for manager in (first, third):
            train(manager, 1)
            manager.update_loss_log()
        train(second, 1)
        with pytest.warns(NectarganWarning, match=r"another manager sends to the run \w+ under the same names; give"):
            second.update_loss_log()
        train(second, 2, first=1)
    (run,) = offline()
    assert run.curve("loss/G_VGG") == ([0], [2.0])
    assert run.curve("teacher/loss/G_VGG") == ([0], [2.0])
    assert {"nectargan", "nectargan/teacher"} <= set(run.config)
    assert (run.directory / "files/teacher/manifest.json").exists()


def test_one_manager_after_another_may_send_to_one_run(offline):
    import wandb

    with wandb.init():
        for first in (0, 2):
            with manager_of() as manager:
                train(manager, first + 2, first=first)
    assert offline()[0].curve("loss/G_VGG")[0] == [0, 1, 2, 3]


def test_an_observer_is_of_one_manager(offline):
    observer = WandB()
    with manager_of(observer) as first:
        train(first, 1)
        first.update_loss_log()
        with pytest.warns(NectarganWarning, match="give each manager one of its own"):
            second = manager_of(observer)
        second.hooks.unregister(observer)


def test_a_resumed_run_goes_on_in_its_run(offline, tmp_path):
    with manager_of(directory=tmp_path) as manager:
        train(manager, 4)
        state = manager.state_dict()
        train(manager, 6, first=4)
    with manager_of(directory=tmp_path, resume=True) as manager:
        manager.load_state_dict(state)
        train(manager, 8, first=4)
    first, second = offline()
    assert first.id == second.id
    assert first.curve("loss/G_VGG")[0] == [0, 1, 2, 3, 4, 5]
    assert second.curve("loss/G_VGG")[0] == [4, 5, 6, 7]


def test_a_run_that_begins_anew_in_a_directory_has_a_run_of_its_own(offline, tmp_path):
    for _ in range(2):
        with manager_of(directory=tmp_path) as manager:
            train(manager, 2)
    first, second = offline()
    assert first.id != second.id


def test_steps_that_come_again_are_sent_again(offline):
    with manager_of() as manager:
        train(manager, 3)
        state = manager.state_dict()
        train(manager, 5, first=3)
        manager.update_loss_log()
        manager.load_state_dict(state)
        train(manager, 6, first=3)
    # Step 4 was the newest when the state was loaded, and had not been sent.
    assert offline()[0].curve("loss/G_VGG")[0] == [0, 1, 2, 3, 3, 4, 5]


def test_more_steps_than_points_are_sent_as_means(offline):
    with LossManager(observers=[WandB(points=100)]) as manager:
        manager.register_loss_fn("G", lambda y_fake, y: y_fake.mean())
        for step in range(1001):
            manager.tick(epoch=0)
            manager.compute_loss_xy("G", torch.full((1,), float(step)), torch.ones(1))
    steps, values = offline()[0].curve("loss/G")
    # The last step comes when the manager is closed.
    assert steps == [*range(9, 1000, 10), 1000]
    np.testing.assert_allclose(values, [*np.arange(1000).reshape(100, 10).mean(axis=1), 1000])


def test_a_manager_that_nobody_closes_leaves_a_finished_run(offline):
    manager = manager_of()
    train(manager, 2)
    manager.update_loss_log()
    del manager
    gc.collect()
    assert offline()[0].exit_code == 0


@pytest.mark.parametrize("own", [True, False])
def test_a_program_that_closes_nothing_leaves_all_rows(offline, tmp_path, own):
    program = f"""
        import torch, wandb
        from nectargan_core import LossManager
        if not {own}:
            wandb.init()
        manager = LossManager(observers=["wandb"])
        manager.register_loss_fn("G", torch.nn.L1Loss())
        for step in range(3):
            manager.tick(epoch=0)
            manager.compute_loss_xy("G", torch.zeros(1), torch.ones(1))
            if step == 1 and {own}:
                manager.update_loss_log()
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    (run,) = offline()
    assert (run.curve("loss/G")[0], run.exit_code) == ([0, 1, 2], 0)


def test_nothing_of_wandb_is_imported_before_there_are_records(tmp_path):
    program = """
        import sys, torch
        from nectargan_core import LossManager
        manager = LossManager(observers=["wandb"])
        manager.register_loss_fn("G", torch.nn.L1Loss())
        manager.close()
        sys.exit("wandb" in sys.modules)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], cwd=tmp_path, timeout=120, check=False)
    assert done.returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_ranks_other_than_0_send_nothing(offline, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with manager_of() as manager:
        train(manager, 2)
    assert offline() == []


def test_a_run_that_cannot_begin_is_one_warning_and_costs_the_training_nothing(offline, tmp_path, monkeypatch):
    import wandb

    asked = []
    monkeypatch.setattr(wandb, "init", lambda **_: asked.append(0) or (_ for _ in ()).throw(wandb.Error("no server")))
    with warnings.catch_warnings(record=True) as caught, manager_of(directory=tmp_path) as manager:
        warnings.simplefilter("always")
        for step in range(3):
            train(manager, step + 1, first=step)
            manager.update_loss_log()
    first, last = (str(warning.message) for warning in caught)
    assert "WandB failed to observe nectargan_history_flushed" in first
    assert "cannot send to W&B, later flushes try again: no server" in first
    assert "what 3 flushes recorded was not sent to W&B: no server" in last
    assert len(asked) >= 1
    assert LossLog(tmp_path).series("G_L1").step.tolist() == [0, 1, 2]


def test_what_was_recorded_before_a_run_could_begin_is_sent_then(offline, monkeypatch):
    import wandb

    with manager_of() as manager:
        train(manager, 2)
        with monkeypatch.context() as away:
            away.setattr(wandb, "init", lambda **_: (_ for _ in ()).throw(wandb.Error("no server")))
            with pytest.warns(NectarganWarning, match="later flushes try again: no server"):
                manager.update_loss_log()
        train(manager, 4, first=2)
    assert offline()[0].curve("loss/G_VGG")[0] == [0, 1, 2, 3]


def test_a_try_to_begin_that_took_long_is_not_repeated_at_once(offline, monkeypatch):
    import wandb

    def init(**_):
        asked.append(0)
        time.sleep(1.1)
        raise wandb.Error("no server")

    asked = []
    monkeypatch.setattr(wandb, "init", init)
    with pytest.warns(NectarganWarning, match="no server"), manager_of() as manager:
        for step in range(3):
            train(manager, step + 1, first=step)
            manager.update_loss_log()
    assert asked == [0]


def test_the_files_stay_where_the_log_is_when_the_directory_changes(offline, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    manager = manager_of(directory="first")
    monkeypatch.chdir("elsewhere")
    train(manager, 2)
    manager.close()
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert (tmp_path / "first/wandb_run.json").exists()
    assert len(offline(tmp_path / "first")) == 1


@pytest.mark.parametrize(("end", "code"), [("1 / 0", 1), ("sys.exit(3)", 3), ("sys.exit()", 0)])
def test_a_program_says_how_it_ended_without_closing(offline, tmp_path, end, code):
    program = f"""
        import sys, torch
        from nectargan_core import LossManager
        manager = LossManager(observers=["wandb"])
        manager.register_loss_fn("G", torch.nn.L1Loss())
        for step in range(2):
            manager.tick(epoch=0)
            manager.compute_loss_xy("G", torch.zeros(1), torch.ones(1))
            manager.update_loss_log()
        {end}
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], cwd=tmp_path, capture_output=True, timeout=120, check=False
    )
    (run,) = offline()
    assert (done.returncode, run.exit_code, run.curve("loss/G")[0]) == (code, code, [0, 1])


def test_a_run_that_was_finished_meanwhile_is_one_warning(offline, tmp_path):
    import wandb

    run = wandb.init()
    manager = manager_of(directory=tmp_path)
    train(manager, 2)
    manager.update_loss_log()
    run.finish()
    train(manager, 4, first=2)
    with pytest.warns(NectarganWarning, match="nothing more of this run is sent to W&B: .*finished"):
        manager.update_loss_log()
    train(manager, 5, first=4)
    manager.close()
    assert LossLog(tmp_path).series("G_L1").step.tolist() == [0, 1, 2, 3, 4]


def test_a_training_is_not_stopped_to_ask_for_a_key(offline, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "online")
    manager = manager_of()
    train(manager, 1)
    with pytest.warns(NectarganWarning, match="call `wandb login` before the training, or set WANDB_MODE=offline"):
        manager.close()


def test_loss_maps_are_sent_when_they_are_due(offline):
    from PIL import Image

    pytest.importorskip("matplotlib")
    with LossManager(observers=[WandB(loss_maps=0.0)]) as manager:
        manager.register_loss_fn("G", torch.nn.L1Loss(reduction="none"))
        for _ in range(2):
            manager.tick(epoch=0)
            manager.compute_loss_xy("G", torch.zeros(1, 3, 4, 4), torch.ones(1, 3, 4, 4))
            manager.update_loss_log()
        drawn = io.BytesIO()
        manager.save_loss_maps(drawn)
    (run,) = offline()
    paths = [row["loss_maps.path"] for row in run.rows if "loss_maps.path" in row]
    assert len(paths) == 2
    with Image.open(run.directory / "files" / paths[1]) as image, Image.open(drawn) as expected:
        assert image.convert("RGB").tobytes() == expected.convert("RGB").tobytes()


def test_loss_maps_that_cannot_be_drawn_cost_nothing_else(offline, monkeypatch):
    def save_loss_maps(self, file):
        raise RuntimeError("no room")

    monkeypatch.setattr(LossManager, "save_loss_maps", save_loss_maps)
    with LossManager(observers=["wandb"]) as manager:
        manager.register_loss_fn("G", torch.nn.L1Loss(reduction="none"))
        with pytest.warns(NectarganWarning, match="no room"):
            for _ in range(2):
                manager.tick(epoch=0)
                manager.compute_loss_xy("G", torch.zeros(4), torch.ones(4))
                manager.update_loss_log()
            manager.close()
    (run,) = offline()
    assert (run.curve("loss/G")[0], run.exit_code) == ([0, 1], 0)
