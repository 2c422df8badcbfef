"""What holds for every model: gradients, training, recording, files, the command line, the contractive penalty."""

import json
import math

import numpy as np
import pytest

import autoencoders as ae
import minigrad as mg
from autoencoders.cli import main
from minigrad import files, nn
from minigrad.errors import DataError, ShapeError
from minigrad.testing import check_grad


def pair(dtype="float32", width=4, **kwargs):
    generator = mg.random.Generator(5)
    encoder = nn.Sequential(nn.Linear(6, width, generator=generator, dtype=dtype), nn.BatchNorm(width, dtype=dtype))
    return ae.EncoderDecoder(encoder, nn.Linear(width, 6, generator=generator, dtype=dtype), "sigmoid", (6,), **kwargs)


# Each kind with arguments that are not the default ones, so that a file that loses one is found.
MODELS = {
    "dense": lambda **kw: ae.Autoencoder((6, 5, 3), "tanh", "sigmoid", tied=True, **kw),
    "images": lambda **kw: ae.ConvAutoencoder((2, 5, 4), (3, 2), None, 5, 3, "tanh", "sigmoid", **kw),
    "images to a code": lambda **kw: ae.ConvAutoencoder(
        (1, 5, 6), (2, 3), 4, activation="tanh", output="sigmoid", **kw
    ),
    "variational": lambda **kw: ae.VariationalAutoencoder((6, 5), 2, "sigmoid", "sigmoid", **kw),
    "linear variational": lambda **kw: ae.VariationalAutoencoder((6,), 2, **kw),
    "top-k": lambda **kw: ae.TopKAutoencoder((6, 9), 3, "sigmoid", **kw),
    "tied top-k": lambda **kw: ae.TopKAutoencoder((6, 9), 2, "sigmoid", tied=True, **kw),
    "stacked": lambda **kw: ae.StackedAutoencoder((6, 5, 3), "tanh", "sigmoid", **kw),
    "pair": pair,
}
SAVED = [name for name in MODELS if name != "pair"]  # those that a file makes anew
every = pytest.mark.parametrize("name", MODELS)
saved = pytest.mark.parametrize("name", SAVED)


def data(model, m=24, seed=0):
    return np.random.default_rng(seed).random((m, *model.input_shape))


def objective(model, x):
    """Cross entropy, with the terms that belong to a kind of model."""
    terms = {}
    if isinstance(model, ae.VariationalAutoencoder):
        mean, log_variance = model.distribution(x)
        h = model.sample(mean, log_variance)
        terms["kl"] = ae.gaussian_kl(mean, log_variance)
    else:
        h = model.encode(x)
    if isinstance(model, ae.TopKAutoencoder):
        terms["revival"] = model.dead_unit_error(x, model.decode(h), after=15) / 32
    return {"reconstruction": ae.binary_cross_entropy_with_logits(model.decode_logits(h), x), **terms}


def bits(model):
    return {name: (a.dtype, a.tobytes()) for name, a in model.state_dict().items()}


# ---------------------------------------------------------------- gradients and training


@every
def test_gradients_are_those_of_numerical_differentiation(name):
    model = MODELS[name](dtype="float64").eval()  # no counting, no running means: f must repeat itself
    rng = np.random.default_rng(1)
    held = [(module, key, value) for _, module in model.named_modules() for key, value in vars(module).items()]
    places = [(module, key) for module, key, value in held if isinstance(value, mg.Parameter)]

    def loss(x, *values):
        for (module, key), value in zip(places, values, strict=True):
            setattr(module, key, value)
        mg.random.seed(2)  # the same noise in every call
        terms = objective(model, mg.sigmoid(x)).values()  # the penalty wants x in [0, 1], also when x is moved
        return sum(terms, start=mg.square(model(x) - 0.3).sum())

    start = [rng.normal(size=getattr(module, key).shape) for module, key in places]
    assert len(start) == len(list(model.parameters()))
    check_grad(loss, data(model, m=3), *start)


@every
def test_training_lowers_the_loss_and_compiles_to_the_same_bits(name):
    results = []
    for compile in (True, False):
        model = MODELS[name]()
        history = ae.fit(
            model, data(model), objective, epochs=6, batch_size=10, compile=compile, validation=data(model, 5, 1),
            optimizer=mg.optim.Adam(model.parameters(), lr=0.01),
        )  # fmt: skip
        assert history.terms["reconstruction"][-1] < history.terms["reconstruction"][0]
        results.append((bits(model), history.terms, history.validation))
    assert results[0] == results[1]


@pytest.mark.parametrize("name", ["variational", "top-k", "pair"])  # noise, counts, running means
def test_an_interrupted_training_goes_on_with_the_same_bits(name, tmp_path):
    whole, parts = MODELS[name](), MODELS[name]()
    ae.fit(whole, data(whole), objective, epochs=3, batch_size=10)
    file = tmp_path / "c.safetensors"
    ae.fit(parts, data(parts), objective, epochs=1, batch_size=10, checkpoint=file)
    again = MODELS[name](**({} if name == "pair" else {"seed": 99}))
    ae.fit(again, data(again), objective, epochs=3, batch_size=10, checkpoint=file, resume=True)
    assert bits(again) == bits(whole)


@every
def test_forward_decodes_the_code_and_logits_are_before_the_sigmoid(name):
    model = MODELS[name]().eval()
    x = data(model, 4).astype(np.float32)
    h = model.encode(x)
    same = [model(x).detach().numpy(), model(mg.tensor(x)).detach().numpy(), model.decode(h).detach().numpy()]
    same.append(mg.sigmoid(model.decode_logits(h)).detach().numpy())
    assert all((a == same[0]).all() for a in same) and same[0].shape == x.shape
    assert model(x.astype(np.float64)).dtype == np.float32  # arrays take the dtype of the model


@every
@pytest.mark.parametrize("method", ["auto", "exact", "hutchinson"])
def test_the_contractive_penalty_takes_every_encoder(name, method):
    model = MODELS[name](dtype="float64").eval()
    x = mg.tensor(data(model, 3))

    def flat(row):  # the code of one sample
        return model.encode(row.reshape(1, *model.input_shape)).reshape(-1)

    jacobians = [mg.jacobian(flat)(row.reshape(-1)).numpy() for row in x]
    exact = sum((j**2).sum() for j in jacobians) / len(x)
    if method == "hutchinson":
        mg.random.seed(0)
        found = np.mean([ae.contractive(model.encode, x, method, probes=40).item() for _ in range(10)])
        assert 0.7 * exact < found < 1.4 * exact  # 1200 draws
    else:
        np.testing.assert_allclose(ae.contractive(model.encode, x, method).item(), exact, rtol=1e-12)


@every
def test_a_contractive_model_compiles_to_the_same_bits(name):
    def contracting(model, x):
        return {**objective(model, x), "contraction": 0.1 * ae.contractive(model.encode, x)}

    results = []
    for compile in (True, False):
        model = MODELS[name]()
        ae.fit(model, data(model, 12), contracting, epochs=2, batch_size=6, compile=compile)
        results.append(bits(model))
    assert results[0] == results[1]


# ---------------------------------------------------------------- files


@saved
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_trained_model_comes_back_bit_for_bit(name, dtype, tmp_path):
    model = MODELS[name](dtype=dtype, seed=3)
    ae.fit(model, data(model), objective, epochs=1)
    again = ae.load_model(model.save(tmp_path))
    assert type(again) is type(model) and repr(again) == repr(model) and bits(again) == bits(model)
    x = data(model, 4)
    assert (again.eval()(x).numpy() == model.eval()(x).numpy()).all()
    assert type(model).load(tmp_path).config() == model.config()
    filled = ae.load_model(tmp_path, into=MODELS[name](dtype=dtype, seed=4))
    assert bits(filled) == bits(model)


@pytest.mark.parametrize(
    "make", [pair, lambda: ae.SoftmaxRegression(4, range(3), ae.StackedAutoencoder((6, 4))), lambda: nn.Conv2d(1, 2, 3)]
)
def test_modules_of_your_own_come_back_into_one_like_them(make, tmp_path):
    model, again = make(), make()
    for p in again.parameters():
        p.assign(p + 1.0)
    file = ae.save_model(model, tmp_path)
    with pytest.raises(DataError, match="holds a module of your own; .*into=module"):
        ae.load_model(file)
    assert ae.load_model(file, into=again) is again
    assert bits(again) == bits(model)


def test_a_subclass_is_a_module_of_your_own(tmp_path):
    class Noisy(ae.Autoencoder):
        def encode(self, x):
            return super().encode(x) + 1.0

    file = Noisy((4, 2)).save(tmp_path)
    with pytest.raises(DataError, match=r"module of your own; .*It was Noisy\(4-2-4"):
        ae.load_model(file)
    assert isinstance(ae.load_model(file, into=Noisy((4, 2), seed=1)), Noisy)


def test_a_configuration_with_a_tuple_is_read_back(tmp_path):
    class Shaped(ae.Autoencoder):
        def config(self):
            return {**super().config(), "shape": (2, 2), "of": {"these": ((1, 2), 3)}}

    model = Shaped((4, 2))
    again = ae.load_model(model.save(tmp_path), into=Shaped((4, 2), seed=1))
    assert bits(again) == bits(model)


def test_a_file_of_another_model_is_refused_and_nothing_changes(tmp_path):
    file = ae.Autoencoder((6, 3), "tanh").save(tmp_path)
    for into in (ae.Autoencoder((6, 3), "sigmoid"), ae.StackedAutoencoder((6, 3), "tanh"), pair(), nn.Linear(6, 3)):
        before = bits(into)
        with pytest.raises(DataError, match=r"holds Autoencoder\(6-3-6, activation='tanh'.*expected a model like into"):
            ae.load_model(file, into=into)
        assert bits(into) == before
    into = ae.Autoencoder((6, 3), "tanh", dtype="float64")  # its description is the same
    with pytest.raises(DataError, match="which differs in dtype: 'float32', not 'float64'; expected a model like"):
        ae.load_model(file, into=into)
    with pytest.raises(DataError, match="which differs in activation: 'tanh', not 'relu' and tied: False, not True;"):
        ae.load_model(file, into=ae.Autoencoder((6, 3), "relu", tied=True))
    with pytest.raises(DataError, match="which differs in its format: Autoencoder {.*}, not Module {}; expected"):
        ae.load_model(file, into=nn.Linear(6, 3))
    with pytest.raises(DataError, match="expected a model of the class TopKAutoencoder"):
        ae.TopKAutoencoder.load(file)
    ae.save_model(pair(), tmp_path)
    into = pair(width=5)
    before = bits(into)
    with pytest.raises(DataError, match=r"arrays do not fit EncoderDecoder[\s\S]*shape \(4,\), expected \(5,\)"):
        ae.load_model(tmp_path, into=into)
    assert bits(into) == before


@saved
def test_a_model_that_was_converted_to_float16_comes_back_bit_for_bit(name, tmp_path):
    model = MODELS[name]().to("float16")
    again = ae.load_model(model.save(tmp_path))
    assert bits(again) == bits(model) and {p.dtype.name for p in again.parameters()} == {"float16"}


def classifier(classes):
    return ae.SoftmaxRegression(4, classes)


@pytest.mark.parametrize(
    "classes", [["b", "a"], [2, 1], [0.5, 0.25], [b"b", b"a"], np.array([2, 1], "M8[D]"), [True, False]]
)
def test_a_classifier_is_not_read_for_other_classes(classes, tmp_path):
    model = classifier(classes)
    model.linear.weight.assign(np.arange(8.0).reshape(4, 2))
    file = ae.save_model(model, tmp_path)
    assert bits(ae.load_model(file, into=classifier(classes))) == bits(model)
    into = classifier(classes[::-1])
    before = bits(into)
    with pytest.raises(DataError, match=r"which differs in classes: \[.*\], not \[.*\]; expected a model like into"):
        ae.load_model(file, into=into)
    assert bits(into) == before


@saved
def test_a_configuration_that_lost_or_gained_an_argument_is_damaged(name, tmp_path):
    model = MODELS[name]()
    file = model.save(tmp_path)
    state, metadata = files.load_with_metadata(file)
    config = json.loads(metadata["config"])
    assert config == model.config()
    wrong = [{k: v for k, v in config.items() if k != left_out} for left_out in config]
    wrong += [{**config, "seed": 1}, {**config, "unknown": 1}, {**config, "generator": 5}, [1], None]
    for damaged in wrong:
        files.save(file, state, {**metadata, "config": json.dumps(damaged)})
        with pytest.raises(DataError, match="configuration is damaged"):
            ae.load_model(file)


# ---------------------------------------------------------------- the command line


@pytest.mark.not_on_gpu("replayed and eager bits differ there")
@saved
def test_the_command_line_uses_every_saved_model(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model = MODELS[name]()
    x = data(model, 7)
    rows = x.reshape(7, -1)
    np.save("x.npy", rows)
    model.save("m.safetensors")
    for command, expected in (("encode", model.encode(x)), ("reconstruct", model(x))):
        assert main([command, "--model", "m.safetensors", "--data", "x.npy", "--out", f"{command}.npy"]) == 0
        np.testing.assert_array_equal(np.load(f"{command}.npy"), expected.detach().numpy().reshape(7, -1))
    assert np.load("reconstruct.npy").shape == rows.shape
    assert main(["info", "--model", "m.safetensors"]) == 0
    printed = capsys.readouterr().out
    assert repr(model) in printed and all(key in printed for key in model.state_dict())
    np.save("x.npy", rows[:, :-1])
    assert main(["encode", "--model", "m.safetensors", "--data", "x.npy", "--out", "h.npy"]) == 2
    assert f"takes {math.prod(model.input_shape)}" in capsys.readouterr().err


def test_the_command_line_describes_modules_of_your_own(tmp_path, capsys):
    file = str(ae.save_model(pair(), tmp_path))
    assert main(["info", "--model", file]) == 0
    printed = capsys.readouterr().out
    assert "EncoderDecoder(output='sigmoid'" in printed and "encoder.1.running_mean       float32[4]" in printed
    assert main(["encode", "--model", file, "--out", str(tmp_path / "h.npy")]) == 2
    assert "load_model(path, into=module)" in capsys.readouterr().err


# ---------------------------------------------------------------- refusals


@every
def test_data_of_another_shape_are_refused_before_anything_changes(name):
    model = MODELS[name]()
    before = bits(model)
    with pytest.raises(ShapeError, match="encode: got shape"):
        model.encode(np.zeros((3, *model.input_shape[:-1], model.input_shape[-1] + 1)))
    with pytest.raises(ShapeError, match="fit: X has shape"):
        ae.fit(model, np.zeros((3, 99)), objective, epochs=1)
    assert bits(model) == before


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: ae.EncoderDecoder(mg.tanh, nn.Linear(2, 3)), TypeError, "got encoder=.*expected a module"),
        (lambda: ae.EncoderDecoder(nn.Tanh(), nn.Tanh(), "softmax"), DataError, "output='softmax'"),
        (lambda: ae.EncoderDecoder(nn.Tanh(), nn.Tanh(), input_shape=(0,)), ShapeError, "input_shape"),
        (lambda: ae.EncoderDecoder(nn.Tanh(), nn.Tanh()).decode_logits(np.ones(2)), DataError, "output='linear'"),
    ],
)
def test_pairs_refuse(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_a_pair_without_parameters_still_computes():
    model = ae.EncoderDecoder(nn.Tanh(), nn.Identity())
    assert model(np.zeros((2, 3))).numpy().tolist() == [[0.0] * 3] * 2
