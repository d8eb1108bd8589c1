"""Code for NectarGAN, with the changes that the page about coming from it names, against plain torch.

`BEFORE` is written for NectarGAN 0.2.3, and has every call that the page lists. Only what the page says is changed in
it before it runs here. What it gives is compared with losses, weights, learning rates and training steps written out.
"""

import contextlib
import copy
import io
import json
import re
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from nectargan_core import LossLog, LossManager

PAGE = (Path(__file__).parent.parent / "docs/coming-from-nectargan.md").read_text(encoding="utf-8")

BEFORE = """
import json
from nectargan_core import LossLog, errors

import torch

from nectargan.config.config_manager import ConfigManager
from nectargan.config.config_data import Config
from nectargan.losses.loss_manager import LossManager
from nectargan.losses.lm_data import LMLoss, LMHistory
from nectargan.losses.losses import Sobel, Laplacian, VGGPerceptual
import nectargan.losses.pix2pix_objective as spec
from nectargan.scheduling.data import Schedule
from nectargan.scheduling.scheduler import Scheduler
from nectargan.scheduling.scheduler_torch import TorchScheduler
from nectargan.scheduling.schedules import schedule_map


def halving(schedule, epoch):
    return schedule.initial_value * 0.5**epoch


def own_spec(config):
    return {"G_OWN": LMLoss(name="G_OWN", function=torch.nn.L1Loss(), loss_weight=10.0, tags=["G"])}


def with_own_spec(config, experiment_dir, y_fake, y):
    loss_manager = LossManager(config, experiment_dir, enable_logging=False)
    loss_manager.init_from_spec(own_spec, config)
    return loss_manager.compute_loss_xy("G_OWN", y_fake, y).item()


def with_vgg(config, experiment_dir, y_fake, y):
    loss_manager = LossManager(config, experiment_dir, enable_logging=False)
    loss_manager.init_from_spec(spec.pix2pix, config, "basic+vgg")
    return loss_manager.compute_loss_xy("G_VGG", y_fake, y, 1).item()


def value_of_a_schedule():
    value = Scheduler(Schedule("linear", 0, 10, 4.0, 0.0)).eval_schedule(3)
    return value


def size_of_the_buffer(config, other_dir):
    loss_manager = LossManager(config, other_dir)
    loss_manager.buffer_size = 500
    return loss_manager


def missing(config_file):
    try:
        ConfigManager(config_file)
    except FileNotFoundError:
        return True
    return False


def train(config_file, experiment_dir, generator, discriminator, batches, epochs):
    seen = []
    config_manager = ConfigManager(config_file)
    config = config_manager.data
    assert config_manager.raw["common"]["device"] == config.common.device
    config_manager.export_config(experiment_dir)
    config.train.discriminator.learning_rate = config.train.generator.learning_rate
    rate = config.train.discriminator.learning_rate

    loss_manager = LossManager(config, experiment_dir, enable_logging=True)
    assert isinstance(loss_manager, LossManager)
    loss_manager.export_base_log()
    loss_manager.init_from_spec(spec.pix2pix, config, "basic")
    decay = Schedule(schedule="linear", start_epoch=2, end_epoch=4, initial_value=100.0, target_value=0.0)
    loss_manager.register_loss_fn("G_DECAY", torch.nn.L1Loss(), schedule=decay, tags=["extra"])
    fade = Schedule(end_epoch=4, target_value=0.0)
    loss_manager.register_loss_fn("G_FADE", torch.nn.MSELoss(), loss_weight=100.0, schedule=fade)
    schedule_map["halving"] = halving
    own = Schedule(schedule="halving", initial_value=8.0)
    loss_manager.register_loss_fn("G_HALF", torch.nn.SmoothL1Loss(), schedule=own, tags=["extra"])

    networks, schedulers = {"G": generator, "D": discriminator}, {}
    for name, network in networks.items():
        optimizer = torch.optim.Adam(network.parameters(), lr=rate.initial, betas=(0.5, 0.999))
        schedule = Schedule(
            start_epoch=rate.epochs,
            end_epoch=1 + rate.epochs + rate.epochs_decay,
            initial_value=rate.initial,
            target_value=rate.target,
        )
        scheduler = TorchScheduler(optimizer, schedule)
        networks[name], schedulers[name] = (network, optimizer), scheduler

    first = 1 + config.train.load.load_epoch if config.train.load.continue_train else 1
    for epoch in range(first, first + epochs):
        for index, (x, y) in enumerate(batches):
            y_fake = generator(x)
            D_real = discriminator(torch.cat([x, y], 1))
            D_fake = discriminator(torch.cat([x, y_fake.detach()], 1))
            loss_D_real = loss_manager.compute_loss_xy("D_real", D_real, torch.ones_like(D_real), epoch)
            loss_D_fake = loss_manager.compute_loss_xy("D_fake", D_fake, torch.zeros_like(D_fake), epoch)
            _, optimizer = networks["D"]
            optimizer.zero_grad()
            ((loss_D_real + loss_D_fake) * 0.5).backward()
            optimizer.step()

            D_fake = discriminator(torch.cat([x, y_fake], 1))
            loss_G = loss_manager.compute_loss_xy("G_GAN", D_fake, torch.ones_like(D_fake), epoch)
            for name in ("G_L1", "G_DECAY", "G_FADE", "G_HALF"):
                loss_G += loss_manager.compute_loss_xy(name, y_fake, y, epoch)
            _, optimizer = networks["G"]
            optimizer.zero_grad()
            loss_G.backward()
            optimizer.step()

            loss_manager.print_losses(epoch, index)
            tensors = loss_manager.get_loss_tensors(query=["G"])
            seen.append((loss_G.item(), {name: tensor.item() for name, tensor in tensors.items()}))
            seen.append(loss_manager.get_loss_values(query=["G"]))
            seen.append(loss_manager.get_loss_values(query=["D"], precision=4))
        losses = loss_manager.get_registered_losses(query=["G"])
        seen.append({name: loss.schedule.current_value for name, loss in losses.items()})
        seen.append(loss_manager.get_loss_weights(precision=4))
        loss_manager.print_weights()
        loss_manager.update_loss_log(silent=False)
        for scheduler in schedulers.values():
            scheduler.step()
            before, after = scheduler.get_lr()
            seen.append((before, after))
        loss_manager.loss_fns["G_L1"].schedule.current_value = 50.0
    log = json.loads((experiment_dir / "loss_log.json").read_text())
    return seen, log["LOSSMANAGER_LOG"]
"""

CONFIG = {
    "common": {"device": "cpu", "gpu_ids": [0]},
    "dataloader": {"dataroot": "data", "load": {"input_nc": 3, "crop_size": 16}},
    "train": {
        "load": {"continue_train": False, "load_epoch": 1},
        "generator": {"learning_rate": {"epochs": 1, "epochs_decay": 2, "initial": 2e-4, "target": 0.0}},
        "discriminator": {"learning_rate": None},
        "loss": {"lambda_gan": 1.0, "lambda_l1": 100.0, "lambda_vgg": 10.0},
    },
}
EPOCHS = 3


# The page


def rows(heading):
    """The code in the first two cells of each row of the table under a heading, empty where there is none."""
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"^\| `(.*?)` \| (?:`(.*?)`)?.*\|$", section, re.M)


def diffs():
    """Each change of the page, as the lines before and the lines after it."""
    found = []
    for block in re.findall(r"^```diff\n(.*?)```$", PAGE, re.M | re.S):
        lines = block.splitlines()
        found.append([[line[1:] for line in lines if line[0] in kept] for kept in (" -", " +")])
    return found


def changed():
    """`BEFORE` with the changes of the page and no others."""
    text = BEFORE
    for before, after in rows("Imports"):
        assert f"\n{before}\n" in text, before
        text = text.replace(f"\n{before}\n", "\n" + after.replace("; ", "\n") + "\n")
    for before, after in diffs():
        pattern = r"^( *)" + r"\n\1".join(map(re.escape, before)) + r"\n"
        (found,) = re.finditer(pattern, text, re.M)
        lines = "".join(f"{found[1]}{line}\n" for line in after)
        text = text[: found.start()] + lines + text[found.end() :]
    return text


@pytest.mark.parametrize("call", [call for call, _ in rows("Calls that need nothing else")])
def test_every_call_that_needs_nothing_else_is_in_the_example(call):
    assert call in BEFORE


def test_no_import_of_nectargan_is_left():
    assert re.findall(r"^(?:from|import) nectargan\b.*", changed(), re.M) == []
    assert len(rows("Imports")) == 10


# The example


@pytest.fixture(scope="module")
def module():
    """What the changed example defines."""
    for name in ("nectargan_pix2pix", "nectargan_sobel", "nectargan_laplacian", "nectargan_vgg"):
        pytest.importorskip(name)
    namespace = {}
    exec(changed(), namespace)
    return namespace


def networks():
    torch.manual_seed(0)
    generator = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, 3, 3, padding=1), nn.Tanh())
    discriminator = nn.Sequential(nn.Conv2d(6, 4, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(4, 1, 4))
    batches = [(torch.rand(2, 3, 16, 16) * 2 - 1, torch.rand(2, 3, 16, 16) * 2 - 1) for _ in range(2)]
    return generator, discriminator, batches


def trained(module, directory, config=CONFIG):
    """What the example sees, logs and prints, and the networks that it has trained."""
    (directory / "run").mkdir()
    (directory / "config.json").write_text(json.dumps({"config": config}))
    generator, discriminator, batches = networks()
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        seen, log = module["train"](
            directory / "config.json", directory / "run", generator, discriminator, batches, EPOCHS
        )
    return seen, log, printed.getvalue().splitlines(), [generator, discriminator]


def between(start, end, initial, target, epoch):
    """The line that NectarGAN draws, at whole epochs."""
    sample = max(0.0, min(1.0, (float(epoch) - start) / (float(end) - start)))
    return initial + sample * (target - initial)


def by_hand(first=1):
    """The same training without a manager: what `trained` returns, without the example's own log header."""
    generator, discriminator, batches = networks()
    optimizers = [torch.optim.Adam(net.parameters(), lr=2e-4, betas=(0.5, 0.999)) for net in (generator, discriminator)]
    bce, seen, printed, losses, weights = functional.binary_cross_entropy_with_logits, [], [], {}, {}
    for epoch in range(first, first + EPOCHS):
        # NectarGAN's ends, 1 less than what is written.
        weight = {"G_GAN": 1.0, "G_L1": 100.0 if epoch == first else 50.0, "D_real": 1.0, "D_fake": 1.0}
        weight["G_DECAY"] = between(2 - 1, 4 - 1, 100.0, 0.0, epoch)
        weight["G_FADE"] = between(0 - 1, 4 - 1, 1.0, 0.0, epoch)
        weight["G_HALF"] = 8.0 * 0.5**epoch
        for index, (x, y) in enumerate(batches):
            y_fake = generator(x)
            real, fake = discriminator(torch.cat([x, y], 1)), discriminator(torch.cat([x, y_fake.detach()], 1))
            value = {"D_real": bce(real, torch.ones_like(real)), "D_fake": bce(fake, torch.zeros_like(fake))}
            optimizers[1].zero_grad()
            ((value["D_real"] + value["D_fake"]) * 0.5).backward()
            optimizers[1].step()

            fake = discriminator(torch.cat([x, y_fake], 1))
            value["G_GAN"] = bce(fake, torch.ones_like(fake))
            value["G_L1"] = (y_fake - y).abs().mean() * weight["G_L1"]
            value["G_DECAY"] = (y_fake - y).abs().mean() * weight["G_DECAY"]
            value["G_FADE"] = functional.mse_loss(y_fake, y) * weight["G_FADE"]
            value["G_HALF"] = functional.smooth_l1_loss(y_fake, y) * weight["G_HALF"]
            total = value["G_GAN"] + value["G_L1"] + value["G_DECAY"] + value["G_FADE"] + value["G_HALF"]
            optimizers[0].zero_grad()
            total.backward()
            optimizers[0].step()

            value = {name: value[name].item() for name in weight}
            for name in weight:
                losses.setdefault(name, []).append(value[name])
                weights.setdefault(name, []).append(weight[name])
            shown = " ".join(f"{name}: {round(value[name], 2)}" for name in weight)
            printed.append(f"(epoch: {epoch}, iters: {index}) Loss: {shown}")
            seen.append((total.item(), {name: value[name] for name in ("G_GAN", "G_L1")}))
            seen.append({name: round(value[name], 2) for name in ("G_GAN", "G_L1")})
            seen.append({name: round(value[name], 4) for name in ("D_real", "D_fake")})
        seen.append({name: weight[name] for name in ("G_GAN", "G_L1")})
        seen.append({name: round(weight[name], 4) for name in weight})
        printed.append("Loss weights: " + " ".join(f"{name}: {round(weight[name], 2)}" for name in weight))
        # Counted from 0 in each run. One epoch at the full rate, then down to 0 after three.
        done = epoch - first + 1
        for optimizer in optimizers:
            before = optimizer.param_groups[0]["lr"]
            optimizer.param_groups[0]["lr"] = 2e-4 * between(1 - 1, 4 - 1, 1.0, 0.0, done)
            seen.append((before, optimizer.param_groups[0]["lr"]))
    logged = {name: {"loss": losses[name], "weights": weights[name]} for name in losses}
    return seen, logged, printed, [generator, discriminator]


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tmp_path_factory.mktemp("coming")


@pytest.fixture(scope="module")
def example(module, directory):
    return trained(module, directory)


@pytest.fixture(scope="module")
def expected():
    return by_hand()


def test_the_example_sees_exactly_the_numbers_of_plain_torch(example, expected):
    assert len(example[0]) == len(expected[0])
    assert example[0] == expected[0]


def test_the_example_trains_exactly_the_networks_of_plain_torch(example, expected):
    for network, by_torch in zip(example[3], expected[3], strict=True):
        for name, value in network.state_dict().items():
            assert torch.equal(value, by_torch.state_dict()[name])


def test_the_example_prints_exactly_the_lines_of_the_original(example, expected):
    printed = [line for line in example[2] if not line.startswith("Loss log: ")]
    assert printed == expected[2]


def test_the_example_logs_exactly_the_numbers_of_plain_torch(example, expected):
    header = {"device": "cpu", "dataroot": "data", "dataset_length": 1, "experiment": "run"}
    assert example[1] == {**header, "loss_functions": expected[1]}


@pytest.mark.usefixtures("example")
def test_the_example_exports_its_config_as_it_was_read(directory):
    assert (directory / "run/train1_config.json").read_text() == json.dumps({"config": CONFIG}, indent=4)


def test_a_run_that_continues_counts_its_epochs_on(module, tmp_path):
    config = copy.deepcopy(CONFIG)
    config["train"]["load"]["continue_train"] = True
    assert trained(module, tmp_path, config)[0] == by_hand(first=2)[0]


def test_a_spec_of_ones_own_needs_another_import_only(module, tmp_path):
    value = module["with_own_spec"]({}, tmp_path, torch.zeros(4), torch.full((4,), 0.25))
    assert value == 2.5


def test_a_schedule_is_evaluated_with_the_value_of_the_original(module):
    assert module["value_of_a_schedule"]() == between(0 - 1, 10 - 1, 4.0, 0.0, 3) / 4.0


def test_the_size_of_the_buffer_is_taken(module, tmp_path):
    with module["size_of_the_buffer"]({}, tmp_path) as manager:
        manager.register_loss_fn("a", nn.L1Loss())
        for _ in range(501):
            manager.compute_loss_xy("a", torch.zeros(1), torch.ones(1))
        assert len(LossLog(tmp_path).series("a")) == 500


def test_a_missing_config_is_caught(module, tmp_path):
    assert module["missing"](tmp_path / "none.json")


def test_the_option_of_vgg_compares_the_features_of_the_raw_images(module, tmp_path, monkeypatch):
    vgg = pytest.importorskip("nectargan_vgg")
    plain = vgg.vgg

    def untrained(config, subspec="perceptual", **options):
        return plain(config, subspec, **options, checkpoint="random")

    # Without the weights, which would be downloaded.
    monkeypatch.setattr(vgg, "vgg", untrained)
    torch.manual_seed(0)
    y_fake, y = torch.rand(2, 1, 3, 32, 32).unbind()
    raw = vgg.VGGPerceptual(normalize=False, checkpoint="random")
    expected = 10.0 * raw(y_fake, y)
    assert module["with_vgg"](CONFIG, tmp_path, y_fake, y) == pytest.approx(expected.item(), rel=1e-6)


def test_a_learning_rate_that_is_copied_into_a_schedule_is_multiplied_twice():
    from nectargan_core import Schedule, TorchScheduler

    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2e-4)
    TorchScheduler(optimizer, Schedule(start=99, end=200, initial_value=2e-4, target_value=0.0))
    assert optimizer.param_groups[0]["lr"] == pytest.approx(4e-8)


def test_an_attribute_of_the_original_is_gone():
    names = ("export_base_log", "loss_fns", "loss_log", "buffer_size", "dummy")
    assert not any(hasattr(LossManager(), name) for name in names)
