"""Convolutional and normalising layers, Dropout, Embedding, buffers: formulas, gradients, modes, saving."""

import copy

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim
from minigrad.errors import DataError, DTypeError, ShapeError
from minigrad.testing import check_grad

rng = np.random.default_rng(0)
MAKERS = {
    "Conv2d": (lambda: nn.Conv2d(2, 3, (3, 2), stride=2, padding=1, dtype="float64"), (2, 2, 5, 6)),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(2, 3, 3, 2, 1, 1, dtype="float64"), (2, 2, 3, 2)),
    "BatchNorm": (lambda: nn.BatchNorm(3, dtype="float64"), (4, 3)),
    "BatchNorm of images": (lambda: nn.BatchNorm(3, dtype="float64"), (2, 3, 2, 2)),
    "LayerNorm": (lambda: nn.LayerNorm(3, dtype="float64"), (2, 4, 3)),
    "GELU": (nn.GELU, (3, 2)),
    "SiLU": (nn.SiLU, (3, 2)),
    "ELU": (lambda: nn.ELU(0.5), (3, 2)),
    "LeakyReLU": (lambda: nn.LeakyReLU(0.1), (3, 2)),
    "Softmax": (nn.Softmax, (3, 2)),
    "Flatten": (nn.Flatten, (3, 2, 2)),
    "Unflatten": (lambda: nn.Unflatten((2, 2)), (3, 4)),
}


@pytest.mark.parametrize("name", MAKERS)
def test_gradients_by_input_and_parameters(name):
    make, shape = MAKERS[name]
    layer = make()
    names = [name for name, _ in layer.named_parameters()]
    values = [rng.normal(size=p.shape) for p in layer.parameters()]

    def f(x, *given):
        for name, value in zip(names, given, strict=True):
            setattr(layer, name, value)
        return layer(x)

    check_grad(f, rng.normal(size=shape), *values)


def test_convolutions_are_the_transposes_of_each_other():
    """<conv(x), y> = <x, conv^T(y)> with one kernel, up to the order of its channels."""
    conv = nn.Conv2d(2, 3, 3, stride=2, padding=1, bias=False, dtype="float64")
    back = nn.ConvTranspose2d(3, 2, 3, stride=2, padding=1, output_padding=1, bias=False, dtype="float64")
    back.weight.assign(conv.weight.detach())
    x, y = mg.tensor(rng.normal(size=(2, 2, 6, 8))), mg.tensor(rng.normal(size=(2, 3, 3, 4)))
    np.testing.assert_allclose((conv(x) * y).sum().item(), (x * back(y)).sum().item(), rtol=1e-13)


def test_a_kernel_is_drawn_by_the_rule_of_glorot():
    w = nn.Conv2d(8, 16, 3, generator=mg.random.Generator(0)).weight.detach().numpy()
    bound = np.sqrt(6 / (9 * (8 + 16)))
    assert np.abs(w).max() <= bound and np.abs(w).max() > 0.98 * bound and abs(w.mean()) < 0.1 * bound


def test_batch_norm_in_training_and_evaluation():
    layer = nn.BatchNorm(2, momentum=0.25, dtype="float64")
    x = rng.normal(3.0, 2.0, size=(50, 2))
    y = layer(mg.tensor(x)).detach().numpy()
    np.testing.assert_allclose(y, (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5), rtol=1e-12)
    np.testing.assert_allclose(layer.running_mean.numpy(), 0.25 * x.mean(0), rtol=1e-13)
    np.testing.assert_allclose(layer.running_var.numpy(), 0.75 + 0.25 * x.var(0, ddof=1), rtol=1e-13)
    layer.eval()
    kept = layer.state_dict()
    expected = (x - kept["running_mean"]) / np.sqrt(kept["running_var"] + 1e-5)
    np.testing.assert_allclose(layer(mg.tensor(x)).detach().numpy(), expected, rtol=1e-12)
    assert all((kept[k] == v).all() for k, v in layer.state_dict().items())
    layer.train()
    with pytest.raises(ShapeError, match="one value per feature"):
        layer(mg.tensor(x[:1]))


def test_normalising_float16_has_room_for_its_squares():
    x = np.array([[0.0, 600.0], [600.0, 0.0]], "float16")
    for layer in (nn.LayerNorm(2, dtype="float16"), nn.BatchNorm(2, dtype="float16")):
        given = mg.tensor(x, requires_grad=True)
        y = layer(given)
        assert y.dtype == np.float16
        np.testing.assert_array_equal(y.detach().numpy(), [[-1, 1], [1, -1]])
        y[0, 0].backward()
        assert given.grad.dtype == np.float16 and np.isfinite(given.grad.numpy()).all()
    # the running values: 0.1 * 300, and 0.9 + 0.1 * 180,000
    np.testing.assert_array_equal(layer.running_mean.numpy(), [30, 30])
    np.testing.assert_array_equal(layer.running_var.numpy(), np.full(2, 18000.9).astype("float16"))
    layer.eval()
    layer.running_var.assign(mg.full((2,), 3600.0, "float16"))
    np.testing.assert_array_equal(layer(given).detach().numpy(), [[-0.5, 9.5], [9.5, -0.5]])


def test_a_batch_norm_of_another_dtype_is_refused_before_it_keeps_anything():
    layer = nn.BatchNorm(2, dtype="float16")
    with pytest.raises(DTypeError, match="do not mix"):
        layer(mg.ones((3, 2), "float32"))
    np.testing.assert_array_equal(layer.running_mean.numpy(), [0, 0])


def test_normalising_an_array_of_float16():
    y = nn.LayerNorm(2, dtype="float16")(np.array([[0.0, 600.0]], "float16"))
    np.testing.assert_array_equal(y.detach().numpy(), [[-1, 1]])


@pytest.mark.parametrize(
    "layer",
    [nn.Linear(3, 1), nn.LayerNorm(3), nn.BatchNorm(3), nn.Conv2d(1, 1, 2), nn.ConvTranspose2d(1, 1, 2), nn.Dropout(),
     nn.Flatten(), nn.Unflatten((1,)), nn.LeakyReLU(), nn.Tanh()],
    ids=lambda layer: type(layer).__name__,
)  # fmt: skip
def test_a_list_is_no_input(layer):
    with pytest.raises(TypeError, match=f"(?i){type(layer).__name__} takes .*, got list; wrap it in mg.tensor"):
        layer([1.0, 2.0, 3.0])


@pytest.mark.parametrize("layer", [nn.Flatten(), nn.Unflatten((1,))])
def test_one_number_has_no_axis_of_samples(layer):
    with pytest.raises(ShapeError, match=r"got an input of shape \(\); expected samples along the first axis"):
        layer(mg.tensor(1.0))


def test_normalising_integers_gives_floats():
    y = nn.LayerNorm(2)(mg.tensor([[0, 4]]))
    np.testing.assert_allclose(y.detach().numpy(), [[-1, 1]], rtol=2e-6)  # 4 / (4 + 1e-5), and rounding


@pytest.mark.not_on_gpu("replayed and eager bits differ there")
def test_a_batch_norm_is_replayed_with_its_running_values():
    layers = [nn.BatchNorm(3) for _ in range(2)]
    f = mg.compile(lambda x: layers[1](x).detach())
    for _ in range(4):
        x = mg.tensor(rng.normal(size=(6, 3)).astype("float32"))
        np.testing.assert_array_equal(layers[0](x).detach().numpy(), f(x).numpy())
    for name, value in layers[0].state_dict().items():
        np.testing.assert_array_equal(value, layers[1].state_dict()[name])


def test_dropout_keeps_the_mean_and_does_nothing_in_evaluation():
    layer = nn.Dropout(0.3, generator=mg.random.Generator(1))
    x = mg.ones((200, 100))
    y = layer(x).numpy()
    assert set(np.unique(y)) == {np.float32(0), np.float32(1 / 0.7)}
    assert abs((y == 0).mean() - 0.3) < 0.02  # six deviations of 20,000 draws
    assert (layer(x).numpy() != y).any()
    assert layer.eval()(x) is x
    t = mg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    z = nn.Dropout(0.5, generator=mg.random.Generator(0))(t)
    z.sum().backward()
    np.testing.assert_array_equal(t.grad.numpy(), z.detach().numpy() / t.detach().numpy())


def test_embedding_gathers_and_its_gradient_accumulates():
    layer = nn.Embedding(5, 2, dtype="float64")
    y = layer(np.array([[1, 1], [4, 1]]))
    np.testing.assert_array_equal(y.detach().numpy(), layer.weight.detach().numpy()[[[1, 1], [4, 1]]])
    y.sum().backward()
    np.testing.assert_array_equal(layer.weight.grad.numpy()[:, 0], [0, 3, 0, 0, 1])
    with pytest.raises(DTypeError, match="integers"):
        layer(mg.tensor([1.0]))
    with pytest.raises(IndexError):
        layer(np.array([5]))


def test_buffers_are_saved_moved_and_copied_but_not_trained():
    layer = nn.BatchNorm(2)
    assert [n for n, _ in layer.named_buffers()] == ["running_mean", "running_var"]
    assert len(list(layer.parameters())) == 2
    layer(mg.ones((3, 2)) * mg.tensor([[1.0], [2.0], [3.0]]))
    other = nn.BatchNorm(2)
    other.load_state_dict(layer.state_dict())
    np.testing.assert_array_equal(other.running_mean.numpy(), layer.running_mean.numpy())
    assert isinstance(copy.deepcopy(layer).running_mean, nn.Buffer)
    running = layer.running_mean
    assert layer.to("float64").running_mean is running and running.dtype == np.float64
    with pytest.raises(DataError, match="running_var"):
        other.load_state_dict({k: v for k, v in layer.state_dict().items() if k != "running_var"})


@pytest.mark.parametrize(("call", "error", "words"), [
    (lambda: nn.Conv2d(0, 1, 3), ShapeError, "Conv2d: got in_channels=0"),
    (lambda: nn.Conv2d(1, 1, 2.5), DTypeError, "kernel_size=2.5"),
    (lambda: nn.Conv2d(1, 1, 3, dtype="int64"), DTypeError, "Conv2d: got dtype"),
    (lambda: nn.Conv2d(1, 2, 3)(mg.ones((1, 2, 5, 5))), ShapeError, r"expected \(N, 1, H, W\)"),
    (lambda: nn.Dropout(1.0), DataError, "p=1.0"),
    (lambda: nn.BatchNorm(2, momentum=0), DataError, "momentum=0"),
    (lambda: nn.LayerNorm(2, eps=0), DataError, "eps=0"),
    (lambda: nn.LayerNorm(2)(mg.ones((2, 3))), ShapeError, r"expected \(\.\.\., 2\)"),
    (lambda: nn.BatchNorm(2)(mg.ones((2, 3))), ShapeError, r"expected \(N, 2, \.\.\.\)"),
])  # fmt: skip
def test_bad_arguments_are_refused(call, error, words):
    with pytest.raises(error, match=words):
        call()


@pytest.mark.not_on_gpu("replayed and eager bits differ there")
def test_a_convolutional_autoencoder_learns_and_replays_its_bits():
    x = mg.tensor((rng.random((16, 1, 8, 8)) > 0.7).astype("float32"))

    def make():
        mg.random.seed(0)
        model = nn.Sequential(
            nn.Conv2d(1, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 8, 3, 2, 1), nn.ReLU(),
            nn.ConvTranspose2d(8, 4, 3, 2, 1, 1), nn.ReLU(), nn.ConvTranspose2d(4, 1, 3, 2, 1, 1), nn.Sigmoid(),
        )  # fmt: skip
        optimizer = optim.Adam(model.parameters(), lr=0.01)

        def step(x):
            optimizer.zero_grad()
            loss = mg.square(model(x) - x).sum(axis=(1, 2, 3)).mean()
            loss.backward()
            optimizer.step()
            return loss

        return step

    eager, compiled = make(), mg.compile(make())
    losses = [(eager(x).item(), compiled(x).item()) for _ in range(30)]
    assert all(a == b for a, b in losses)
    assert losses[-1][0] < 0.8 * losses[0][0]
