"""Interleaved timing, on clocks whose times are known."""

import time

import pytest
import torch

from pyro_dwp.timing import interleave, seconds_of
from pyro_dwp.timing.measure import pairwise_ratios
from pyro_dwp.timing.timings import quartiles


class Machine:
    """Works that take so many seconds of a machine, and a clock of it; the machine gets slower with each round."""

    def __init__(self, *seconds: float) -> None:
        self.now, self.done, self.rounds = 0.0, [], [len(seconds)]
        self.works = [lambda index=index: self.work(index, seconds) for index in range(len(seconds))]

    def work(self, index: int, seconds: tuple[float, ...]) -> None:
        self.now += seconds[index] * (1 + len(self.done) // len(seconds))
        self.done.append(index)

    def clock(self, work) -> float:
        start = self.now
        work()
        return self.now - start


def test_each_round_does_each_work_once_and_every_other_round_goes_backwards():
    machine = Machine(1.0, 2.0, 4.0)
    interleave(machine.works, 3, machine.clock, warm_up=1)
    assert machine.done == [0, 1, 2, 2, 1, 0, 0, 1, 2, 2, 1, 0]


def test_rounds_that_warm_up_do_not_count():
    machine = Machine(1.0, 2.0)
    assert interleave(machine.works, 2, machine.clock, warm_up=3) == [[4.0, 5.0], [8.0, 10.0]]


def test_ratios_of_the_same_round_do_not_see_a_machine_that_slows_down():
    machine = Machine(2.0, 3.0)
    plain, other = interleave(machine.works, 7, machine.clock)
    assert quartiles(pairwise_ratios(other, plain)) == pytest.approx((1.5, 1.5, 1.5))
    assert quartiles(plain)[0] < quartiles(plain)[2]
    assert pairwise_ratios(other, plain, times=3) == pytest.approx([0.5] * 7)


def test_the_time_of_a_cpu_is_that_of_this_process_alone():
    clock = seconds_of(torch.device("cpu"))
    assert clock(lambda: time.sleep(0.2)) < 0.1
    start = time.process_time()
    found = clock(lambda: [None for _ in iter(lambda: time.process_time() - start > 0.1, True)])
    assert 0.1 <= found < 0.2


def test_a_gpu_is_waited_for(device):
    if device.type != "cuda":
        pytest.skip("needs --device cuda")
    a = torch.randn(4096, 4096, device=device)
    once, often = (seconds_of(device)(lambda count=count: [a @ a for _ in range(count)]) for count in (5, 50))
    assert 3 < often / once < 30
