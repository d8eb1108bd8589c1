"""Events: bytes that TensorBoard's own protocol buffers and its reader, which checks the checksums, read as meant."""

import struct

import numpy as np
import pytest
from nectargan_tensorboard import events
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader, RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData


def read(path, data):
    """Return the events of a file that begins as it should, read by TensorBoard."""
    path.write_bytes(events.first(1.5) + data)
    found = [Event.FromString(raw) for raw in RawEventFileLoader(str(path)).Load()]
    assert (found[0].wall_time, found[0].file_version) == (1.5, "brain.Event:2")
    return found[1:]


def scalars(step, value, tag="loss/G_L1", time=None):
    step = np.asarray(step, dtype=np.int64)
    time = np.arange(len(step)) + 1e9 + 0.25 if time is None else np.asarray(time)
    return events.scalars(tag, step, time, np.asarray(value, dtype=np.float64))


# As many bytes as a step may take: from 1 to 9.
STEPS = [0, 1, 127, 128, 300, 2**14 - 1, 2**14, *(2 ** (7 * number) for number in range(3, 9)), 2**62, 2**63 - 1]


def test_scalars_are_read_back_with_steps_of_any_size_times_and_values(tmp_path):
    values = np.linspace(-1.0, 1.0, len(STEPS))
    found = read(tmp_path / "tfevents", scalars(STEPS, values))
    assert [event.step for event in found] == STEPS
    assert [event.wall_time for event in found] == [1e9 + 0.25 + index for index in range(len(STEPS))]
    assert [[(value.tag, value.simple_value) for value in event.summary.value] for event in found] == [
        [("loss/G_L1", value)] for value in values.astype(np.float32).tolist()
    ]


@pytest.mark.parametrize("number", [1, 8192, 8193])
def test_any_number_of_scalars_is_encoded(tmp_path, number):
    found = read(tmp_path / "tfevents", scalars(range(number), np.arange(number) / 2))
    assert [event.step for event in found] == list(range(number))
    assert found[-1].summary.value[0].simple_value == (number - 1) / 2


def test_no_scalars_are_no_bytes():
    assert scalars([], []) == b""


@pytest.mark.parametrize("tag", ["a", "metrics/Übermaß 損失", "x" * 120, "y" * 1000])
def test_a_tag_may_be_long_and_in_any_script(tmp_path, tag):
    (event,) = read(tmp_path / "tfevents", scalars([3], [2.0], tag=tag))
    assert event.summary.value[0].tag == tag


def test_what_is_nan_infinite_or_too_large_for_single_precision_stays_so(tmp_path):
    found = read(tmp_path / "tfevents", scalars(range(4), [np.nan, np.inf, -np.inf, 1e300]))
    values = [event.summary.value[0].simple_value for event in found]
    assert np.array_equal(values, [np.nan, np.inf, -np.inf, np.inf], equal_nan=True)


def test_each_checksum_is_that_of_tensorboard():
    data = scalars([5, 300, 2**40], [1.0, -2.0, 3.0])
    count = 0
    while data:
        head, (size,) = data[:8], struct.unpack("<Q", data[:8])
        event = data[12 : 12 + size]
        assert struct.unpack("<I", data[8:12]) == (masked_crc32c(head),)
        assert struct.unpack("<I", data[12 + size : 16 + size]) == (masked_crc32c(event),)
        data, count = data[16 + size :], count + 1
    assert count == 3


def test_a_restart_is_the_start_of_a_session(tmp_path):
    (event,) = read(tmp_path / "tfevents", events.restart(7.0, 300))
    assert (event.wall_time, event.step, event.session_log.status) == (7.0, 300, SessionLog.START)


def test_a_text_is_one_string_of_the_plugin_for_texts(tmp_path):
    path = tmp_path / "tfevents"
    path.write_bytes(events.text("objective", 7.0, 3, "**100·L1**"))
    (event,) = EventFileLoader(str(path)).Load()
    (value,) = event.summary.value
    assert (event.wall_time, event.step, value.tag) == (7.0, 3, "objective")
    assert value.metadata.plugin_data.plugin_name == "text"
    assert [text.decode() for text in value.tensor.string_val] == ["**100·L1**"]


def test_a_picture_has_its_size_and_its_bytes(tmp_path):
    image = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 640, 480) + b"the rest"
    (event,) = read(tmp_path / "tfevents", events.png("loss_maps", 7.0, 3, image))
    (value,) = event.summary.value
    assert (event.step, value.tag) == (3, "loss_maps")
    assert (value.image.width, value.image.height) == (640, 480)
    assert value.image.encoded_image_string == image


def test_hyperparameters_are_those_of_a_session(tmp_path):
    (event,) = read(tmp_path / "tfevents", events.hyperparameters(7.0, {"objective": "pix2pix", "weight/G_L1": 100.0}))
    (value,) = event.summary.value
    assert (value.tag, value.metadata.plugin_data.plugin_name) == ("_hparams_/session_start_info", "hparams")
    start = HParamsPluginData.FromString(value.metadata.plugin_data.content).session_start_info
    assert start.start_time_secs == 7.0
    assert start.hparams["objective"].string_value == "pix2pix"
    assert start.hparams["weight/G_L1"].number_value == 100.0
