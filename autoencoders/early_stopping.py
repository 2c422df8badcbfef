"""Early stopping: whether the loss still falls, and the parameters of the best epoch, which come back at the end."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minigrad import nn


class EarlyStopping:
    """Whether the loss has stopped falling, and the parameters of the epoch with the lowest so far."""

    def __init__(self, model: nn.Module, patience: int | None) -> None:
        self._model = model
        self._patience = patience
        self._loss = math.inf
        self._waited = 0  # epochs since then
        self._parameters: dict[str, np.ndarray] | None = None

    @property
    def due(self) -> bool:
        """Whether the patience is at its end."""
        return self._patience is not None and self._waited >= self._patience

    def see(self, loss: float) -> None:
        """Take in the loss after an epoch, and with patience the parameters if it is the lowest."""
        self._waited += 1
        if loss < self._loss:
            self._loss, self._waited = loss, 0
            self._parameters = None if self._patience is None else self._model.state_dict()

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"loss": self._loss, "waited": self._waited, "state": self._parameters}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from what `state` returned; a loss whose parameters are wanted and were not kept is forgotten."""
        if state["state"] is not None or self._patience is None:
            self._loss, self._waited, self._parameters = state["loss"], state["waited"], state["state"]

    def restore(self) -> None:
        """With patience, bring the best parameters back."""
        if self._patience is not None and self._parameters is not None:
            self._model.load_state_dict(self._parameters)
