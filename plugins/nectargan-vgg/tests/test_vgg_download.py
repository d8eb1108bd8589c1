"""The published weights, from a local test server: download, checks, cache, and two processes at once."""

import contextlib
import hashlib
import subprocess
import sys

import pytest
import torch
from nectargan_vgg import VGGPerceptual, network

from nectargan_core.errors import WeightsError

SMALL = {"relu1_2": 1.0, "relu2_1": 1.0}
SLIM = "nectargan-vgg19-made-first3.pth"


def build(layers=SMALL):
    return VGGPerceptual(layers)._network.state_dict()


def refusal():
    with pytest.raises(WeightsError) as caught:
        build()
    return str(caught.value)


def test_weights_are_fetched_into_the_cache_of_torch_hub(server, made, cache):
    assert torch.equal(build()["features.5.weight"], made[0]["features.5.weight"])
    assert (cache / "vgg19-made.pth").read_bytes() == made[1]


def test_the_message_gives_what_is_fetched_its_size_its_source_and_the_reason(server, cache, capsys):
    build()
    said = capsys.readouterr().err
    for part in ("weights of VGG19", f"{len(server.data) / 2**20:.1f} MiB", server.url, str(cache), "compares images"):
        assert part in said


def test_progress_is_shown(server, capsys):
    build()
    assert "100" in capsys.readouterr().err.splitlines()[-1]


def test_second_start_reads_only_the_slim_copy(server, made, cache):
    build()
    (cache / "vgg19-made.pth").unlink()
    server.status = 500
    assert torch.equal(build()["features.5.weight"], made[0]["features.5.weight"])
    assert server.gets == 1


def test_slim_copy_holds_the_layers_needed_and_no_more(server, cache):
    build()
    assert [*torch.load(cache / SLIM, weights_only=True)] == [*build()]
    assert (cache / SLIM).stat().st_size < 1.02 * sum(4 * tensor.numel() for tensor in build().values()) + 10_000


def test_whole_file_in_the_cache_is_used_without_the_server(server, made, cache):
    cache.mkdir(parents=True)
    (cache / "vgg19-made.pth").write_bytes(made[1])
    assert torch.equal(build()["features.0.bias"], made[0]["features.0.bias"])
    assert server.gets == 0
    assert (cache / SLIM).is_file()


def test_a_slim_copy_with_more_layers_serves_a_loss_that_needs_fewer(server, cache):
    build()
    build({"relu2_2": 1.0})
    (cache / "vgg19-made.pth").unlink()
    (cache / SLIM).unlink()
    build()
    assert server.gets == 1


def test_a_download_with_a_wrong_hash_is_refused_and_not_kept(server, cache):
    server.data = server.data[:-1] + bytes([server.data[-1] ^ 1])
    message = refusal()
    found = hashlib.sha256(server.data).hexdigest()
    assert "what http://127.0.0.1" in message
    assert f"have the SHA-256 {found}, not {network.VGG19_WEIGHTS.sha256}" in message
    assert not [*cache.iterdir()]


def test_a_cached_file_with_a_wrong_hash_is_refused_and_not_fetched_again(server, made, cache):
    cache.mkdir(parents=True)
    (cache / "vgg19-made.pth").write_bytes(made[1][:1000])
    assert f"{cache / 'vgg19-made.pth'} is not the published file; delete it" in refusal()
    assert server.gets == 0


def test_a_cut_connection_is_reported_and_nothing_is_kept(server, cache):
    server.sent = len(server.data) // 2
    message = refusal()
    assert f"was cut after {server.sent / 2**20:.1f} MiB of {len(server.data) / 2**20:.1f} MiB" in message
    assert not [*cache.iterdir()]


def test_a_second_try_after_a_cut_connection_succeeds(server, made):
    server.sent = 10
    refusal()
    server.sent = len(server.data)
    assert torch.equal(build()["features.0.bias"], made[0]["features.0.bias"])


def test_no_network_gives_the_reason_and_the_ways_to_provide_weights(server, cache):
    server.shutdown()
    server.server_close()
    message = refusal()
    assert f"cannot fetch {server.url}" in message
    assert "refused" in message
    for way in (f"put it into {cache}", "checkpoint=PATH", "NECTARGAN_VGG19_WEIGHTS"):
        assert way in message


def test_an_error_of_the_server_is_given_as_the_reason(server):
    server.status = 404
    assert f"cannot fetch {server.url} (Not Found)" in refusal()


def test_a_cache_that_cannot_be_made_is_named(server, tmp_path, cache):
    (tmp_path / "torch").write_text("a file where the folder should be")
    assert f"cannot write to the cache folder {cache}" in refusal()


BUILD = """
import sys
from dataclasses import replace
from nectargan_vgg import VGGPerceptual, network
url, sha256 = sys.argv[1:]
network.VGG19_WEIGHTS = replace(network.VGG19_WEIGHTS, url=url, sha256=sha256, file=url.rpartition("/")[2])
print(VGGPerceptual({"relu1_2": 1.0, "relu2_1": 1.0})._network.state_dict()["features.5.weight"].sum().item())
"""


@pytest.mark.slow
def test_two_processes_at_once_fetch_once(server, made, cache):
    def start():
        command = [sys.executable, "-c", BUILD, server.url, network.VGG19_WEIGHTS.sha256]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return stack.enter_context(subprocess.Popen(command, **pipes))

    server.go_on.clear()
    with contextlib.ExitStack() as stack:
        first = start()
        assert server.asked.wait(120)
        second = start()
        assert "another process is fetching vgg19-made.pth" in second.stderr.readline()
        server.go_on.set()
        outputs = [process.communicate(timeout=120)[0] for process in (first, second)]
        assert [process.returncode for process in (first, second)] == [0, 0]
    assert float(outputs[0]) == float(outputs[1]) == made[0]["features.5.weight"].sum().item()
    assert server.gets == 1
