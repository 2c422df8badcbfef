"""Modules: functions with parameters, their layers and initial values."""

from . import init
from .layers import Identity, Linear, ReLU, Sequential, Sigmoid, Softplus, Tanh
from .module import Module

__all__ = ["Identity", "Linear", "Module", "ReLU", "Sequential", "Sigmoid", "Softplus", "Tanh", "init"]
