"""The configuration: reading NectarGAN's config.json, unknown keys, weights, and errors."""

import copy
import json
import pickle

import pytest
import torch

from nectargan_core import Config, ConfigManager, LMLoss
from nectargan_core.config import ConfiguredWeight
from nectargan_core.errors import ConfigError

SHIPPED = {
    "config": {
        "common": {"device": "cpu", "output_directory": "/runs"},
        "dataloader": {"dataroot": "/data/facades", "load": {"input_nc": 3, "crop_size": 256, "workers": 4}},
        "train": {"loss": {"lambda_gan": 1.0, "lambda_l1": 100.0, "lambda_sobel": 0.0}, "generator": {"lr": 2e-4}},
        "visualizer": {"visdom": {"enable": True}},
    }
}


def test_reads_the_shipped_shape_from_a_file(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(SHIPPED), encoding="utf-8")
    config = ConfigManager(path).data
    assert config.common.device == "cpu"
    assert config.dataloader.dataroot == "/data/facades"
    assert (config.dataloader.load.input_nc, config.dataloader.load.crop_size) == (3, 256)
    assert (config.train.loss.lambda_gan, config.train.loss.lambda_l1) == (1.0, 100.0)


def test_the_path_may_be_a_string(tmp_path):
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    assert ConfigManager(str(tmp_path / "config.json")).data == Config()


def test_a_byte_order_mark_is_ignored(tmp_path):
    path = tmp_path / "config.json"
    path.write_text('{"common": {"device": "cpu"}}', encoding="utf-8-sig")
    assert ConfigManager(path).data.common.device == "cpu"


def test_the_wrapping_key_may_be_left_out():
    assert ConfigManager(SHIPPED["config"]).data == ConfigManager(SHIPPED).data


def test_none_gives_empty_sections():
    config = ConfigManager(None).data
    assert config == Config()
    assert config.common.device is None
    assert config.dataloader.load.crop_size is None
    assert config.train.loss.lambda_vgg is None


def test_a_config_is_returned_unchanged():
    config = Config()
    assert ConfigManager(config).data is config


@pytest.mark.parametrize("section", ["common", "dataloader", "train"])
@pytest.mark.parametrize("wrap", [lambda data: data, lambda data: {"config": data}])
def test_a_section_that_is_null_is_an_empty_section(section, wrap):
    assert getattr(ConfigManager(wrap({section: None})).data, section) == getattr(Config(), section)


def test_unknown_sections_and_keys_are_kept():
    config = ConfigManager(SHIPPED).data
    assert config.visualizer == {"visdom": {"enable": True}}
    assert config.common.output_directory == "/runs"
    assert config.dataloader.load.workers == 4
    assert config.train.generator == {"lr": 2e-4}


def test_a_new_lambda_is_kept_and_read_as_a_weight():
    config = ConfigManager({"train": {"loss": {"lambda_lpips": 2}}}).data
    assert config.loss_weight("lpips", default=1.0) == 2.0


def test_a_lambda_that_is_set_overrides_the_default():
    assert ConfigManager(SHIPPED).data.loss_weight("l1", default=7.0) == 100.0


def test_a_lambda_of_zero_overrides_the_default():
    assert ConfigManager(SHIPPED).data.loss_weight("sobel", default=7.0) == 0.0


@pytest.mark.parametrize("loss", [{}, {"lambda_vgg": None}])
def test_a_lambda_that_is_not_set_gives_the_default(loss):
    assert ConfigManager({"train": {"loss": loss}}).data.loss_weight("vgg", default=10.0) == 10.0


@pytest.mark.parametrize("name", ["my-loss", "my.loss", "my_loss"])
def test_the_key_of_a_weight_is_spelt_with_underscores(name):
    assert ConfigManager({"train": {"loss": {"lambda_my_loss": 3.0}}}).data.loss_weight(name, default=1.0) == 3.0


def test_setting_one_field_leaves_the_others():
    config = Config()
    config.train.loss.lambda_l1 = 50.0
    config.common.device = "cpu"
    assert config.train.loss.lambda_l1 == 50.0
    assert config.train.loss.lambda_gan is None
    assert config.loss_weight("l1", default=1.0) == 50.0


def test_a_field_can_be_set_to_none_again():
    config = ConfigManager(SHIPPED).data
    config.train.loss.lambda_l1 = None
    assert config.loss_weight("l1", default=7.0) == 7.0


def test_a_device_of_torch_is_written_as_text():
    assert Config.model_validate({"common": {"device": torch.device("cuda", 1)}}).common.device == "cuda:1"


def test_a_config_round_trips_through_json():
    config = ConfigManager(SHIPPED).data
    assert Config.model_validate_json(config.model_dump_json()) == config


def test_another_device_makes_a_copy():
    config = ConfigManager(SHIPPED).data
    assert config.on_device(torch.device("meta")).common.device == "meta"
    assert config.common.device == "cpu"


def test_a_configured_weight_keeps_its_key_when_it_is_copied():
    weight = ConfigManager(SHIPPED).data.loss_weight("l1", default=7.0)
    loss = LMLoss(name="G_L1", function=torch.nn.L1Loss(), loss_weight=weight)
    for copied in (copy.deepcopy(loss).loss_weight, pickle.loads(pickle.dumps(weight))):
        assert copied == 100.0
        assert isinstance(copied, ConfiguredWeight)
        assert copied.key == "train.loss.lambda_l1"


def failure(argument):
    with pytest.raises(ConfigError) as caught:
        ConfigManager(argument)
    return caught.value


def test_a_missing_file_is_named(tmp_path):
    error = failure(tmp_path / "none.json")
    assert error.path == str(tmp_path / "none.json")
    assert str(error) == f"{tmp_path / 'none.json'}: cannot read the configuration: no such file"


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    error = failure(tmp_path)
    assert error.path == str(tmp_path)
    assert "directory" in str(error)


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe{", b"{'a': 1}"])
def test_bad_json_names_the_file(tmp_path, content):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    error = failure(path)
    assert error.path == str(path)
    assert str(error).startswith(f"{path}: not valid JSON: ")


@pytest.mark.parametrize(
    ("data", "key"),
    [
        ({"train": {"loss": {"lambda_l1": "much"}}}, "train.loss.lambda_l1"),
        ({"config": {"train": {"loss": {"lambda_l1": "much"}}}}, "train.loss.lambda_l1"),
        ({"train": {"loss": {"lambda_new": "much"}}}, "train.loss.lambda_new"),
        ({"train": {"loss": {"lambda_l1": float("nan")}}}, "train.loss.lambda_l1"),
        ({"train": {"loss": {"lambda_new": float("inf")}}}, "train.loss.lambda_new"),
        ({"train": {"loss": [1.0]}}, "train.loss"),
        ({"dataloader": {"load": {"crop_size": "big"}}}, "dataloader.load.crop_size"),
        ({"common": {"device": 3.5}}, "common.device"),
        ({"common": "cpu"}, "common"),
    ],
)
def test_a_wrong_type_names_file_and_key(tmp_path, data, key):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    error = failure(path)
    assert (error.path, error.key) == (str(path), key)
    assert str(error).startswith(f"{path}: {key}: ")


def test_a_wrong_type_in_a_mapping_names_the_key():
    error = failure({"train": {"loss": {"lambda_l1": "much"}}})
    assert (error.path, error.key) == (None, "train.loss.lambda_l1")
    assert str(error).startswith("config: train.loss.lambda_l1: ")
    assert str(error).endswith("got 'much'")


def test_a_large_value_of_the_wrong_type_is_shown_in_one_short_line():
    message = str(failure({"common": list(range(10_000))}))
    assert len(message) < 200
    assert "\n" not in message


def test_a_file_that_holds_no_mapping_says_what_it_holds(tmp_path):
    path = tmp_path / "config.json"
    path.write_text("[1, 2]", encoding="utf-8")
    assert str(failure(path)) == f"{path}: expected a mapping of sections, got list"
