"""The objective as TensorBoard shows it: what is in the text is shown as it is, and nothing of it is code."""

import html
import json
import warnings

import pytest
import torch
from nectargan_tensorboard.objective import hyperparameters, markdown

from nectargan_core import LossManager, Schedule

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of what TensorBoard brings along
    from tensorboard import plugin_util


@pytest.fixture
def manager():
    manager = LossManager(total_epochs=20)
    manager.register_loss_fn("G_L1", torch.nn.L1Loss(), loss_weight=100.0, tags=["G", "image"])
    falling = Schedule(start_epoch=0, end_epoch=10, target_value=0.0)
    manager.register_loss_fn("G_L2", torch.nn.MSELoss(), loss_weight=0.25, schedule=falling)
    return manager


def rows(text):
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_the_table_has_a_row_for_each_loss_and_the_columns_that_are_filled(manager):
    headings, first, second = rows(markdown(manager.manifest()))
    assert headings == ["loss", "weight", "schedule", "tags", "inputs", "function"]
    assert first == [r"G\_L1", "100", "", "G, image", r"y\_fake, y", "torch.nn:L1Loss"]
    assert second[:2] == [r"G\_L2", "0.25"]
    assert "end" in second[2]


def test_the_manifest_stands_below_as_it_is(manager):
    block = markdown(manager.manifest()).partition("```json\n")[2].partition("\n```")[0]
    assert json.loads(block) == manager.manifest().to_dict()


@pytest.mark.parametrize(
    "name",
    ["<script>alert(1)", "a|b", "**bold**", "`code`", "[x](javascript:y)", "```", "a\nb", "#1", "1. x", "a&amp;b"],
)
def test_names_are_shown_as_text(name):
    manager = LossManager()
    manager.register_loss_fn(name, torch.nn.L1Loss())
    page = plugin_util.markdown_to_safe_html(markdown(manager.manifest()))
    table = page.partition("<tbody>")[2].partition("</tbody>")[0]
    assert f"<td>{html.escape(' '.join(name.split()), quote=False)}</td>" in table
    assert table.count("<tr>") == 1
    assert page.count("<pre>") == 1


def test_an_objective_without_losses_has_no_row():
    assert markdown(LossManager().manifest()).startswith("**no formula**\n\n")


def test_the_columns_of_a_run_are_its_formula_its_length_and_its_weights(manager):
    assert hyperparameters(manager.manifest()) == {"total_epochs": 20.0, "weight/G_L1": 100.0, "weight/G_L2": 0.25}
    assert hyperparameters(LossManager.from_spec("pix2pix").manifest())["objective"] == "pix2pix"
