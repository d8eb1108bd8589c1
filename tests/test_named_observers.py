"""Observers by name: found as plugins, made once, notified of records without a directory, and of superseded steps."""

import time

import pytest
import torch
from torch import nn

from nectargan_core import LossManager, catalog, hookimpl
from nectargan_core.errors import (
    ConfigError,
    NectarganWarning,
    PluginBlockedError,
    PluginContractError,
    PluginLoadError,
    PluginNotFoundError,
    SpecSyntaxError,
)

ONE = torch.ones(4)
MODULE = '''
from nectargan_core import hookimpl
from nectargan_core.errors import ConfigError

class Sink:
    """Keep what comes."""
    made = []

    def __init__(self):
        Sink.made.append(self)
        self.names = []

    @hookimpl
    def nectargan_history_flushed(self, chunks):
        self.names += [chunk.name for chunk in chunks]

class Needy:
    def __init__(self, where):
        pass

class Unready:
    def __init__(self):
        raise RuntimeError("no such server")

class Misconfigured:
    def __init__(self):
        raise ConfigError("set the project")

def idle():
    return 3

class Misspelt:
    @hookimpl
    def nectargan_history_flush(self, chunks):
        pass
'''


class Chunks:
    """Keeps all records, and where they were superseded."""

    def __init__(self):
        self.chunks, self.rewound = [], []

    @hookimpl
    def nectargan_history_flushed(self, chunks):
        self.chunks += chunks

    @hookimpl
    def nectargan_history_rewound(self, step):
        self.rewound.append(step)

    def steps(self, name):
        return [step for chunk in self.chunks if chunk.name == name for step in chunk.step.tolist()]


@pytest.fixture
def acme(site):
    names = ["sink", "needy", "unready", "misconfigured", "idle", "misspelt"]
    targets = [f"{name} = acme_sinks:{name if name == 'idle' else name.capitalize()}" for name in names]
    lines = "\n".join([f"[{catalog.OBSERVERS}]", *targets, "gone = acme_sinks:Gone", ""])
    site.install("acme-sinks", entry_points=lines, modules={"acme_sinks.py": MODULE})
    return site


@pytest.fixture
def made(acme):
    """The sinks that were made."""
    sink = catalog.find(catalog.OBSERVERS, "sink").load()
    sink.made.clear()
    return sink.made


def manager_of(*observers, **keywords):
    manager = LossManager(observers=observers, **keywords)
    manager.register_loss_fn("G_L1", nn.L1Loss(), 2.0)
    return manager


def train(manager, steps, start=None):
    for step in range(steps):
        manager.tick(epoch=0, step=None if start is None else start + step)
        manager.compute_loss_xy("G_L1", ONE, 0 * ONE)


@pytest.mark.parametrize("name", ["sink", "acme-sinks/sink", "Acme.Sinks/sink"])
def test_a_name_makes_an_observer_that_is_notified(made, name):
    with manager_of(name) as manager:
        train(manager, 2)
    assert [sink.names for sink in made] == [["G_L1"]]


def test_each_manager_has_an_observer_of_its_own(made):
    first, second = manager_of("sink"), manager_of("sink")
    assert len(made) == 2
    assert first.hooks.get_plugins() & second.hooks.get_plugins() == set()


def test_a_name_that_is_given_twice_is_one_observer(made):
    manager = manager_of("sink", "acme-sinks/sink")
    manager.add_observer("sink")
    assert len(made) == 1


def test_names_and_objects_are_given_together(made):
    chunks = Chunks()
    with manager_of("sink", chunks) as manager:
        train(manager, 1)
    assert (made[0].names, chunks.steps("G_L1")) == (["G_L1"], [0])


def test_from_spec_takes_names(made, site):
    site.install_spec("acme", "acme")
    with LossManager.from_spec("acme", observers=["sink"]) as manager:
        manager.compute_losses({"y_fake": ONE, "y": ONE})
    assert made[0].names == ["acme"]


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("snik", PluginNotFoundError, r"no observer 'snik' is installed for .* Did you mean \"sink\"\?"),
        ("linear", PluginNotFoundError, "'linear' is a schedule of nectargan-core"),
        ("sink:loud", SpecSyntaxError, "an observer is named by one name, .* without a variant; got 'sink:loud'"),
        ("", SpecSyntaxError, "expected the name of an observer, found an empty string"),
        ("needy", PluginContractError, r"must be callable with no arguments, and takes \(where\)"),
        ("unready", PluginLoadError, "observer unready .* cannot be made: RuntimeError: no such server"),
        ("misconfigured", ConfigError, "^set the project$"),
        ("idle", PluginContractError, "made 3, which has no function that is marked with nectargan_core.hookimpl"),
        ("misspelt", PluginContractError, 'there is no event .* Did you mean "nectargan_history_flushed"'),
        ("gone", PluginLoadError, "acme_sinks has no 'Gone'"),
    ],
)
def test_what_is_wrong_with_a_name_is_said_when_the_manager_is_made(acme, name, error, message):
    with pytest.raises(error, match=message):
        LossManager(observers=[name])


def test_a_name_as_such_is_no_list_of_observers():
    with pytest.raises(TypeError, match=r"observers is a list of names, such as \['tensorboard'\]"):
        LossManager(observers="tensorboard")


def test_a_failure_leaves_a_manager_as_it_was(made):
    manager = manager_of()
    with pytest.raises(PluginLoadError):
        manager.add_observer("unready")
    assert manager.hooks.get_plugins() == set()


def test_a_blocked_observer_says_so(acme):
    catalog.configure(block=["acme-sinks"])
    with pytest.raises(PluginBlockedError, match="observer sink .* is blocked"):
        LossManager(observers=["sink"])


def test_nothing_is_imported_for_a_manager_without_observers(acme):
    LossManager()
    assert catalog.find(catalog.OBSERVERS, "sink").imported() is None


def test_it_is_listed_with_the_other_plugins(acme):
    (entry,) = [entry for entry in catalog.plugins(catalog.OBSERVERS) if entry.plugin.name == "sink"]
    assert (entry.state, entry.plugin.kind) == ("available", "observer")


# Records without a directory


def test_without_a_directory_an_observer_gets_every_record():
    chunks = Chunks()
    with manager_of(chunks, history_buffer_size=10) as manager:
        train(manager, 35)
    assert chunks.steps("G_L1") == list(range(35))


def test_without_a_directory_records_are_dropped_once_they_are_told_of():
    manager = manager_of(Chunks(), history_buffer_size=10)
    train(manager, 1000)
    assert len(manager.series("G_L1")) <= 10
    assert manager.latest() == {"G_L1": 2.0}


def test_an_observer_that_comes_later_gets_the_records_from_then_on():
    manager, chunks = manager_of(), Chunks()
    train(manager, 3)
    manager.add_observer(chunks)
    train(manager, 3)
    manager.close()
    assert chunks.steps("G_L1") == [3, 4, 5]


def test_means_count_what_was_told_of():
    manager = manager_of(Chunks(), history_buffer_size=2)
    train(manager, 7)
    assert manager.means() == {"G_L1": 2.0}


def test_a_history_in_memory_that_was_asked_for_is_not_dropped():
    chunks = Chunks()
    manager = manager_of(chunks, enable_logging=True, history_buffer_size=5)
    train(manager, 20)
    manager.update_loss_log()
    assert len(manager.series("G_L1")) == len(chunks.steps("G_L1")) == 20


def test_an_observer_of_other_events_keeps_no_records():
    class Closing:
        @hookimpl
        def nectargan_manager_closed(self):
            pass

    manager = manager_of(Closing())
    train(manager, 5)
    assert len(manager.series("G_L1")) == 1


# Times


def test_records_have_times_in_proportion_to_their_steps(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "time", lambda: now[0])
    chunks = Chunks()
    manager = manager_of(chunks, experiment_dir=tmp_path)
    now[0] = 200.0
    train(manager, 4)
    with manager.split("val"):
        manager.compute_loss_xy("G_L1", ONE, ONE)
    now[0] = 208.0
    manager.update_loss_log()
    train(manager, 2)
    now[0] = 210.0
    manager.close()
    times = {chunk.name: chunk.time.tolist() for chunk in chunks.chunks[:2]}
    assert times == {"G_L1": [202.0, 204.0, 206.0, 208.0], "val/G_L1": [208.0]}
    assert chunks.chunks[2].time.tolist() == [209.0, 210.0]


def test_without_a_clock_they_are_in_proportion_to_the_records_of_each(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "time", lambda: now[0])
    chunks = Chunks()
    manager = manager_of(chunks)
    for _ in range(2):
        manager.compute_loss_xy("G_L1", ONE, ONE)
    now[0] = 110.0
    manager.close()
    assert chunks.chunks[0].time.tolist() == [105.0, 110.0]


# Superseded steps


def test_a_state_that_is_loaded_supersedes_what_came_after_it():
    chunks = Chunks()
    manager = manager_of(chunks)
    train(manager, 3)
    state = manager.state_dict()
    train(manager, 2)
    manager.load_state_dict(state)
    train(manager, 1)
    manager.close()
    assert chunks.rewound == [3]
    assert chunks.steps("G_L1") == [0, 1, 2, 3, 4, 3]


def test_so_it_does_in_another_process_without_a_log():
    manager = manager_of()
    train(manager, 3)
    chunks = Chunks()
    again = manager_of(chunks)
    again.load_state_dict(manager.state_dict())
    assert chunks.rewound == [3]


def test_a_resumed_run_that_goes_back_supersedes_its_steps(tmp_path):
    with manager_of(experiment_dir=tmp_path) as manager:
        train(manager, 5)
    chunks = Chunks()
    with manager_of(chunks, experiment_dir=tmp_path, resume=True) as manager:
        train(manager, 2, start=3)
    assert chunks.rewound == [3]


def test_a_resumed_run_that_goes_on_supersedes_nothing(tmp_path):
    with manager_of(experiment_dir=tmp_path) as manager:
        train(manager, 5)
    chunks = Chunks()
    with manager_of(chunks, experiment_dir=tmp_path, resume=True) as manager:
        train(manager, 2)
    assert (chunks.rewound, chunks.steps("G_L1")) == ([], [5, 6])


def test_an_observer_that_raises_there_is_a_warning():
    class Broken:
        @hookimpl
        def nectargan_history_rewound(self, step):
            raise ValueError("mine")

    manager = manager_of(Broken())
    train(manager, 1)
    with pytest.warns(NectarganWarning, match="Broken failed to observe nectargan_history_rewound: ValueError: mine"):
        manager.load_state_dict(manager.state_dict())


# A manager that nobody closes


def test_what_a_manager_recorded_is_told_of_when_nobody_refers_to_it_any_more():
    chunks, closed = Chunks(), []

    class Closing:
        @hookimpl
        def nectargan_manager_closed(self, manager):
            closed.append(list(manager.get_registered_losses()))

    manager = manager_of(chunks, Closing())
    train(manager, 3)
    del manager
    assert (chunks.steps("G_L1"), closed) == ([0, 1, 2], [["G_L1"]])


def test_a_manager_that_could_not_be_made_is_collected_in_silence():
    with pytest.raises(PluginNotFoundError):
        LossManager(observers=["nobody"])


def test_a_forked_process_tells_nobody():
    manager, closed = manager_of(), []

    class Closing:
        @hookimpl
        def nectargan_manager_closed(self):
            closed.append(1)

    manager.add_observer(Closing())
    manager._pid -= 1  # as in a process that was forked
    manager._finalizer.detach()
    del manager
    assert closed == []
