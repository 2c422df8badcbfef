"""detect_anomaly names the operation, the line, the index and the usual cause."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.errors import AnomalyError


def leaf(*values):
    return mg.tensor(list(values), requires_grad=True)


def here():
    import sys

    return f"test_anomaly.py:{sys._getframe(1).f_lineno}"


def test_a_forward_operation_is_named_with_line_index_and_cause():
    x = leaf(1.0, 2.0, 0.0, -1.0)
    with mg.detect_anomaly(), pytest.raises(AnomalyError) as caught:
        line = here()
        mg.log(x)  # the next line
    words = str(caught.value)
    assert words.startswith("log, applied at ") and "index (2,) of shape (4,)" in words and "is -inf" in words
    assert int(words.split(".py:")[1].split(",")[0]) == int(line.split(":")[1]) + 1
    assert "-inf at 0" in words


def test_a_derivative_is_named_with_the_line_of_its_forward():
    x = leaf(4.0, 0.0)
    with (
        mg.detect_anomaly(),
        pytest.raises(AnomalyError, match=r"the derivative of sqrt, applied at .*inf at index \(1,\)") as e,
    ):
        line = here()
        y = mg.sqrt(x)
        total = y.sum()
        total.backward()
    assert f"test_anomaly.py:{int(line.split(':')[1]) + 1}" in str(e.value)


def test_the_where_trap_is_explained():
    x = leaf(1.0, 0.0)
    with mg.detect_anomaly(), pytest.raises(AnomalyError, match="mg.where") as e:
        mg.where(x > 0, mg.sqrt(x), 0.0).sum().backward()
    assert "is nan" in str(e.value)
    with mg.detect_anomaly():
        mg.where(x > 0, mg.sqrt(mg.where(x > 0, x, 1.0)), 0.0).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [0.5, 0.0])


def test_only_the_first_operation_is_blamed_and_nan_in_the_data_is_not():
    bad = leaf(np.nan, 1.0)
    with mg.detect_anomaly():
        (bad * 2).sum().backward()
    with mg.detect_anomaly(), pytest.raises(AnomalyError, match="^divide"):
        mg.exp(mg.tanh(leaf(1.0, 1.0) / mg.tensor([1.0, 0.0])) * 2)


def test_a_graph_from_before_the_block_is_checked_too():
    x = leaf(0.0)
    with np.errstate(all="ignore"):
        y = mg.sqrt(x).sum()
    with (
        mg.detect_anomaly(),
        pytest.raises(AnomalyError, match="derivative of sqrt, applied at a line before this block"),
    ):
        y.backward()


def test_it_ends_with_the_block_and_changes_no_gradient():
    x = leaf(1.0, 2.0)
    with mg.detect_anomaly():
        mg.exp(x).sum().backward()
    checked = x.grad.numpy().copy()
    x.grad = None
    mg.exp(x).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), checked)
    with np.errstate(all="ignore"):
        assert np.isinf(mg.log(mg.tensor([0.0])).item())
    assert mg.observers.observer() is None


def test_others_go_on_observing():
    seen = []
    with mg.observers.observing(lambda p, *rest: seen.append(p.name)), mg.detect_anomaly():
        mg.exp(leaf(1.0))
    assert seen == ["exp"]


def test_it_may_be_entered_in_itself_and_again():
    check = mg.detect_anomaly()
    x = leaf(1.0, 0.0)
    with check, mg.detect_anomaly(), check:
        y = mg.sqrt(x).sum()
    assert mg.observers.observer() is None
    with check, pytest.raises(AnomalyError, match=r"derivative of sqrt, applied at .*test_anomaly\.py"):
        y.backward()
    assert mg.observers.observer() is None


def test_gradients_share_no_memory_under_it_either():
    p, q = leaf(1.0, 2.0), leaf(3.0, 4.0)
    with mg.detect_anomaly():
        (p + q).sum().backward()
        a, b = mg.autograd.grad((p + q).sum(), [p, p])
    p.grad.assign(0.0)
    a.assign(0.0)
    np.testing.assert_array_equal(q.grad.numpy(), [1.0, 1.0])
    np.testing.assert_array_equal(b.numpy(), [1.0, 1.0])
