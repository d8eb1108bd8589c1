"""The batches of an epoch: what they hold, and that they follow from seed and epoch alone."""

import torch
from nectargan_pix2pix.batches import Batches
from nectargan_pix2pix.photos import Crops


def images(count):
    """Pairs that hold their number, and a column number to tell crops by."""
    columns = torch.arange(40.0).expand(1, 36, 40) / 40
    return [(torch.cat((torch.full((2, 36, 40), float(number)), columns)),) * 2 for number in range(count)]


def batches(count=5, size=2, seed=0):
    return Batches(Crops(images(count), 32), size, seed)


def numbers(epoch):
    return [[int(image[0, 0, 0]) for image in x] for x, _ in epoch]


def same(first, second):
    first, second = list(first), list(second)
    return len(first) == len(second) and all(torch.equal(a[0], b[0]) for a, b in zip(first, second, strict=True))


def test_an_epoch_takes_each_crop_once():
    found = numbers(batches().of(0))
    assert [len(batch) for batch in found] == [2, 2, 1]
    assert sorted(number for batch in found for number in batch) == [0, 1, 2, 3, 4]


def test_the_number_of_batches_counts_the_last_one_that_is_not_full():
    assert [len(batches(count, 2)) for count in (1, 4, 5)] == [1, 2, 3]


def test_source_and_target_are_of_the_same_place():
    for x, y in batches().of(0):
        assert torch.equal(x, y)


def test_an_epoch_is_the_same_whatever_else_is_drawn():
    first = list(batches().of(3))
    torch.manual_seed(77)
    torch.rand(5)
    assert same(first, batches().of(3))


def test_batches_draw_nothing_from_the_global_generator():
    before = torch.get_rng_state()
    list(batches().of(0))
    assert torch.equal(torch.get_rng_state(), before)


def test_an_epoch_that_is_begun_in_the_middle_has_the_rest_of_its_batches():
    whole = list(batches().of(2))
    for start in range(4):
        assert same(whole[start:], batches().of(2, start))


def test_epochs_and_seeds_differ():
    found = [
        numbers(batches(20, 20, seed).of(epoch)) for seed, epoch in ((0, 0), (0, 1), (1, 0), (1, 1), (10, 1), (1, 11))
    ]
    assert all(first != second for index, first in enumerate(found) for second in found[:index])
