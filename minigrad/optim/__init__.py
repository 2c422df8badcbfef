"""Optimizers: how parameters change, given their gradients; learning-rate schedules; gradient clipping."""

from .adam import Adam, AdamW
from .adaptive import Adagrad, RMSprop
from .clipping import clip_grad_norm, clip_grad_value
from .lbfgs import LBFGS
from .optimizer import Optimizer
from .schedules import CosineDecay, ExponentialDecay, LinearWarmup, ReduceOnPlateau, Schedule, StepDecay
from .sgd import SGD

__all__ = [
    "LBFGS",
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "CosineDecay",
    "ExponentialDecay",
    "LinearWarmup",
    "Optimizer",
    "RMSprop",
    "ReduceOnPlateau",
    "Schedule",
    "StepDecay",
    "clip_grad_norm",
    "clip_grad_value",
]
