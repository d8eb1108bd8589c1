"""A trained generator at work: `predict` and `evaluate`."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from nectargan_pix2pix.checkpoint import pack
from nectargan_pix2pix.cli import main
from nectargan_pix2pix.networks import Generator
from nectargan_pix2pix.quality import ssim
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

NOISE = np.random.default_rng(0)


def write(path, width, height):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(NOISE.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
    return path


pytestmark = pytest.mark.usefixtures("without_curves")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("pairs")
    for part, count in (("train", 2), ("val", 2), ("test", 3)):
        for number in range(count):
            write(root / part / f"{number}.png", 64, 32)
    return root


def program(*arguments):
    return CliRunner().invoke(main, [*map(str, arguments)])


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """A run whose generator does something."""
    out = tmp_path_factory.mktemp("runs") / "run"
    options = ("--channels", 2, "--batch-size", 2, "--epochs", 2, "--device", "cpu", "--lr-g", 0.05)
    result = program("train", "--spec", "l1", "--data", data, "--out", out, *options)
    assert result.exit_code == 0, result.output
    return out


@pytest.fixture(scope="module")
def generator(trained):
    checkpoint = torch.load(trained / "checkpoint.pt", weights_only=True)
    generator = Generator(checkpoint["channels"])
    generator.load_state_dict(checkpoint["generator"])
    return generator.eval()


def translated(generator, pixels):
    """Translate an image apart from the program."""
    x = torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 127.5 - 1
    with torch.no_grad():
        return generator(x[None])[0].clamp(-1, 1)


def message(result):
    assert result.exit_code == 1, result.output
    (said,) = [line for line in result.output.splitlines() if line.startswith("Error: ")]
    return said


# predict


@pytest.mark.parametrize(("width", "height"), [(32, 32), (77, 50)])
def test_an_image_is_translated_whole(trained, generator, tmp_path, width, height):
    source = write(tmp_path / "in" / "a.jpg", width, height)
    result = program("predict", trained, source, "-o", tmp_path / "out", "--device", "cpu")
    assert result.output == f"{tmp_path / 'out' / 'a.png'}\n"
    with Image.open(source) as image, Image.open(tmp_path / "out" / "a.png") as output:
        assert output.size == (width, height)
        expected = (translated(generator, np.asarray(image)).permute(1, 2, 0).numpy() + 1) * 127.5
        assert np.abs(np.asarray(output) - expected).max() <= 0.51


def test_all_images_of_a_folder_are_translated(trained, tmp_path):
    for name in ("b.png", "a.png"):
        write(tmp_path / "in" / name, 40, 40)
    (tmp_path / "in" / "notes.txt").touch()
    result = program("predict", trained, tmp_path / "in", "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "b.png"]


def test_grey_images_are_translated(trained, tmp_path):
    Image.new("L", (32, 32), 9).save(tmp_path / "a.png")
    assert program("predict", trained, tmp_path / "a.png", "-o", tmp_path / "out").exit_code == 0


def test_two_images_that_would_become_one_are_refused(trained, tmp_path):
    paths = [write(tmp_path / "in" / name, 32, 32) for name in ("a.png", "a.jpg")]
    assert "would both become" in message(program("predict", trained, *paths, "-o", tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_an_image_that_is_given_twice_is_translated_once(trained, tmp_path):
    path = write(tmp_path / "in" / "a.png", 32, 32)
    result = program("predict", trained, path, path.parent, "-o", tmp_path / "out")
    assert result.output.count("\n") == 1


def test_an_image_that_is_there_is_replaced_only_if_asked(trained, tmp_path):
    path = write(tmp_path / "in" / "a.png", 32, 32)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.png").write_bytes(b"old")
    assert "is there already" in message(program("predict", trained, path, "-o", tmp_path / "out"))
    assert (tmp_path / "out" / "a.png").read_bytes() == b"old"
    assert program("predict", trained, path, "-o", tmp_path / "out", "--overwrite").exit_code == 0
    assert (tmp_path / "out" / "a.png").read_bytes() != b"old"


@pytest.mark.parametrize("others", [(), ("--overwrite",)])
def test_no_source_is_replaced_by_its_translation(trained, tmp_path, others):
    path = write(tmp_path / "a.png", 32, 32)
    before = path.read_bytes()
    assert "is an image to translate" in message(program("predict", trained, path, "-o", tmp_path, *others))
    assert path.read_bytes() == before


def test_bad_images_are_refused_before_any_is_translated(trained, tmp_path):
    good = write(tmp_path / "good.png", 32, 32)
    (tmp_path / "broken.png").write_bytes(b"nothing")
    (tmp_path / "empty").mkdir()
    expected = {
        tmp_path / "broken.png": "broken.png cannot be read as an image",
        tmp_path / "none.png": "none.png cannot be read: No such file",
        write(tmp_path / "small.png", 40, 31): "small.png has 40x31 pixels; the generator needs 32",
        tmp_path / "empty": "empty has no images in it",
    }
    for bad, said in expected.items():
        assert said in message(program("predict", trained, good, bad, "-o", tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_a_directory_that_is_no_run_is_refused(tmp_path, command):
    others = (write(tmp_path / "a.png", 32, 32), "-o", tmp_path / "out") if command == "predict" else ()
    assert "expected the directory of a run" in message(program(command, tmp_path, *others))


@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_a_damaged_checkpoint_is_refused(trained, tmp_path, command):
    content = bytearray((trained / "checkpoint.pt").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "checkpoint.pt").write_bytes(content)
    others = (write(tmp_path / "a.png", 32, 32), "-o", tmp_path / "out") if command == "predict" else ()
    assert "checkpoint.pt is damaged" in message(program(command, tmp_path, *others))
    assert not (tmp_path / "out").exists()


def test_a_device_that_does_not_exist_is_refused(trained, data):
    assert "the device 'cuda:99' cannot be used" in message(program("evaluate", trained, "--device", "cuda:99"))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_generator_whose_values_are_not_finite_makes_no_images(trained, data, tmp_path, value):
    state = torch.load(trained / "checkpoint.pt")
    # Of the last layer, so that nothing after it turns an infinite value into nan.
    state["generator"]["unet.final_conv.bias"].fill_(value)
    (tmp_path / "checkpoint.pt").write_bytes(pack(state))
    source = write(tmp_path / "a.png", 32, 32)
    for given in (("predict", tmp_path, source, "-o", tmp_path / "out"), ("evaluate", tmp_path, "--data", data)):
        assert "nan or infinite" in message(program(*given))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("place", ["file", "file/out"])
def test_a_file_is_no_place_for_images(trained, tmp_path, place):
    (tmp_path / "file").touch()
    source = write(tmp_path / "a.png", 32, 32)
    said = message(program("predict", trained, source, "-o", tmp_path / place))
    assert f"nothing can be written to {tmp_path / place}" in said


def test_an_image_is_translated_as_viewers_show_it(trained, tmp_path):
    upright = Image.open(write(tmp_path / "upright.png", 32, 48))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees, clockwise
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    given = ("predict", trained, tmp_path / "upright.png", tmp_path / "turned.png", "-o", tmp_path / "out")
    assert program(*given, "--device", "cpu").exit_code == 0
    one, other = (np.asarray(Image.open(tmp_path / "out" / name)) for name in ("upright.png", "turned.png"))
    assert one.shape == (48, 32, 3)
    assert np.array_equal(one, other)


# evaluate


def scores(generator, path):
    with Image.open(path) as image:
        pixels = np.asarray(image)
    source, target = pixels[:, :32], pixels[:, 32:]
    target = target.transpose(2, 0, 1) / 127.5 - 1
    output = translated(generator, source).double().numpy()
    return peak_signal_noise_ratio(target, output, data_range=2)


def test_scores_of_each_image_and_their_mean_are_printed_as_json(trained, generator, data):
    result = program("evaluate", trained, "--data", data, "--json", "--device", "cpu")
    found = json.loads(result.output)
    assert [one["image"] for one in found["images"]] == ["0.png", "1.png"]
    for one in found["images"]:
        assert one["psnr"] == pytest.approx(scores(generator, data / "val" / one["image"]), abs=1e-4)
        assert -1 <= one["ssim"] <= 1
    for name in ("input_psnr", "psnr", "input_ssim", "ssim"):
        assert found["mean"][name] == pytest.approx(np.mean([one[name] for one in found["images"]]))


def test_scores_are_printed_as_a_table(trained, data):
    lines = program("evaluate", trained).output.splitlines()
    assert [line.split()[0] for line in lines] == ["image", "0.png", "1.png", "mean"]
    assert len({len(line) for line in lines}) == 1


def test_the_mean_is_that_of_the_summary(trained):
    mean = json.loads(program("evaluate", trained, "--json").output)["mean"]
    expected = f"input {mean['input_psnr']:.2f} dB, output {mean['psnr']:.2f} dB"
    assert expected in (trained / "summary.txt").read_text()


def test_another_part_of_a_folder_is_evaluated(trained, data):
    found = json.loads(program("evaluate", trained, "--data", data, "--part", "test", "--json").output)
    assert len(found["images"]) == 3
    assert "found no other/" in message(program("evaluate", trained, "--data", data, "--part", "other"))


def test_an_image_that_equals_its_target_has_an_infinite_psnr_in_strict_json(trained, tmp_path):
    (tmp_path / "val").mkdir()
    Image.new("RGB", (64, 32), "grey").save(tmp_path / "val" / "a.png")

    def refuse(constant):
        raise AssertionError(constant)

    result = program("evaluate", trained, "--data", tmp_path, "--json")
    assert json.loads(result.output, parse_constant=refuse)["images"][0]["input_psnr"] == "inf"


@pytest.mark.parametrize("shape", [(3, 32, 32), (3, 40, 57)])
def test_ssim_is_that_of_the_loss(shape):
    loss = pytest.importorskip("nectargan_ssim").SSIM()
    x, y = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    y = 0.5 * x + 0.5 * y
    assert ssim(x, y) == pytest.approx(1 - loss(x[None].double(), y[None].double()).item(), abs=1e-6)
