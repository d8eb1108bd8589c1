"""What can be read of the losses that installed specs build: each argument of a loss, under its own name."""

import contextlib
import functools
import inspect
import json

import pytest
import torch

from nectargan_core import LossManager
from nectargan_core.errors import SpecError
from nectargan_core.objectives import describe_specs

# Taps of an orthogonal wavelet, and the same in the other direction.
DB2 = (-0.12940952255126034, 0.2241438680420134, 0.8365163037378079, 0.48296291314453416)

# For each option of a spec, other values than the default; whole floats are also given as ints. Those of one spec
# alone are below.
OTHERS = {
    "alpha": [0.25, (0.25, 0.75), (1.0, 2.0)],
    "ave_spectrum": [True],
    "average": ["batch"],
    "backbone": ["random"],
    "band_width": [0.25, 2.0],
    "batch": [True],
    "batch_matrix": [True],
    "beta": [0.5, 2.0],
    "by_layer": [True],
    "center": ["batch"],
    "checkpoint": ["random"],
    "class_weights": [(1.0, 2.0), (1.0, 3.0)],
    "codebook_weight": [0.5, 2.0],
    "criterion": ["fro", torch.nn.L1Loss(), torch.nn.HuberLoss(), torch.nn.HuberLoss(delta=2.0)],
    "decay": [0.5, 1.0],
    "delta": [0.5, 2.0],
    "detach_mean": [True, False],
    "disc_start": [0, 5],
    "disc_weight": [0.5, 2.0],
    "epsilon": [1e-2, 1.0],
    "every": [4, 16],
    "f_max": [4000.0, 8000.0],
    "f_min": [20.0, 50.0],
    "floor": [1e-3, 1.0],
    "free_bits": [0.5, 1.0],
    "gamma": [0.5, 1.0],
    "gram": ["elements"],
    "heads": ["equal"],
    "hop_length": [(64, 32, 16), (64, 32, 32)],
    "hue": [0.5, 1.0],
    "ignore_index": [0, 255],
    "include_background": [False],
    "input_range": [(0.0, 1.0), (0.0, 255.0)],
    "jaccard": [True],
    "ksize": [5, 9],
    "label_smoothing": [0.1, 1.0],
    "lambda_ce": [0.5, 2.0],
    "lambda_dice": [0.5, 2.0],
    "layers": [{"relu1_1": 1.0}, {"relu1_1": 2.0}, {"relu1_2": 1.0}],
    "lightness": [0.5, 1.0],
    "log_matrix": [True],
    "luma": [0.5, 1.0],
    "mel_scale": ["htk"],
    "n_fft": [(2048, 1024, 1024), (2048, 2048, 1024)],
    "n_layers": [2, 4],
    "n_mels": [20, 40],
    "negatives": ["batch"],
    "norm": ["ortho", "forward"],
    "normalize": [True, False],
    "num_patches": [64, 256],
    "over_discriminators": ["sum"],
    "padding": ["zeros"],
    "patch_factor": [2, 4],
    "path_length_every": [1, 8],
    "positions": [64, None],
    "precision": ["bfloat16"],
    "r1_every": [1, 8],
    "reduction": ["sum", "none"],
    "resize": [64, (64, 32)],
    "sample_rate": [16000.0, 24000.0],
    "saturation": [0.5, 1.0],
    "scale_weights": [(0.3, 0.7), (1.0, 1.0)],
    "scales": [(1.0, 0.5), (1.0, 1.0)],
    "sigma": [1.0, 2.0],
    "sigmoid": [True],
    "smooth_dr": [0.5, 1.0],
    "smooth_nr": [0.5, 1.0],
    "spacing": [(1.0, 2.0), (2.0, 1.0)],
    "squared_pred": [True],
    "symmetric": [True],
    "temperature": [0.5, 1.0],
    "wavelet": ["haar", "sym7", DB2, DB2[::-1]],
    "weights": [(1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0)],
    "win_length": [(512, 512, 256), (512, 512, 512)],
    "window_size": [7, 9],
}
OTHERS_OF_ONE = {
    ("dists", "weights"): ["equal"],
    ("gradient-penalty", "center"): [0.0, 2.0],
    ("hifigan", "hop_length"): [128, (64,)],
    ("hifigan", "n_fft"): [1280, (2048,)],
    ("hifigan", "norm"): [None],
    ("hifigan", "win_length"): [512, (300,)],
    ("mel", "hop_length"): [128, (64,)],
    ("mel", "n_fft"): [2048, (512, 2048)],
    ("mel", "norm"): [None],
    ("mel", "win_length"): [512, (300,)],
}

# NT-Xent classifies in both directions, whatever `symmetric` says.
WITHOUT_EFFECT = {("info-nce", "nt-xent", "symmetric")}

SPECS = {spec.name: spec for spec in describe_specs() if spec.distribution.startswith("nectargan-")}
VARIANTS = [(spec.name, variant.name) for spec in SPECS.values() for variant in spec.variants]


def term(name, variant):
    return name if variant is None else f"{name}:{variant}"


def built(name, variant, **options):
    """Build the losses of a variant as `nectargan specs` does, without weight files."""
    manager = LossManager.from_spec(
        term(name, variant), device="meta", enable_logging=False, options={name: options} if options else None
    )
    return list(manager.get_registered_losses().values())


def parameters_of(function):
    """Return the names of the constructor's parameters; a class that has none of its own has none."""
    if type(function).__init__ is torch.nn.Module.__init__:
        return []
    torchs = ("size_average", "reduce")  # long replaced by `reduction`
    return [name for name in inspect.signature(type(function)).parameters if name not in torchs]


def arguments_of(function):
    """Return the attributes that have the names of the constructor's parameters, as JSON has them."""
    return {name: plain(getattr(function, name)) for name in parameters_of(function)}


def plain(value):
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if isinstance(value, dict):
        return {plain(name): plain(each) for name, each in value.items()}
    if isinstance(value, torch.nn.Module):
        return {"function": type(value).__name__, "arguments": arguments_of(value)}
    raise AssertionError(f"{value!r} is no plain data")


def record(losses):
    """Return all that makes losses differ, in JSON."""
    return json.dumps(
        [
            [
                [loss.name, type(loss.function).__qualname__, arguments_of(loss.function)],
                [loss.loss_weight, loss.schedule.model_dump(mode="json"), plain(loss.inputs)],
                getattr(loss.function, "weight_files", None),
            ]
            for loss in losses
        ]
    )


def with_ints(value):
    """Return a value of which whole floats are ints."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, tuple):
        return tuple(map(with_ints, value))
    return {name: with_ints(each) for name, each in value.items()} if isinstance(value, dict) else value


@functools.cache
def accepted(name, variant, option):
    """Return other values of an option, with the losses that a variant has with each; none where it is not for it."""
    found = []
    for value in OTHERS_OF_ONE.get((name, option), OTHERS.get(option, [])):
        with contextlib.suppress(SpecError, ValueError):
            found.append((value, built(name, variant, **{option: value})))
    return found


@pytest.mark.parametrize(("name", "variant"), VARIANTS, ids=[term(*each) for each in VARIANTS])
def test_every_argument_can_be_read(name, variant):
    for loss in built(name, variant):
        assert isinstance(loss.function, torch.nn.Module)
        assert "<" not in type(loss.function).__qualname__
        assert arguments_of(loss.function).keys() == set(parameters_of(loss.function))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "variant"), VARIANTS, ids=[term(*each) for each in VARIANTS])
def test_what_was_read_makes_the_same_loss_again(name, variant):
    options = [option.name for option in SPECS[name].options]
    for losses in (
        built(name, variant),
        *(losses for option in options for _, losses in accepted(name, variant, option)),
    ):
        for function in (loss.function for loss in losses):
            read = {parameter: getattr(function, parameter) for parameter in parameters_of(function)}
            with torch.device("meta"):
                again = type(function)(**read)
            assert arguments_of(again) == arguments_of(function)
            assert repr(again) == repr(function)


@pytest.mark.parametrize(("name", "variant"), VARIANTS, ids=[term(*each) for each in VARIANTS])
def test_losses_with_other_options_do_not_look_alike(name, variant):
    for option in (option.name for option in SPECS[name].options):
        default = next(each.default for each in SPECS[name].options if each.name == option)
        found = {"default": record(built(name, variant))}
        for value, losses in accepted(name, variant, option):
            # The default of `detach_mean` and `normalize` differs between specs.
            if repr(value) != default:
                found[str(value)] = record(losses)
        if (name, variant, option) not in WITHOUT_EFFECT:
            assert len(set(found.values())) == len(found), option


@pytest.mark.parametrize("name", SPECS)
def test_every_option_is_varied(name):
    for option in SPECS[name].options:
        values = [len(accepted(name, each.name, option.name)) for each in SPECS[name].variants]
        assert max(values) > 0, option.name


@pytest.mark.parametrize(("name", "variant"), VARIANTS, ids=[term(*each) for each in VARIANTS])
def test_an_int_is_read_as_the_float_that_it_stands_for(name, variant):
    for option in (option for option in SPECS[name].options if "float" in option.type):
        for value, losses in accepted(name, variant, option.name):
            if with_ints(value) is not value:
                assert record(built(name, variant, **{option.name: with_ints(value)})) == record(losses)
