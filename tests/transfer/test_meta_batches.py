import numpy as np
import pytest
import torch

from pyro_dwp.data import Prepared
from pyro_dwp.errors import ConfigError
from pyro_dwp.transfer.meta_batches import active_batches, bad_and_good, cut, draw_twice, passive_batch, pools
from tests.helpers.refusal import refuses

DICE = [0.9, 0.2, 0.6, 0.8, 0.1]


def scan(name: str = "a", depth: int = 7) -> Prepared:
    """Return a case whose slices hold their own number."""
    image = torch.arange(depth).float().expand(1, 4, 4, depth).clone()
    return Prepared(name, image, image[0].long(), np.eye(4), (4, 4, depth), ((0, 4), (0, 4), (0, depth)))


@pytest.mark.parametrize(("parts", "depths"), [(1, [7]), (3, [3, 2, 2]), (7, [1] * 7), (99, [1] * 7)])
def test_slabs_are_the_scan_in_parts_of_neighbouring_slices(parts: int, depths: list[int]) -> None:
    case = scan()
    slabs = cut(case, parts)
    assert [slab.image.shape[-1] for slab in slabs] == depths
    assert torch.equal(torch.cat([slab.image for slab in slabs], dim=-1), case.image)
    assert torch.equal(torch.cat([slab.label for slab in slabs], dim=-1), case.label)
    assert len({slab.name for slab in slabs}) == len(slabs)


def test_bad_tasks_are_those_below_the_median_and_no_task_is_both() -> None:
    bad, good = bad_and_good(range(5), DICE)
    assert (bad, good) == ([4, 1], [2, 3, 0])
    assert max(DICE[task] for task in bad) < np.median(DICE) == min(DICE[task] for task in good)
    assert bad_and_good([3, 1], DICE) == ([1], [3])


@pytest.mark.parametrize("size", [2, 3, 4, 9])
@pytest.mark.parametrize("tasks", [2, 3, 5, 8])
def test_a_round_of_active_order_holds_every_task_and_good_and_bad_ones_in_each_meta_batch(tasks, size) -> None:
    dice = torch.rand(tasks).tolist()
    bad, good = bad_and_good(range(tasks), dice)
    batches = active_batches([range(tasks)], dice, size)
    assert {task for batch in batches for task in batch} == set(range(tasks))
    for batch in batches:
        assert len(set(batch)) == len(batch) <= size
        assert {*batch} & {*bad}
        assert {*batch} & {*good}
    assert min(range(tasks), key=dice.__getitem__) in batches[0]


def test_active_order_has_the_worst_scan_first_and_in_it_the_worst_task_and_mixes_no_scans() -> None:
    good, bad = [0.9, 0.8, 0.7, 0.95], [0.3, 0.1, 0.2, 0.6]
    assert active_batches([[0, 1, 2, 3], [4, 5, 6, 7]], good + bad, 2) == [[5, 4], [6, 7], [2, 0], [1, 3]]


def test_passive_order_keeps_the_random_one_and_takes_the_tasks_of_one_scan() -> None:
    drawn = torch.tensor([4, 0, 2])
    assert passive_batch([range(5)], drawn) == [4, 0, 2]
    for _ in range(20):
        batch = passive_batch([[0, 1, 2], [3, 4, 5, 6]], drawn)
        assert batch[0] == 4
        assert len(set(batch)) == 3
        assert set(batch) <= {3, 4, 5, 6}


def test_scans_cut_into_tasks_are_pools_and_whole_scans_share_one() -> None:
    assert pools([cut(scan("a"), 3), cut(scan("b", 2), 3)]) == [[0, 1, 2], [3, 4]]
    assert pools([cut(scan("a"), 1), cut(scan("b"), 1)]) == [[0, 1]]


@pytest.mark.parametrize(("pool", "size"), [([0, 1, 2], 1), ([0], 2)])
def test_active_order_without_room_for_a_good_and_a_bad_task_is_refused(pool: list[int], size: int) -> None:
    with refuses("batch_size", str(size), "--order passive", error=ConfigError):
        active_batches([pool], DICE, size)


@pytest.mark.parametrize("depth", [2, 5, 7])
def test_slices_of_the_inner_loop_are_not_in_the_outer_one_and_change_from_draw_to_draw(depth: int) -> None:
    seen = set()
    for _ in range(40):
        inner, outer = (drawn.image[0, 0, 0].long().tolist() for drawn in draw_twice(scan(depth=depth), by_slices=True))
        assert sorted(inner + outer) == list(range(depth))
        assert len(inner) == depth // 2
        seen.add(tuple(sorted(inner)))
    assert len(seen) > 1


def test_a_volume_is_drawn_whole_and_each_draw_is_augmented_on_its_own() -> None:
    numbers = iter((1.0, 2.0))
    case = scan()

    def add(case: Prepared) -> Prepared:
        return Prepared(case.name, case.image + next(numbers), case.label, case.affine, case.shape, case.box)

    inner, outer = draw_twice(case, by_slices=False, augment=add)
    assert torch.equal(inner.image, case.image + 1)
    assert torch.equal(outer.image, case.image + 2)
    assert draw_twice(case, by_slices=False) == (case, case)


def test_a_single_slice_is_in_both_loops() -> None:
    inner, outer = draw_twice(scan(depth=1), by_slices=True)
    assert inner.image.shape == outer.image.shape == (1, 4, 4, 1)
