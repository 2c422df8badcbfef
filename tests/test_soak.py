"""Many compiled steps in a row, with other data and another learning rate each: they stay those of eager execution.

Memory stays what it was, on the host and on the device.
"""

import os
from pathlib import Path

import numpy as np
import pytest

import autoencoders as ae
import minigrad as mg
from minigrad import optim

SIZES, BATCH = (64, 32), 32
MOST_DRIFT = 1e-2  # of the norm of a parameter, after a block of steps from the same state
MIB = 2**20


def host_memory():
    """Return the bytes that this process holds now."""
    pages = Path("/proc/self/statm")
    if not pages.exists():
        pytest.skip("needs /proc to see how much memory the process holds")
    return int(pages.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def device_memory(place):
    """Return the bytes that are taken on a GPU, by whatever; 0 for the CPU."""
    if place.type == "cpu":
        return 0
    free, total = place.xp.cuda.runtime.memGetInfo()
    return total - free


class Training:
    """A model with its optimizer and its own stream of masks, whose steps are compiled or not."""

    def __init__(self, place, compiled):
        self.model = ae.Autoencoder(SIZES, output="sigmoid", seed=1).to(place)
        self.optimizer = optim.Adam(self.model.parameters(), lr=1e-3)
        self.masks = mg.random.Generator(5)
        self.masks.uniform((1,), device=place)  # the counter is on the device before anything is recorded
        self.step = mg.compile(self._step) if compiled else self._step

    def _step(self, x):
        noisy = x * (self.masks.uniform(x.shape, device=x.device) >= 0.25)
        loss = ae.binary_cross_entropy_with_logits(self.model.decode_logits(self.model.encode(noisy)), x)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def state(self):
        return self.model.state_dict(), self.optimizer.state_dict(), self.masks.state()

    def set_state(self, state):
        self.model.load_state_dict(state[0])
        self.optimizer.load_state_dict(state[1])
        self.masks.set_state(state[2])


def drift(ours, theirs):
    """Return the largest difference of a tensor of two states, relative to its norm."""
    return max(
        np.linalg.norm(a - theirs[part][name]) / (np.linalg.norm(a) + 1e-30)
        for part in (0, 1)
        for name, a in ours[part].items()
    )


def soak(place, steps, block):
    """Run that many steps, compiled and not; return the drift of each block, and the memory held after each."""
    data = mg.tensor(np.random.default_rng(0).random((1000, SIZES[0]), dtype=np.float32), device=place)
    compiled, eager = Training(place, True), Training(place, False)
    drifts, memory = [], []
    for start in range(0, steps, block):
        eager.set_state(compiled.state())
        losses = [], []
        for training, seen in zip((compiled, eager), losses, strict=True):
            for i in range(start, start + block):
                training.optimizer.lr = 1e-3 * (1.0 + 0.5 * np.sin(i / 50))
                first = 37 * i % (len(data) - BATCH)
                loss = training.step(data[first : first + BATCH])
                if i % 100 == 0:
                    seen.append(loss.item())
        np.testing.assert_allclose(*losses, rtol=1e-3)
        drifts.append(drift(compiled.state(), eager.state()))
        assert compiled.masks.state() == eager.masks.state()
        memory.append((host_memory(), device_memory(place)))
    return drifts, memory


def assert_steady(drifts, memory, settled):
    assert max(drifts) < MOST_DRIFT, drifts
    host, device = (np.array(column) for column in zip(*memory, strict=True))
    assert host[settled:].max() - host[settled] < 16 * MIB, host.tolist()
    assert device[settled:].max() - device[settled] < 2 * MIB, device.tolist()


def test_compiled_steps_on_the_cpu_do_not_drift():
    drifts, memory = soak(mg.device("cpu"), 600, 200)
    assert max(drifts) == 0.0  # the same bits
    assert_steady(drifts, memory, 1)


@pytest.mark.gpu
@pytest.mark.not_on_standin("it does not tell how much memory it has")
def test_ten_thousand_compiled_steps_on_a_gpu_do_not_drift():
    drifts, memory = soak(mg.device("cuda"), 10_000, 1000)
    assert_steady(drifts, memory, 2)
