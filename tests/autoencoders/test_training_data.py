"""What fit can be given: labels, arrays on disk, iterables of batches; and L-BFGS on the whole of X."""

import numpy as np
import pytest

import autoencoders as ae
import minigrad as mg
from minigrad import nn, optim
from minigrad.errors import DataError, DivergenceError, DTypeError, ShapeError
from minigrad.random import Generator

RNG = np.random.default_rng(0)
X = RNG.random((50, 6))
Y = RNG.integers(0, 3, 50)


def denoising(model, x):
    return {"error": ae.squared_error(model(ae.masking_noise(x, 0.25)), x), "decay": 1e-3 * ae.l2(model)}


def make(seed=0):
    return ae.Autoencoder((6, 3), output="sigmoid", dtype="float64", seed=seed)


def values(model):
    return np.concatenate([p.detach().numpy().ravel() for p in model.parameters()])


@pytest.fixture
def mapped(tmp_path):
    np.save(tmp_path / "x.npy", X.astype(np.float32))
    return np.load(tmp_path / "x.npy", mmap_mode="r")


class Batches:
    """An iterable that begins anew each time, and counts how often."""

    def __init__(self, parts):
        self.parts = parts
        self.begun = 0

    def __iter__(self):
        self.begun += 1
        yield from self.parts


class Sparse:
    """What SciPy's sparse matrices have in common: they can be gone through, and made into an array."""

    shape = X.shape

    def __iter__(self):
        return iter(X)

    def toarray(self):
        return X


# ---------------------------------------------------------------- labels


@pytest.mark.parametrize("compile", [True, False])
def test_labels_come_with_their_samples(compile):
    centres = np.eye(3) * 4
    x = centres[Y] + 0.1 * RNG.normal(size=(50, 3))
    model = nn.Sequential(nn.Linear(3, 3, dtype="float64"))
    history = ae.fit(
        model, x, lambda model, x, y: mg.cross_entropy(model(x), y), y=Y, epochs=60, batch_size=16,
        optimizer=optim.Adam(model.parameters(), lr=0.05), validation=(x[:9], Y[:9]), compile=compile,
    )  # fmt: skip
    assert (model(mg.tensor(x)).numpy().argmax(axis=1) == Y).all()
    assert history.validation["loss"][-1] < 0.2


def test_labels_are_integers_and_targets_have_the_dtype_of_the_model():
    seen = set()

    def objective(model, x, y):
        seen.add((y.dtype.name, y.shape[1:]))
        return ae.squared_error(model(x), x)

    for y in (Y, Y.astype(np.uint8), X.astype(np.float32), Y > 1):
        ae.fit(make(), X, objective, y=y, epochs=1, compile=False)
    assert seen == {("int64", ()), ("float64", (6,)), ("float64", ())}


@pytest.mark.not_on_standin
@pytest.mark.parametrize("wrong", [-1, 3])
@pytest.mark.parametrize("kind", ["memory", "disk", "iterable"])
def test_the_number_of_no_class_is_found_in_any_batch_although_the_step_is_compiled(kind, wrong, mapped):
    y = Y.copy()
    y[20] = wrong  # in the fifth batch, which a recorded step takes
    data = {"memory": (X, y), "disk": (mapped, y)}.get(kind)
    x, y = data or (Batches([(X[i : i + 4], y[i : i + 4]) for i in range(0, 50, 4)]), None)
    model = nn.Sequential(nn.Linear(6, 3))
    with pytest.raises(DataError, match=f"targets contain {wrong}, but logits have 3 classes"):
        ae.fit(
            model, x, lambda model, x, y: mg.cross_entropy(model(x), y), y=y, epochs=1, batch_size=4, shuffle=False,
        )  # fmt: skip


# ---------------------------------------------------------------- arrays on disk


def test_an_array_on_disk_trains_as_one_in_memory_to_the_last_bit(mapped):
    models = make(), make()
    histories = [
        ae.fit(model, data, denoising, epochs=3, batch_size=16, validation=data)
        for model, data in zip(models, (mapped, np.array(mapped)), strict=True)
    ]
    assert (values(models[0]) == values(models[1])).all()
    assert histories[0].terms == histories[1].terms and histories[0].validation == histories[1].validation


def test_an_array_on_disk_is_never_read_as_a_whole(mapped):
    sizes = []

    class Watched(np.memmap):
        def __getitem__(self, index):
            rows = super().__getitem__(index)
            sizes.append(len(rows))
            return np.asarray(rows)

        def __array__(self, *args, **kwargs):
            raise AssertionError("read as a whole")

    ae.fit(make(), mapped.view(Watched), denoising, epochs=2, batch_size=16)
    assert sum(sizes) == 16 + 2 * 50 and max(sizes) == 16  # the first batch is looked at beforehand


def test_labels_of_an_array_on_disk(mapped):
    seen = []

    def objective(model, x, y):
        seen.append((x.numpy()[:, 0], y.numpy()))
        return ae.squared_error(model(x), x)

    ae.fit(make(), mapped, objective, y=np.arange(50), epochs=1, batch_size=16, compile=False)
    for x, y in seen:
        assert (x == X.astype(np.float32)[y, 0]).all()


def test_a_bad_value_on_disk_stops_the_epoch_and_undoes_it(tmp_path):
    bad = X.copy()
    bad[40, 2] = np.nan
    np.save(tmp_path / "bad.npy", bad)
    model = make()
    before = values(model)
    for shuffle in (True, False):
        with pytest.raises(DataError, match=r"fit: X\[40, 2\] is nan, one of 1 values of a batch that are not finite"):
            ae.fit(
                model, np.load(tmp_path / "bad.npy", mmap_mode="r"), denoising, epochs=1, batch_size=16, shuffle=shuffle
            )
    assert (values(model) == before).all()


def test_a_bad_label_of_data_on_disk_is_named_by_its_row(mapped):
    y = X.copy()
    y[37, 1] = np.inf
    with pytest.raises(DataError, match=r"fit: y of X\[37, 1\] is inf, one of 1 values of a batch"):
        ae.fit(make(), mapped, lambda model, x, y: ae.squared_error(model(x), y), y=y, epochs=1, batch_size=16)


def test_a_bad_value_of_an_iterable_is_named_by_its_batch():
    bad = X.copy()
    bad[45, 2] = np.nan
    with pytest.raises(DataError, match=r"fit: batch 3 of X\[5, 2\] is nan, one of 1 values that are not finite"):
        ae.fit(make(), Batches([X[:20], X[20:40], bad[40:]]), denoising, epochs=1)
    with pytest.raises(ShapeError, match=r"fit: batch 2 of X has shape \(5, 7\)"):
        ae.fit(make(), Batches([X, np.zeros((5, 7))]), denoising, epochs=1)


# ---------------------------------------------------------------- iterables


def test_an_iterable_gives_the_same_as_the_array_in_its_order():
    parts = Batches([X[:20], X[20:40], X[40:]])
    models = make(), make()
    a = ae.fit(models[0], parts, denoising, epochs=3)
    b = ae.fit(models[1], X, denoising, epochs=3, batch_size=20, shuffle=False)
    assert (values(models[0]) == values(models[1])).all()
    np.testing.assert_allclose(a.loss, b.loss, rtol=1e-15)
    assert parts.begun == 3  # the look at the first batch is not a pass of its own


def test_pairs_of_an_iterable_are_samples_and_labels():
    seen = []

    def objective(model, x, y):
        seen.append(y.numpy().tolist())
        return ae.squared_error(model(x), x)

    ae.fit(make(), Batches([(X[:3], Y[:3]), (X[3:5], Y[3:5])]), objective, epochs=1, compile=False)
    assert seen == [Y[:3].tolist(), Y[3:5].tolist()]


@pytest.mark.parametrize("kind", [np.asarray, mg.tensor])
def test_lists_of_x_and_y_are_such_pairs_as_tuples_are(kind):
    def fit(wrap, labels=True):
        def objective(model, x, *y):
            return ae.squared_error(model(x), x)

        model, parts = make(), [(X[i : i + 25], Y[i : i + 25]) for i in (0, 25)]
        batches = Batches([wrap(map(kind, part if labels else part[:1])) for part in parts])
        return ae.fit(model, batches, objective, epochs=2, validation=batches).loss, values(model).tolist()

    assert fit(list) == fit(tuple) == fit(list, labels=False)


def test_a_list_of_samples_is_a_batch():
    model = ae.EncoderDecoder(nn.Linear(6, 3), nn.Linear(3, 6))
    history = ae.fit(
        model, Batches([list(X[:20]), X[20:40].tolist(), list(X[40:42]), [X[42]]]), error, epochs=1, compile=False
    )
    assert history.epochs == 1
    images = ae.EncoderDecoder(nn.Sequential(nn.Flatten(), nn.Linear(6, 3)), nn.Linear(3, 6))
    pictures = X.reshape(50, 2, 3)
    objective = lambda model, x: ae.squared_error(model(x), x.reshape(len(x), -1))  # noqa: E731
    # the last batch is no pair, since the first is none
    assert ae.fit(images, Batches([list(pictures[:48]), list(pictures[48:])]), objective, epochs=1).epochs == 1


def test_a_generator_serves_one_epoch():
    model = make()
    before = values(model)
    with pytest.raises(DataError, match="ends after one epoch, and epochs=2"):
        ae.fit(model, (x for x in [X]), denoising, epochs=2)
    assert (values(model) == before).all()
    assert ae.fit(model, (x for x in [X[:20], X[20:]]), denoising, epochs=1).epochs == 1


def error(model, x):
    return ae.squared_error(model(x), x)


@pytest.mark.parametrize("epochs", [1, 3])
def test_an_iterable_is_gone_through_once_for_each_epoch(epochs):
    stream = Batches([X[:10], X[10:30]])
    ae.fit(ae.Autoencoder((6, 2)), stream, error, epochs=epochs)
    assert stream.begun == epochs


@pytest.mark.parametrize(
    ("train", "validation", "message"),
    [
        ([(X[:5], X[:5, 0])], [X[:5]], "validation gives x alone, and the training data are x and y"),
        ([X[:5]], [(X[:5], X[:5, 0])], "validation gives x and y, and the training data are x alone"),
        ([(X[:5], X[:5, 0]), X[5:9]], None, "batch 2 of X has x alone, and the first one x and y"),
        ([X[:5], (X[:5], X[:5, 0])], None, "batch 2 of X has x and y, and the first one x alone"),
    ],
)
def test_batches_have_labels_everywhere_or_nowhere(train, validation, message):
    model = ae.Autoencoder((6, 2))
    before = model.state_dict()
    held_out = validation and Batches(validation)
    with pytest.raises(DataError, match=message):
        ae.fit(model, Batches(train), lambda m, x, *y: error(m, x), validation=held_out, epochs=1)
    assert all((before[name] == a).all() for name, a in model.state_dict().items())


def test_an_iterable_that_does_not_begin_anew_is_an_error_that_says_so():
    parts = iter([X[:20], X[20:]])

    class Once:
        def __iter__(self):
            return parts

    model = make()
    with pytest.raises(DataError, match="begins anew"):
        ae.fit(model, Once(), denoising, epochs=2)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"X": Batches([])}, DataError, "without a batch"),
        ({"X": Batches([X[:, :5]])}, ShapeError, r"\(50, 5\); expected \(m, 6\)"),
        ({"X": Batches([(X, Y, Y)])}, DataError, "batch of 3 parts"),
        ({"X": Batches([(X, Y[:5])])}, ShapeError, r"\(5,\); expected 50"),
        ({"X": Batches([X]), "y": Y}, DataError, "pairs"),
        ({"X": Batches([X]), "optimizer": "lbfgs"}, DataError, "all of X at once"),
        ({"y": Y[:5]}, ShapeError, r"y of X has shape \(5,\)"),
        ({"y": ["a"] * 50}, DTypeError, "y of X"),
        ({"y": np.full(50, np.nan)}, DataError, r"y of X\[0\] is nan"),
        ({"y": Y, "validation": X}, DataError, "pair"),
        ({"validation": (X, Y)}, DataError, "validation is a pair, but there is no y"),
        ({"validation": (X[:5], mg.tensor(Y[:5]))}, DataError, "validation is a pair, but there is no y"),
        ({"y": np.full(50, 2**63, np.uint64)}, DataError, r"y of X contains 9223372036854775808; .* below 2\*\*63"),
        ({"X": np.ma.masked_greater(X, 0.9)}, DataError, r"fit: X has \d+ masked values; fill them"),
        ({"y": np.ma.masked_equal(Y, 1)}, DataError, r"fit: y of X has \d+ masked values"),
        ({"X": Batches([X, np.ma.masked_less(X, 0.1)])}, DataError, r"fit: batch 2 of X has \d+ masked values"),
        ({"X": Sparse()}, DTypeError, r"fit: X is sparse, a Sparse; give the array of it, as X\.toarray\(\) does"),
        ({"X": Batches([X, Sparse()])}, DTypeError, "fit: batch 2 of X is sparse"),
        ({"validation": Sparse()}, DTypeError, "fit: validation is sparse"),
        ({"X": Batches([None, X])}, DTypeError, "fit: batch 1 of X has dtype object; expected real numbers"),
        ({"X": Batches([X, None])}, DTypeError, "fit: batch 2 of X has dtype object; expected real numbers"),
        ({"seed": None}, DTypeError, "got seed=None; expected an integer"),
        ({"callback": 3}, DTypeError, "got callback=3; expected a function"),
        ({"optimizer": "lbfgs", "max_norm": 1.0}, DataError, "curvature"),
    ],
)
def test_unusable_data_are_refused_before_anything_changes(arguments, error, message):
    model = make()
    before = values(model)
    arguments = {"X": X, "objective": denoising, "epochs": 1, **arguments}
    if arguments.get("optimizer") == "lbfgs":
        arguments["optimizer"] = optim.LBFGS(model.parameters())
    with pytest.raises(error, match=message):
        ae.fit(model, **arguments)
    assert (values(model) == before).all()


def test_unusable_labels_beside_a_memory_map_are_refused(tmp_path):
    np.save(tmp_path / "x.npy", X)
    x, model = np.load(tmp_path / "x.npy", mmap_mode="r"), make()
    for y, error, message in [
        (np.ma.masked_equal(Y, 1), DataError, r"fit: y of X has \d+ masked values"),
        ([[1], *([[1, 2]] * 49)], ShapeError, "fit: y of X is no array .*; expected rows of the same length"),
        (Y[:5], ShapeError, "y of X has 5 entries; expected 50"),
    ]:
        with pytest.raises(error, match=message):
            ae.fit(model, x, denoising, y=y, epochs=1)


# ---------------------------------------------------------------- L-BFGS


def sparse(model, x):
    h = model.encode(x)
    return {"error": ae.squared_error(model.decode(h), x), "sparsity": 0.3 * ae.kl_sparsity(h, 0.2)}


@pytest.mark.parametrize("compile", [True, False])
def test_lbfgs_minimises_over_the_whole_of_x(compile):
    model = make()
    optimizer = optim.LBFGS(model.parameters(), max_iter=200)
    history = ae.fit(model, X, sparse, epochs=3, optimizer=optimizer, batch_size=7, compile=compile, validation=X)
    h = mg.vjp(lambda x: sum(sparse(model, x).values()), mg.tensor(X))[0]
    np.testing.assert_allclose(history.loss[-1], h.item(), rtol=1e-12)  # the terms are those of the parameters kept
    np.testing.assert_allclose(sum(c[-1] for c in history.validation.values()), h.item(), rtol=1e-12)  # in one batch
    gradient = mg.autograd.grad(sum(sparse(model, mg.tensor(X)).values()), list(model.parameters()))
    assert max(float(mg.abs(g).max().item()) for g in gradient) < 1e-2  # it is 0.18 at the start


def test_lbfgs_sees_one_noise_in_an_epoch_and_another_in_the_next():
    drawn = []

    def objective(model, x):
        noisy = ae.gaussian_noise(x, 0.1)
        drawn.append(float(noisy.sum().item()))
        return ae.squared_error(model(noisy), x)

    model = make()
    counts = []
    optimizer = optim.LBFGS(model.parameters(), max_iter=5)
    ae.fit(model, X, objective, epochs=2, optimizer=optimizer, compile=False, shuffle=False,
           callback=lambda model, history: counts.append(len(drawn)))  # fmt: skip
    assert len(set(drawn[: counts[0]])) == 1 and len(set(drawn[counts[0] :])) == 1
    assert drawn[0] != drawn[-1]


@pytest.mark.parametrize("compile", [True, False])
def test_lbfgs_draws_from_a_generator_of_the_model_once_in_an_epoch(compile):
    model = nn.Sequential(nn.Linear(6, 4), nn.Dropout(0.3, generator=Generator(3)), nn.Linear(4, 6))
    counters = []
    ae.fit(
        model, X, lambda model, x: ae.squared_error(model(x), x), epochs=2, compile=compile,
        optimizer=optim.LBFGS(model.parameters(), max_iter=5),
        callback=lambda model, history: counters.append(model[1].generator.counter),
    )  # fmt: skip
    other = Generator(3)
    for counter in counters:
        other.uniform((len(X), 4), dtype=model[0].weight.dtype)
        assert counter == other.counter


@pytest.mark.parametrize("compile", [True, False])
def test_lbfgs_counts_idle_units_once_in_an_epoch_so_that_a_line_search_sees_one_function(compile):
    model = ae.TopKAutoencoder((6, 20), k=2)
    optimizer = optim.LBFGS(model.parameters(), max_iter=5)

    def objective(model, x):
        x_hat = model(x)
        return {"error": ae.squared_error(x_hat, x), "revival": model.dead_unit_error(x, x_hat, after=30)}

    ae.fit(model, X, objective, epochs=2, optimizer=optimizer, compile=compile)
    assert optimizer.evaluations > 4 and set(model.idle.numpy().tolist()) <= {0, len(X), 2 * len(X)}
    assert model.idle.numpy().max() == 2 * len(X)


def test_the_evaluation_that_lbfgs_keeps_is_the_one_that_counts_for_buffers():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.w, self.seen = mg.Parameter(np.array([3.0])), nn.Buffer(np.array([0.0]))

    looked = []

    def objective(model, x):
        model.seen.assign(model.w.detach())
        looked.append(model.w.item())
        return mg.sum(mg.where(model.w >= 1.3, model.w, 9.0 - model.w))  # steps that go on end beyond the jump

    model = Model()
    ae.fit(model, X, objective, epochs=1, optimizer=optim.LBFGS(model.parameters(), lr=0.5), compile=False)
    # the last evaluation of the line search was of another point, so there is one more
    assert model.seen.item() == model.w.item() == looked[-1] != looked[-2]


def test_lbfgs_compiled_is_lbfgs_to_the_last_bit():
    models = make(), make()
    for model, compile in zip(models, (True, False), strict=True):
        ae.fit(model, X, denoising, epochs=2, optimizer=optim.LBFGS(model.parameters()), compile=compile)
    assert (values(models[0]) == values(models[1])).all()


def test_lbfgs_resumes_to_the_last_bit(tmp_path):
    whole, parts = make(), make()
    ae.fit(whole, X, denoising, epochs=4, optimizer=optim.LBFGS(whole.parameters(), max_iter=3))
    for epochs, resume in ((2, False), (4, True)):
        if resume:
            parts = make(seed=5)
        ae.fit(
            parts, X, denoising, epochs=epochs, optimizer=optim.LBFGS(parts.parameters(), max_iter=3),
            checkpoint=tmp_path / "c.safetensors", resume=resume,
        )  # fmt: skip
    assert (values(whole) == values(parts)).all()


def test_lbfgs_names_the_term_that_is_not_finite():
    def objective(model, x):
        return {"good": ae.squared_error(model(x), x), "bad": mg.log(-mg.mean(mg.square(model(x))))}

    model = make()
    before = values(model)
    with pytest.raises(DivergenceError, match="'bad' of the objective is nan in epoch 1"), np.errstate(all="ignore"):
        ae.fit(model, X, objective, epochs=1, optimizer=optim.LBFGS(model.parameters()), compile=False)
    assert (values(model) == before).all()
