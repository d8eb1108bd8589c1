"""The configuration: NectarGAN's config.json, trees of objects, unknown keys, weights, exports, and errors."""

import argparse
import copy
import dataclasses
import json
import math
import os
import pickle
import types
from pathlib import Path

import pydantic
import pytest
import torch

from nectargan_core import Config, ConfigManager, LMLoss, LossManager
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


# Sections that no model describes


@pytest.mark.parametrize("wrap", [lambda data: data, lambda data: {"config": data}])
def test_an_unknown_section_is_read_by_attribute_at_every_depth(wrap):
    config = ConfigManager(wrap({"train": {"load": {"continue_train": True, "from": {"run": {"epoch": 5}}}}})).data
    assert config.train.load.continue_train is True
    assert getattr(config.train.load, "from").run.epoch == 5


def test_every_section_is_read_by_key_too():
    config = ConfigManager(SHIPPED).data
    assert config["train"]["loss"]["lambda_l1"] == 100.0
    assert config["train"]["generator"]["lr"] == 2e-4
    assert ("train" in config, "generator" in config["train"], "none" in config) == (True, True, False)


@pytest.mark.parametrize("key", ["none", "model_dump"])
def test_a_key_that_is_not_there_is_a_key_error(key):
    with pytest.raises(KeyError, match=key):
        ConfigManager(SHIPPED).data[key]


def test_an_unknown_section_is_still_the_mapping_that_it_came_as():
    section = ConfigManager(SHIPPED).data.visualizer
    assert section == {"visdom": {"enable": True}}
    assert json.loads(json.dumps(section)) == section
    assert {**section} == dict(section.items()) == section
    assert isinstance(section, dict)


def test_a_section_in_a_list_is_read_by_attribute():
    config = ConfigManager({"train": {"stages": [{"epochs": 3}, 7]}}).data
    assert config.train.stages[0].epochs == 3
    assert config.train.stages == [{"epochs": 3}, 7]


def test_a_key_of_an_unknown_section_is_set_by_attribute():
    config = ConfigManager({"train": {"load": {"continue_train": False}}}).data
    config.train.load.continue_train = True
    config.train.load.origin = {"epoch": 5}
    assert config.train.load == {"continue_train": True, "origin": {"epoch": 5}}
    assert config.train.load.origin.epoch == 5


def test_an_unknown_section_that_is_set_is_read_by_attribute():
    config = Config()
    config.train.load = {"from": {"epoch": 5}}
    config.train.load["to"] = {"epoch": 6}
    config.train.load.update(then={"epoch": 7})
    config.train.load |= {"last": {"epoch": 8}}
    config.train.load.setdefault("end", {"epoch": 9})
    load = config.train.load
    assert (load["from"].epoch, load.to.epoch, load.then.epoch, load.last.epoch, load.end.epoch) == (5, 6, 7, 8, 9)


def test_a_key_of_an_unknown_section_is_deleted_by_attribute():
    config = ConfigManager(SHIPPED).data
    del config.train.generator.lr
    assert config.train.generator == {}
    with pytest.raises(AttributeError, match="has no key 'lr'"):
        del config.train.generator.lr


def test_a_key_that_an_unknown_section_has_not_is_an_attribute_error_with_close_matches():
    config = ConfigManager({"train": {"load": {"continue_train": False, "load_epoch": 1}}}).data
    with pytest.raises(
        AttributeError, match=r'no key .continue_trian.; it has continue_train, load_epoch. Did you mean "continue_'
    ):
        config.train.load.continue_trian  # noqa: B018 # asking is the test


def test_an_unknown_section_is_not_shared_with_the_mapping_that_it_came_from():
    data = {"visualizer": {"visdom": {"enable": True}}}
    config = ConfigManager(data).data
    data["visualizer"]["visdom"]["enable"] = False
    assert config.visualizer.visdom.enable is True


@pytest.mark.parametrize(
    "copied",
    [
        copy.copy,
        copy.deepcopy,
        Config.model_copy,
        lambda config: config.model_copy(deep=True),
        lambda config: config.model_copy(update={"visualizer": {"visdom": {"enable": True}}}),
        lambda config: config.on_device("cpu"),
        lambda config: pickle.loads(pickle.dumps(config)),
        lambda config: Config.model_validate(config.model_dump()),
        lambda config: Config.model_validate_json(config.model_dump_json()),
    ],
)
def test_unknown_sections_survive_copies(copied):
    config = ConfigManager(SHIPPED).data
    again = copied(config)
    assert again == config
    assert again.visualizer.visdom.enable is True
    assert again.train.generator.lr == 2e-4


def test_a_dump_of_a_config_is_plain():
    dumped = ConfigManager(SHIPPED).data.model_dump()["visualizer"]
    assert (type(dumped), type(dumped["visdom"])) == (dict, dict)


def test_data_cannot_give_a_section_special_methods():
    section = ConfigManager({"visualizer": {"__deepcopy__": 1, "__reduce_ex__": 2}}).data.visualizer
    assert copy.deepcopy(section) == {"__deepcopy__": 1, "__reduce_ex__": 2}


# Trees of objects


@dataclasses.dataclass
class Visdom:
    enable: bool
    port: int = 8097


@dataclasses.dataclass(slots=True)
class Loss:
    lambda_gan: float
    lambda_l1: float
    lambda_lpips: float


class Plain:
    """An object whose attributes are its own, and one its class's."""

    num_workers = 4

    def __init__(self, **values):
        self.__dict__.update(values)


class WithMethods(Plain):
    def save(self):
        raise AssertionError("a method of a configuration is not called")

    @property
    def summary(self):
        raise AssertionError("a property that is no field is not read")


def tree(**changes):
    """A configuration of objects of every kind, in the shape of `SHIPPED`."""
    sections = {
        "common": types.SimpleNamespace(device="cpu", gpu_ids=[0], unknown=None),
        "dataloader": Plain(dataroot="/data", load=argparse.Namespace(input_nc=3, crop_size=256)),
        "train": WithMethods(
            loss=Loss(lambda_gan=1.0, lambda_l1=100.0, lambda_lpips=2.0),
            load=types.SimpleNamespace(continue_train=True, load_epoch=7),
        ),
        "visualizer": {"visdom": Visdom(enable=False)},
        **changes,
    }
    return WithMethods(**sections)


def test_a_tree_of_objects_is_a_configuration():
    config = LossManager(tree()).config
    assert config.common.device == "cpu"
    assert (config.dataloader.dataroot, config.dataloader.load.crop_size) == ("/data", 256)
    assert (config.train.loss.lambda_l1, config.loss_weight("lpips", default=1.0)) == (100.0, 2.0)


def test_unknown_sections_of_a_tree_of_objects_are_read_by_attribute_and_by_key():
    config = LossManager(tree()).config
    assert config.train.load.continue_train is config["train"]["load"]["continue_train"] is True
    assert config.visualizer == {"visdom": {"enable": False, "port": 8097}}
    assert config.common.gpu_ids == [0]


def test_a_value_that_stands_in_the_class_is_read():
    assert LossManager(tree()).config.dataloader.num_workers == 4


def test_a_section_behind_a_property_is_read():
    class Lazy:
        @property
        def common(self):
            return types.SimpleNamespace(device="meta")

    assert ConfigManager(Lazy()).data.common.device == "meta"


def test_a_tree_of_objects_may_be_wrapped():
    assert ConfigManager(types.SimpleNamespace(config=Plain(common=Plain(device="meta")))).data.common.device == "meta"


def test_a_pydantic_model_of_another_project_is_a_configuration():
    class Theirs(pydantic.BaseModel, extra="allow"):
        common: dict[str, str] = {"device": "meta"}

    config = ConfigManager(Theirs(train=types.SimpleNamespace(load=Theirs()))).data
    assert config.common.device == config.train.load.common.device == "meta"


@pytest.mark.parametrize(
    "value", [torch.device("cpu"), Path("/runs"), torch.zeros(2), torch.nn.L1Loss(), len, Plain, object(), (1, 2), math]
)
def test_a_value_that_is_no_section_is_kept_as_it_came(value):
    assert LossManager(tree(common=Plain(special=value))).config.common.special is value


def test_a_tree_of_objects_is_not_changed():
    given = tree()
    LossManager(given, device="meta").config.train.load.load_epoch = 0
    assert (given.common.device, given.train.load.load_epoch) == ("cpu", 7)


def test_a_wrong_type_in_a_tree_of_objects_names_the_key():
    error = failure(tree(train=Plain(loss=Loss(1.0, "much", 2.0))))
    assert (error.path, error.key) == (None, "train.loss.lambda_l1")
    assert str(error).endswith("got 'much'")


@pytest.mark.parametrize("value", ["cpu", 3, [1], Path("/runs"), object()])
def test_what_stands_in_the_place_of_a_section_and_is_none_names_the_key(value):
    assert failure(tree(common=value)).key == "common"


@pytest.mark.parametrize("value", [5, 2.5, [1, 2], (1, 2), {1}, len, Plain, object(), torch.zeros(2)])
def test_what_is_neither_mapping_nor_object_with_sections_is_refused(value):
    with pytest.raises(ConfigError, match=f"config: expected .* got {type(value).__name__}"):
        LossManager(value)


def test_text_is_no_configuration_of_a_manager():
    with pytest.raises(ConfigError, match="expected a mapping of sections, or an object .* got str"):
        LossManager("config.json")


def test_an_object_without_any_section_is_refused_with_what_it_has():
    with pytest.raises(ConfigError, match="has common, dataloader, train as .* got ConfigManager, .* data"):
        LossManager(ConfigManager())


def test_a_section_that_contains_itself_is_named():
    inner = Plain()
    inner.again = Plain(once_more=inner)
    error = failure(tree(train=Plain(load=inner)))
    assert error.key == "train.load.again.once_more"
    assert str(error) == "config: train.load.again.once_more: contains itself; expected a tree of sections"


def test_a_section_that_two_others_share_is_no_cycle():
    rate = types.SimpleNamespace(initial=2e-4)
    config = ConfigManager(tree(train=Plain(generator=Plain(rate=rate), discriminator=Plain(rate=rate)))).data
    assert config.train.generator.rate.initial == config.train.discriminator.rate.initial == 2e-4


def test_absurd_depth_is_refused():
    deep = {}
    for _ in range(100_000):
        deep = {"deeper": deep}
    assert "nested more than 100 deep" in str(failure({"train": deep}))
    with pytest.raises(pydantic.ValidationError, match="nested too deep"):
        Config.model_validate({"train": deep})


# ConfigManager


def test_raw_is_what_was_read(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(SHIPPED), encoding="utf-8")
    assert ConfigManager(path).raw == ConfigManager(SHIPPED).raw == SHIPPED["config"]
    assert ConfigManager(SHIPPED["config"]).raw == SHIPPED["config"]


def test_raw_of_nothing_is_empty():
    assert ConfigManager().raw == {}


def test_raw_of_a_config_is_what_was_set_in_it():
    config = ConfigManager(SHIPPED).data
    assert ConfigManager(config).raw == SHIPPED["config"]
    config.train.loss.lambda_vgg = 3.0
    assert ConfigManager(config).raw["train"]["loss"]["lambda_vgg"] == 3.0


def test_raw_of_a_config_has_what_was_set_in_a_section_that_was_absent():
    config = Config()
    config.train.loss.lambda_vgg = 3.0
    assert ConfigManager(config).raw["train"] == {"loss": {"lambda_vgg": 3.0}}


def test_raw_of_objects_is_made_of_dicts():
    raw = ConfigManager(tree()).raw
    assert raw["train"]["load"] == {"continue_train": True, "load_epoch": 7}
    assert (type(raw), type(raw["common"]), type(raw["visualizer"]["visdom"])) == (dict, dict, dict)


def test_raw_and_data_are_independent_of_each_other_and_of_what_was_given():
    given = {"common": {"gpu_ids": [0]}}
    manager = ConfigManager(given)
    given["common"]["gpu_ids"].append(1)
    manager.data.common.gpu_ids.append(2)
    assert (manager.raw, manager.data.common.gpu_ids) == ({"common": {"gpu_ids": [0]}}, [0, 2])


def test_an_exported_config_is_written_as_nectargan_writes_it(tmp_path):
    path = ConfigManager(SHIPPED).export_config(tmp_path)
    assert path == tmp_path / "train1_config.json"
    assert path.read_text(encoding="utf-8") == json.dumps(SHIPPED, indent=4)


def test_exported_configs_are_counted(tmp_path):
    (tmp_path / "my_config.json").touch()
    names = [ConfigManager(SHIPPED).export_config(str(tmp_path)).name for _ in range(2)]
    assert names == ["train2_config.json", "train3_config.json"]


def test_an_exported_config_is_never_overwritten(tmp_path):
    (tmp_path / "train2_config.json").write_text("mine", encoding="utf-8")
    assert ConfigManager(SHIPPED).export_config(tmp_path).name == "train3_config.json"
    assert (tmp_path / "train2_config.json").read_text(encoding="utf-8") == "mine"


def test_an_exported_config_is_read_back(tmp_path):
    manager = ConfigManager(SHIPPED)
    assert ConfigManager(manager.export_config(tmp_path)).data == manager.data


def test_a_change_of_raw_is_exported(tmp_path):
    manager = ConfigManager(SHIPPED)
    manager.raw["common"]["device"] = "meta"
    assert ConfigManager(manager.export_config(tmp_path)).data.common.device == "meta"


def test_exporting_to_a_missing_directory_names_it(tmp_path):
    with pytest.raises(ConfigError, match="none.train1_config.json: cannot write .*: no such directory") as caught:
        ConfigManager(SHIPPED).export_config(tmp_path / "none")
    assert caught.value.path == str(tmp_path / "none/train1_config.json")


def test_exporting_what_json_cannot_hold_names_the_file_and_leaves_none(tmp_path):
    with pytest.raises(ConfigError, match="train1_config.json: JSON cannot hold the configuration: .*device"):
        ConfigManager({"common": {"device": torch.device("cpu")}}).export_config(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_an_interrupted_export_leaves_no_file(tmp_path, monkeypatch, error):
    def interrupted(descriptor):
        raise error

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises((ConfigError, KeyboardInterrupt)) as caught:
        ConfigManager(SHIPPED).export_config(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert isinstance(caught.value, KeyboardInterrupt) or "No space left on device" in str(caught.value)


def test_json_that_is_nested_absurdly_deep_names_the_file(tmp_path):
    path = tmp_path / "config.json"
    path.write_text('{"a":' * 100_000, encoding="utf-8")
    assert failure(path).path == str(path)
