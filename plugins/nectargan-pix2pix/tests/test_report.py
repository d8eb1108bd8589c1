"""The report: PSNR, the curves, the grid of images, and the closing table."""

import io

import numpy as np
import pytest
import torch
from nectargan_pix2pix.report import Result, closing_table, draw_curves, draw_grid, psnr
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

from nectargan_core import LossLog, LossManager, Schedule


@pytest.fixture
def log(tmp_path):
    """Three epochs of two steps; G_L1 falls from 100 to 0 with its weight, D_real is step + 1."""
    with LossManager(experiment_dir=tmp_path) as manager:
        decay = Schedule(end_epoch=2, target_value=0.0)
        manager.register_loss_fn("G_L1", lambda y_fake, y: (y_fake - y).mean(), 100.0, decay)
        manager.register_loss_fn("D_real", lambda pred: pred.mean(), inputs=("pred_real",))
        for epoch in range(3):
            for batch in range(2):
                manager.tick(epoch=epoch)
                step = torch.tensor(2.0 * epoch + batch + 1)
                manager.compute_losses({"y_fake": torch.ones(2), "y": torch.zeros(2), "pred_real": step})
    return LossLog(tmp_path)


def image(value, height=32, width=40):
    return torch.full((3, height, width), float(value))


def test_psnr_agrees_with_scikit_image():
    first, second = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    expected = peak_signal_noise_ratio(second.numpy(), first.numpy(), data_range=2)
    assert psnr(first, second) == pytest.approx(expected, rel=1e-5)


def test_psnr_of_equal_images_is_infinite():
    assert psnr(image(0.5), image(0.5)) == float("inf")


def test_table_gives_the_means_of_the_first_and_the_last_epoch(log):
    lines = closing_table(log, [(20.0, 25.0)]).splitlines()
    assert [line.split() for line in lines[:3]] == [
        ["loss,", "weighted", "weight", "epoch", "1", "epoch", "3"],
        ["G_L1", "100", "->", "0", "100.0000", "0.0000"],
        ["D_real", "1", "1.5000", "5.5000"],
    ]


def test_table_gives_the_mean_psnr_and_the_gain(log):
    last = closing_table(log, [(20.0, 25.0), (22.0, 24.0)]).splitlines()[-1]
    assert last == "held-out PSNR, mean of 2: input 21.00 dB, output 24.50 dB (+3.50 dB)"


def test_columns_of_the_table_are_aligned(log):
    lines = closing_table(log, [(20.0, 25.0)]).splitlines()[:3]
    assert len({len(line) for line in lines}) == 1


def test_a_table_of_one_epoch_has_one_column(tmp_path):
    with LossManager(experiment_dir=tmp_path) as manager:
        manager.register_loss_fn("G_L1", torch.nn.L1Loss())
        manager.tick(epoch=0)
        manager.compute_losses({"y_fake": torch.ones(2), "y": torch.zeros(2)})
    lines = closing_table(LossLog(tmp_path), [(20.0, 25.0)]).splitlines()
    assert [line.split() for line in lines[:2]] == [
        ["loss,", "weighted", "weight", "epoch", "1"],
        ["G_L1", "1", "1.0000"],
    ]


def test_a_loss_without_records_in_an_epoch_has_no_mean_there(log, tmp_path):
    with LossManager(experiment_dir=tmp_path, resume=True) as manager:
        manager.register_loss_fn("G_LATE", torch.nn.L1Loss())
        manager.tick(epoch=2)
        manager.compute_losses({"y_fake": torch.ones(2), "y": torch.zeros(2)})
    lines = closing_table(LossLog(tmp_path), [(20.0, 25.0)]).splitlines()
    assert ["G_LATE", "1", "-", "1.0000"] in [line.split() for line in lines]


# The curves


def test_the_curves_are_those_of_the_log(log, tmp_path):
    draw_curves(log, tmp_path / "curves.png")
    expected = io.BytesIO()
    log.plot().savefig(expected, format="png")
    with Image.open(tmp_path / "curves.png") as drawn, Image.open(expected) as plotted:
        assert drawn.format == "PNG"
        assert np.array_equal(np.asarray(drawn), np.asarray(plotted))


# The grid


def read(path):
    with Image.open(path) as picture:
        return np.asarray(picture)


def place_of(pixels, color):
    """Return the rows and columns that a color is in, as first and last."""
    rows, columns = np.nonzero((pixels == color).all(-1))
    return rows.min(), rows.max(), columns.min(), columns.max()


def colored(red, green, blue, height=32, width=32):
    return (torch.tensor([red, green, blue]) / 127.5 - 1).reshape(3, 1, 1).expand(3, height, width)


RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def test_grid_shows_the_pixels_of_each_image(tmp_path):
    results = [Result(colored(*RED), colored(*GREEN), colored(*BLUE)), Result(*[image(-1, 48, 300)] * 3)]
    draw_grid(results, "epoch 1 of 2", tmp_path / "grid.png")
    pixels = read(tmp_path / "grid.png")
    for column, color in enumerate((RED, GREEN, BLUE)):
        left = 8 + column * 308
        assert place_of(pixels, color) == (52, 83, left, left + 31)


@pytest.mark.parametrize("side", [32, 64, 256])
def test_captions_have_their_own_columns_and_are_not_cut(tmp_path, side):
    results = [Result(*(colored(*color, side, side) for color in (RED, GREEN, BLUE)))]
    draw_grid(results, "epoch 1", tmp_path / "grid.png")
    pixels = read(tmp_path / "grid.png")
    lefts = [place_of(pixels, color)[2] for color in (RED, GREEN, BLUE)]
    # In the line of captions nothing is written in front of a column, nor at the right edge.
    captions = (pixels[26:52] != 255).any((0, 2))
    for left in lefts:
        assert not captions[left - 6 : left].any()
        assert captions[left : left + 40].any()
    assert not captions[-4:].any()


@pytest.mark.parametrize("title", ["pix2pix + " * 40 + "epoch 1", "G" * 300, ""])
def test_a_title_of_any_length_is_not_cut(tmp_path, title):
    draw_grid([Result(colored(*RED), image(0, 32, 32), image(0, 32, 32))], title, tmp_path / "grid.png")
    pixels = read(tmp_path / "grid.png")
    above = place_of(pixels, RED)[0] - 26
    assert not (pixels[:above, -4:] != 255).any()
    assert above >= 26 * (len(title) // 60)


def test_a_grid_is_replaced_as_a_whole(tmp_path):
    results = [Result(image(0), image(0), image(0))]
    draw_grid(results, "epoch 1", tmp_path / "grid.png")
    draw_grid(results, "epoch 2", tmp_path / "grid.png")
    assert [path.name for path in tmp_path.iterdir()] == ["grid.png"]


def test_a_gain_that_rounds_to_zero_has_no_minus_sign(log):
    assert closing_table(log, [(20.0, 19.999)]).endswith("(+0.00 dB)")
