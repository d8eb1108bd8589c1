"""Observers: the events they are notified of, their order, and that they can neither change nor stop anything."""

import gc
import inspect
import math
import weakref

import pytest
import torch
from torch import nn

from nectargan_core import LMLoss, LossLog, LossManager, Schedule, hookimpl, hookspecs
from nectargan_core.errors import NectarganError, NectarganWarning, PluginContractError, SnapshotError

ONE = torch.ones(4)
EVENTS = [name for name in vars(hookspecs) if name.startswith("nectargan_")]


class Observer:
    """Records every event with its arguments."""

    def __init__(self):
        self.seen = []

    def events(self):
        return [event for event, _ in self.seen]

    def arguments(self, event):
        return [arguments for name, arguments in self.seen if name == event]

    @hookimpl
    def nectargan_losses_built(self, spec, losses, config):
        self.seen.append(("losses_built", {"spec": spec, "losses": losses, "config": config}))

    @hookimpl
    def nectargan_loss_registered(self, manager, loss):
        self.seen.append(("loss_registered", {"manager": manager, "loss": loss}))

    @hookimpl
    def nectargan_history_flushed(self, manager, chunks):
        self.seen.append(("history_flushed", {"manager": manager, "chunks": chunks}))

    @hookimpl
    def nectargan_nonfinite_loss(self, manager, loss_name, step, epoch, value):
        self.seen.append(("nonfinite_loss", {"loss_name": loss_name, "step": step, "epoch": epoch, "value": value}))

    @hookimpl
    def nectargan_manager_closed(self, manager):
        self.seen.append(("manager_closed", {"manager": manager}))


@pytest.fixture
def observer():
    return Observer()


def spec():
    return {"a": LMLoss(name="a", function=lambda x, y: (x / y).mean()), "b": LMLoss(name="b", function=nn.L1Loss())}


def test_there_are_six_events_and_each_is_documented():
    assert EVENTS == [
        "nectargan_losses_built",
        "nectargan_loss_registered",
        "nectargan_history_flushed",
        "nectargan_history_rewound",
        "nectargan_nonfinite_loss",
        "nectargan_manager_closed",
    ]
    assert all(inspect.getdoc(getattr(hookspecs, event)) for event in EVENTS)


def test_the_events_of_a_run_come_in_order(tmp_path, observer):
    with LossManager(experiment_dir=tmp_path, observers=[observer]) as manager:
        manager.init_from_spec(spec)
        manager.compute_losses({"y_fake": ONE, "y": ONE})
    told = ["losses_built", "loss_registered", "loss_registered", "history_flushed"]
    assert observer.events() == [*told, "manager_closed"]


def test_losses_built_has_the_spec_the_losses_and_the_configuration(observer, site):
    site.install_spec("acme", "acme")
    manager = LossManager(observers=[observer], device="cpu")
    manager.init_from_spec("acme", prefix="my_", weights={"my_acme": 5.0})
    manager.register_spec(spec)
    by_name, by_function = observer.arguments("losses_built")
    assert (by_name["spec"], list(by_name["losses"])) == ("acme", ["my_acme"])
    assert by_name["losses"]["my_acme"].loss_weight == 5.0
    assert by_name["config"].common.device == "cpu"
    assert (by_function["spec"], list(by_function["losses"])) == (spec, ["a", "b"])


def test_losses_built_is_notified_before_any_loss_is_registered():
    seen = []

    class Early:
        @hookimpl
        def nectargan_losses_built(self, losses):
            seen.append(list(manager.get_registered_losses()))

    manager = LossManager(observers=[Early()])
    manager.init_from_spec(spec)
    assert seen == [[]]


def test_an_observer_cannot_change_the_losses():
    class Meddler:
        @hookimpl
        def nectargan_losses_built(self, losses):
            with pytest.raises(SnapshotError):
                losses["a"].loss_weight = 5.0
            with pytest.raises(TypeError):
                losses["c"] = losses["a"]

        @hookimpl
        def nectargan_loss_registered(self, loss):
            with pytest.raises(SnapshotError):
                loss.tags.append("mine")

    manager = LossManager(observers=[Meddler()])
    manager.init_from_spec(spec)
    assert list(manager.get_registered_losses()) == ["a", "b"]


def test_loss_registered_has_the_manager_and_the_loss(observer):
    manager = LossManager(observers=[observer])
    manager.register_loss_fn("c", nn.L1Loss(), 3.0)
    (told,) = observer.arguments("loss_registered")
    assert told["manager"] is manager
    assert (told["loss"].name, told["loss"].loss_weight) == ("c", 3.0)
    assert observer.events() == ["loss_registered"]


def test_history_flushed_is_notified_once_a_flush_after_the_log_is_written(tmp_path, observer):
    written = []

    class Reader:
        @hookimpl
        def nectargan_history_flushed(self, manager, chunks):
            written.extend(len(LossLog(tmp_path).series(chunk.name)) for chunk in chunks)

    manager = LossManager(experiment_dir=tmp_path, observers=[observer, Reader()])
    manager.init_from_spec(spec)
    for _ in range(3):
        manager.tick(epoch=2)
        manager.compute_losses({"y_fake": ONE, "y": ONE})
    manager.update_loss_log()
    (chunks,) = [arguments["chunks"] for arguments in observer.arguments("history_flushed")]
    assert [(chunk.name, chunk.step.tolist(), chunk.loss.tolist()) for chunk in chunks] == [
        ("a", [0, 1, 2], [1.0, 1.0, 1.0]),
        ("b", [0, 1, 2], [0.0, 0.0, 0.0]),
    ]
    assert written == [3, 3]
    manager.update_loss_log()
    assert len(observer.arguments("history_flushed")) == 1


def test_chunks_are_in_the_order_of_their_first_steps(tmp_path, observer):
    with LossManager(experiment_dir=tmp_path, observers=[observer]) as manager:
        for name in "ba":
            manager.register_loss_fn(name, nn.L1Loss())
        for name in ("a", "b"):
            manager.tick()
            manager.compute_loss_xy(name, ONE, ONE)
    (told,) = observer.arguments("history_flushed")
    assert [chunk.name for chunk in told["chunks"]] == ["a", "b"]


@pytest.mark.parametrize(("buffer", "flush_every"), [(2, 1e9), (10**6, 0)])
def test_a_history_in_memory_is_told_of_as_well_each_record_once(observer, buffer, flush_every):
    manager = LossManager(
        enable_logging=True, observers=[observer], history_buffer_size=buffer, flush_every=flush_every
    )
    manager.register_loss_fn("a", nn.L1Loss())
    for step in range(7):
        manager.tick(step=step)
        manager.compute_loss_xy("a", ONE, ONE)
    assert observer.arguments("history_flushed")
    manager.close()
    told = [arguments["chunks"] for arguments in observer.arguments("history_flushed")]
    assert [step for (chunk,) in told for step in chunk.step.tolist()] == list(range(7))
    assert manager.series("a").step.tolist() == list(range(7))


def test_a_manager_that_is_to_keep_no_history_tells_of_none(observer):
    with LossManager(observers=[observer], enable_logging=False) as manager:
        manager.register_loss_fn("a", nn.L1Loss())
        manager.compute_loss_xy("a", ONE, ONE)
    assert observer.arguments("history_flushed") == []


def test_no_event_is_notified_per_step(tmp_path, observer):
    manager = LossManager(experiment_dir=tmp_path, observers=[observer])
    manager.init_from_spec(spec)
    observer.seen.clear()
    for _ in range(100):
        manager.tick(epoch=1)
        manager.compute_losses({"y_fake": ONE, "y": ONE})
        manager.get_loss_values()
    assert observer.seen == []


@pytest.mark.parametrize("nonfinite", ["warn", "ignore", "raise"])
def test_nonfinite_loss_is_notified_once_per_flush_with_the_first_bad_step(tmp_path, observer, nonfinite):
    manager = LossManager(experiment_dir=tmp_path, observers=[observer], nonfinite=nonfinite)
    manager.init_from_spec(spec)

    def step(y):
        manager.tick(epoch=1.5)
        try:
            manager.compute_losses({"y_fake": ONE, "y": y}, query="a")
        except NectarganError:
            assert nonfinite == "raise"

    def flush():
        try:
            manager.update_loss_log()
        except NectarganError:
            assert nonfinite == "raise"

    def quietly(action, *arguments):
        with pytest.warns(NectarganWarning) if nonfinite == "warn" else pytest.MonkeyPatch.context():
            action(*arguments)

    step(ONE)
    quietly(step, 0 * ONE)
    for action in (lambda: step(0 * ONE), flush, lambda: step(ONE), lambda: step(0 * ONE), flush):
        action()
    told = observer.arguments("nonfinite_loss")
    assert [(each["loss_name"], each["epoch"], each["value"]) for each in told] == [("a", 1.5, math.inf)] * 2
    assert [each["step"] for each in told] == [1, 4]


def test_manager_closed_is_notified_once_after_the_log_is_complete(tmp_path):
    counts = []

    class Last:
        @hookimpl
        def nectargan_manager_closed(self, manager):
            counts.append(len(LossLog(tmp_path).series("a")))

    with LossManager(experiment_dir=tmp_path, observers=[Last()]) as manager:
        manager.register_loss_fn("a", nn.L1Loss())
        manager.compute_loss_xy("a", ONE, ONE)
    manager.close()
    assert counts == [1]


@pytest.mark.parametrize("error", [ValueError("mine"), AssertionError("mine"), NectarganError("mine")])
def test_an_observer_that_raises_is_named_in_a_warning_and_does_not_affect_others_or_the_log(tmp_path, observer, error):
    class Broken:
        @hookimpl
        def nectargan_history_flushed(self, chunks):
            raise error

    manager = LossManager(experiment_dir=tmp_path, observers=[Broken(), observer, Broken()])
    manager.register_loss_fn("a", nn.L1Loss())
    manager.compute_loss_xy("a", ONE, ONE)
    said = rf"^Broken failed to observe nectargan_history_flushed: {type(error).__name__}: mine$"
    with pytest.warns(NectarganWarning, match=said) as caught:
        manager.update_loss_log()
    assert len(caught) == 2
    assert len(observer.arguments("history_flushed")) == 1
    assert len(LossLog(tmp_path).series("a")) == 1


def test_an_interrupt_is_not_swallowed():
    class Interrupted:
        @hookimpl
        def nectargan_loss_registered(self, loss):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        LossManager(observers=[Interrupted()]).register_loss_fn("a", nn.L1Loss())


def test_an_observer_takes_the_arguments_that_it_names():
    steps = []

    class Terse:
        @hookimpl
        def nectargan_nonfinite_loss(self, step):
            steps.append(step)

    manager = LossManager(observers=[Terse()], nonfinite="ignore")
    manager.register_loss_fn("a", lambda x, y: (x / 0).mean())
    manager.tick(step=7)
    manager.compute_loss_xy("a", ONE, ONE)
    assert steps == [7]


def test_an_observer_that_is_given_twice_is_notified_once(observer):
    manager = LossManager(observers=[observer, observer])
    manager.register_loss_fn("a", nn.L1Loss())
    assert observer.events() == ["loss_registered"]


def test_each_manager_has_its_own_observers(observer):
    first, second = LossManager(observers=[observer]), LossManager()
    second.register_loss_fn("a", nn.L1Loss())
    assert observer.seen == []
    assert first.hooks is not second.hooks
    assert first.hooks.is_registered(observer)


class Misspelt:
    @hookimpl
    def nectargan_history_flushd(self, chunk): ...


class Demanding:
    @hookimpl
    def nectargan_history_flushed(self, chunks, colour): ...


class Wrapping:
    @hookimpl(wrapper=True)
    def nectargan_history_flushed(self, chunks):
        return (yield)


class WrappingAsOfOld:
    @hookimpl(hookwrapper=True)
    def nectargan_history_flushed(self, chunks):
        yield


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (Misspelt, f"there is no event nectargan_history_flushd, only {', '.join(EVENTS)}. Did you mean"),
        (Demanding, "'colour' is no argument of nectargan_history_flushed, which has manager, chunks"),
        (Wrapping, "hooks only observe"),
        (WrappingAsOfOld, "hooks only observe"),
    ],
)
def test_an_invalid_hook_is_refused_when_the_observer_is_added(kind, said):
    with pytest.raises(PluginContractError) as caught:
        LossManager(observers=[kind()])
    message = str(caught.value)
    assert message.startswith(f"{kind.__name__} cannot observe this manager: ")
    assert said in message
    assert "\n" not in message


def test_a_refused_object_is_not_added_as_an_observer():
    manager = LossManager()
    with pytest.raises(PluginContractError):
        manager._observers.add(Misspelt())
    assert list(manager.hooks.get_plugins()) == []


SCHEDULE = """
from nectargan_core import hookimpl
seen = []

def flat(schedule, epoch):
    return 1.0

@hookimpl
def nectargan_loss_registered(loss):
    seen.append(loss.name)
"""


@pytest.mark.parametrize("how", ["register", "set_schedule"])
def test_the_module_of_a_schedule_observes_the_managers_that_use_it(site, how):
    site.install("acme", schedules={"flat": "acme:flat"}, modules={"acme.py": SCHEDULE})
    manager, other = LossManager(), LossManager()
    schedule = Schedule("flat", end_epoch=3)
    manager.register_loss_fn("a", nn.L1Loss(), schedule=schedule if how == "register" else None)
    if how == "set_schedule":
        manager.set_schedule("a", schedule)
    manager.register_loss_fn("b", nn.L1Loss())
    other.register_loss_fn("c", nn.L1Loss())
    import acme

    assert acme.seen == (["a", "b"] if how == "register" else ["b"])


def test_the_module_of_a_schedule_observes_nothing_if_another_schedule_is_unknown(site):
    site.install("acme", schedules={"flat": "acme:flat"}, modules={"acme.py": SCHEDULE})
    manager = LossManager()
    losses = {
        "a": LMLoss(name="a", function=nn.L1Loss(), schedule=Schedule("flat", end_epoch=3)),
        "b": LMLoss(name="b", function=nn.L1Loss(), schedule=Schedule("no-such-curve")),
    }
    with pytest.raises(NectarganError):
        manager.init_from_spec(lambda: losses)
    assert list(manager.hooks.get_plugins()) == []


def test_the_module_of_a_schedule_observes_nothing_if_another_loss_cannot_be_moved(site):
    class Immovable(nn.Module):
        def to(self, *args, **kwargs):
            raise RuntimeError("no such device")

    site.install("acme", schedules={"flat": "acme:flat"}, modules={"acme.py": SCHEDULE})
    manager = LossManager(device="cpu")
    losses = {
        "a": LMLoss(name="a", function=nn.L1Loss(), schedule=Schedule("flat", end_epoch=3)),
        "b": LMLoss(name="b", function=Immovable()),
    }
    with pytest.raises(NectarganError):
        manager.init_from_spec(lambda: losses)
    assert list(manager.hooks.get_plugins()) == []


def test_observers_do_not_keep_the_manager_alive(observer):
    manager = LossManager(observers=[observer])
    gone = weakref.ref(manager)
    del manager
    observer.seen.clear()  # It has been notified of the end, with the manager.
    gc.collect()
    assert gone() is None


def test_when_manager_closed_is_notified_the_log_is_complete_and_computing_is_an_error(tmp_path):
    seen = []

    class Watcher:
        @hookimpl
        def nectargan_manager_closed(self, manager):
            manager.close()  # closes again, which does nothing
            with pytest.raises(NectarganError, match="closed"):
                manager.compute_loss_xy("a", torch.zeros(1), torch.ones(1))
            seen.append(len(LossLog(tmp_path).series("a")))

    manager = LossManager(experiment_dir=tmp_path, observers=[Watcher()])
    manager.register_loss_fn("a", torch.nn.L1Loss())
    manager.compute_loss_xy("a", torch.zeros(1), torch.ones(1))
    manager.close()
    assert seen == [1]


class NotMarked:
    def nectargan_manager_closed(self):
        pass


@pytest.mark.parametrize(
    ("observer", "said"),
    [
        (object(), "none of its functions is marked"),
        (NotMarked(), "none of its functions is marked"),
        (Observer, r"it is a class; give an object of it, such as Observer\(\)"),
    ],
)
def test_an_observer_that_would_never_be_notified_is_refused(observer, said):
    with pytest.raises(PluginContractError, match=said):
        LossManager(observers=[observer])
