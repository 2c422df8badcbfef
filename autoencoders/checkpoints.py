"""Checkpoints of a training: all that the next epoch depends on, in one safetensors file that is whole or absent."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from autoencoders.history import History
from autoencoders.operations import Operations
from minigrad import files, nn, optim
from minigrad.atomic import Lock, write_atomically
from minigrad.errors import DataError, DTypeError, ShapeError
from minigrad.random import Generator

FORMAT = "autoencoders training 1"
BATCHES = {  # what is kept of them tells a reader nothing
    "first batch": "the first samples are not those of before",
    "validation batch": "the first samples for validation are not those of before",
}
FOLLOW = {  # settings that are others because of others
    "first batch": ("batch_size",),
    "validation samples": ("validation",),
    "validation batch": ("batch_size", "validation"),
}
NO_SETTINGS = ("parameters", "slots", "optimizer")  # attributes that follow from others


def previous_of(path: Path) -> Path:
    """Return the file beside a checkpoint that keeps the one before it."""
    return path.with_name(f"{path.stem}.previous{path.suffix}")


@dataclass(frozen=True)
class _Training:
    """What a checkpoint keeps the state of."""

    model: nn.Module
    optimizer: optim.Optimizer
    schedule: Any
    generators: dict[str, Generator]
    history: History


class Checkpoint:
    """The file from which an interrupted training goes on, and a copy of the one before it.

    From `begin` to `end` it is in use, and another training with the same file is refused, in this process or another.

    Parameters
    ----------
    path : str or path-like
        The file, found once: it stays the same in another working folder. Of a symbolic link it is what that points
        to. The one before is kept beside it, with "previous" in its name.
    settings : dict
        What must be the same when the training goes on: seed, batch size, number of samples.
    """

    def __init__(self, path: str | os.PathLike[str], settings: dict[str, Any]) -> None:
        self.path = Path(os.path.realpath(path))
        self.settings = settings
        self._lr: float | None = None  # with which the training began
        self._by_epoch = False  # whether it began with a schedule that is a function of the epoch
        self._is_new = False
        self._lock = Lock(self.path)
        if self.path.is_dir():
            raise DataError(
                f"fit: {self.path} is a folder; the checkpoint is a file, such as training.safetensors in it"
            )
        if not self.path.parent.is_dir():
            raise FileNotFoundError(f"fit: there is no folder {self.path.parent} for the checkpoint")
        self._acquire()  # what cannot work is refused before anything changes
        self._lock.release()

    def _acquire(self) -> None:
        """Take the file for this training."""
        try:
            self._lock.acquire()
        except BlockingIOError:
            raise DataError(
                f"fit: another training is using {self.path} now, and each would write over the other's; wait until it "
                "has ended, or name another file"
            ) from None
        except OSError as error:
            raise DataError(
                f"fit: the folder {self.path.parent} of the checkpoint cannot be written to ({error.strerror}); name a "
                "file in another"
            ) from error

    def refuse_to_replace(self) -> None:
        """Raise if a file is there, which a training that begins anew would write over."""
        self._is_new = True
        if self.path.exists():
            raise DataError(
                f"fit: {self.path} is there already, and a training from the start would write over it; to go on from "
                "it give resume=True, to begin another remove it or name another file"
            )
        if self.previous.exists():
            raise DataError(
                f"fit: {self.previous} is there already, and a training with the checkpoint {self.path.name} would "
                "write over it from its second epoch on; remove it or name another file"
            )

    @property
    def previous(self) -> Path:
        """Where the checkpoint before the last one is."""
        return previous_of(self.path)

    def begin(
        self,
        model: nn.Module,
        optimizer: optim.Optimizer,
        schedule: Any,
        generators: dict[str, Generator],
        history: History,
    ) -> None:
        """Take the file for this training, and note what it is to keep and the learning rate it began with."""
        if isinstance(schedule, optim.Schedule):
            _split(schedule)  # refuses now what could not be saved later
        self._acquire()
        if self._is_new:
            self.refuse_to_replace()  # another training may have ended since it was asked before
        self._kept = _Training(model, optimizer, schedule, generators, history)
        self._lr = optimizer.lr
        self._by_epoch = schedule is not None and not isinstance(schedule, optim.Schedule)

    def end(self) -> None:
        """Leave the file to others."""
        self._lock.release()

    def save(self, epoch: int, best: dict[str, Any], operations: Operations | None) -> None:
        """Write everything, and of the objective what is known; the file that was there becomes the previous one."""
        optimizer, schedule, history = self._kept.optimizer, self._kept.schedule, self._kept.history
        kept = isinstance(schedule, optim.Schedule)
        schedule_numbers, schedule_arrays = _split(schedule) if kept else ({}, {})
        arrays = {
            "model": self._kept.model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "best": best["state"] or {},
            "schedule": schedule_arrays,
        }
        flat = {f"{group}.{name}": np.asarray(a) for group, state in arrays.items() for name, a in state.items()}
        numbers = {
            "epoch": epoch,
            "settings": self.settings,
            "schedule": schedule_numbers if kept else None,
            "schedule by epoch": self._by_epoch,
            "generators": {name: g.state() for name, g in self._kept.generators.items()},
            "history": {"terms": history.terms, "validation": history.validation, "seconds": history.seconds},
            "best": {name: value for name, value in best.items() if name != "state"},
            "objective": None if operations is None else operations.state(),
            "optimizer": _settings(optimizer, arrays["optimizer"]),
            "schedule settings": _settings(schedule, schedule.state_dict()) if kept else {},
            "learning rate": self._lr,
        }
        text = _to_json(numbers)
        there = self.path.exists()
        try:
            if there:
                write_atomically(self.previous, self.path.read_bytes())
            files.save(self.path, flat, {"format": FORMAT, "numbers": text, "digest": _digest(flat, text)})
        except OSError as error:
            if error.errno is None:
                raise
            whole = f"; the checkpoint of epoch {epoch - 1} is whole" if there else ""
            raise OSError(
                error.errno, f"{error.strerror} (epoch {epoch} is not saved{whole})", str(self.path)
            ) from error

    def restore(self, epochs: int, operations: Operations | None) -> tuple[int, dict[str, Any]]:
        """Bring everything to where the file was written; return the epoch, and the best parameters until then.

        It must not have gone further than `epochs`. `operations` are those of the objective, if that is known.

        Raises
        ------
        DataError
            The file is damaged, or of a training with other settings; nothing has been changed then.
        FileNotFoundError
            There is no such file.
        """
        flat, numbers = self._read()
        groups = _groups(flat)
        self._check_previous(numbers)
        self._check_settings(numbers["settings"])
        self._check_generators(numbers["generators"])
        self._check_epoch(numbers["epoch"], epochs)
        self._check_optimizer_and_schedule(numbers)
        self._check_learning_rate(numbers.get("learning rate"), groups["optimizer"]["lr"].item())
        self._check_objective(numbers.get("objective"), operations)
        self._load(groups, numbers["schedule"])
        self._lr = numbers.get("learning rate")
        self._by_epoch = numbers.get("schedule by epoch", False)
        for name, g in self._kept.generators.items():
            g.set_state(numbers["generators"][name])
        history = self._kept.history
        history.terms, history.validation, history.seconds = (
            numbers["history"][name] for name in ("terms", "validation", "seconds")
        )
        return numbers["epoch"], {**numbers["best"], "state": groups["best"] or None}

    def _load(self, groups: dict[str, dict[str, np.ndarray]], schedule_numbers: dict[str, Any] | None) -> None:
        """Give model, optimizer and schedule what was kept of them, or leave them as they are if it does not fit."""
        model, optimizer = self._kept.model, self._kept.optimizer
        before = model.state_dict(), optimizer.state_dict()
        try:
            model.load_state_dict(groups["model"])
            optimizer.load_state_dict(groups["optimizer"])
            if schedule_numbers is not None:
                self._kept.schedule.load_state_dict({**schedule_numbers, **groups["schedule"]})
        except (DataError, ShapeError, DTypeError) as error:
            model.load_state_dict(before[0])
            optimizer.load_state_dict(before[1])
            raise DataError(f"fit: {self.path} does not fit this model and optimizer: {error}") from error

    def _check_previous(self, numbers: dict[str, Any]) -> None:
        """Raise if the file that the next save writes over is no checkpoint of the same training."""
        if not self.previous.exists():
            return
        try:
            _, metadata = files.load_with_metadata(self.previous)
            found = json.loads(metadata["numbers"])["settings"] if metadata.get("format") == FORMAT else {}
        except (OSError, ValueError):
            found = {}
        ours = bool(found) and all(found.get(name, value) == value for name, value in numbers["settings"].items())
        if not ours:
            raise DataError(
                f"fit: {self.previous} is not the checkpoint before {self.path.name}, and would be written over; "
                "remove it or give it another name"
            )

    def _check_settings(self, found: dict[str, Any]) -> None:
        """Raise if a setting was another one."""
        # a file of an older version lacks some
        names = [name for name, value in self.settings.items() if found.get(name, value) != value]
        if names:
            other = "; ".join(
                BATCHES.get(name) or f"{name} was {found[name]!r}, and is {self.settings[name]!r}"
                for name in names
                if not set(names) & set(FOLLOW.get(name, ()))
            )
            raise DataError(f"fit: {self.path} is of a training with other settings: {other}")

    def _check_generators(self, found: dict[str, Any]) -> None:
        """Raise if the model had other random generators."""
        now = self._kept.generators
        if found.keys() != now.keys():
            raise DataError(
                f"fit: {self.path} has the random generators {sorted(found)}, and the model now has {sorted(now)}; "
                "make it as it was"
            )

    def _check_epoch(self, epoch: int, epochs: int) -> None:
        """Raise if the training has gone further than is wanted."""
        if epoch > epochs:
            raise DataError(
                f"fit: {self.path} has gone to epoch {epoch} already, and epochs={epochs} count from the start; give "
                "at least as many"
            )

    def _check_optimizer_and_schedule(self, numbers: dict[str, Any]) -> None:
        """Raise if they were of another kind, or made with other arguments."""
        optimizer, schedule = self._kept.optimizer, self._kept.schedule
        kept = isinstance(schedule, optim.Schedule)
        if (numbers["schedule"] is None) == kept:
            found = "without" if numbers["schedule"] is None else "with"
            raise DataError(
                f"fit: {self.path} is of a training {found} a schedule with a state; give the same to resume"
            )
        if schedule is None and numbers.get("schedule by epoch", False):
            raise DataError(
                f"fit: {self.path} is of a training whose schedule is a function of the epoch; give it to resume"
            )
        self._compare("optimizer", numbers.get("optimizer", {}), _settings(optimizer, optimizer.state_dict()))
        if kept:
            self._compare("schedule", numbers.get("schedule settings", {}), _settings(schedule, schedule.state_dict()))

    def _compare(self, owner: str, before: dict[str, str], now: dict[str, str]) -> None:
        """Raise if something in both is not the same; what a file of an older version does not have is not compared."""
        other = [
            f"{name} was {before[name]}, and is {now[name]}" for name in now if before.get(name, now[name]) != now[name]
        ]
        if other:
            raise DataError(f"fit: {self.path} is of a training with another {owner}: {'; '.join(other)}")

    def _check_learning_rate(self, began: float | None, last: float) -> None:
        """Raise if the optimizer has neither the learning rate of the start nor, as the same one going on, the last."""
        schedule, now = self._kept.schedule, self._kept.optimizer.lr
        sets_it = schedule is not None and not isinstance(schedule, optim.Schedule)
        if began is not None and now not in (began, last) and not sets_it:
            raise DataError(
                f"fit: {self.path} is of a training that began with the learning rate {began:g}, and this optimizer "
                f"has {now:g}; give it as it was, or set another one by schedule=lambda epoch: ..."
            )

    def _check_objective(self, found: dict[str, Any] | None, operations: Operations | None) -> None:
        """Raise if both objectives are known and differ."""
        if found and operations and (other := operations.difference(found)):
            raise DataError(f"fit: {self.path} is of a training with another objective: {other}; give it as it was")

    def _read(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        hint = f"; the checkpoint before it, {self.previous}, may be whole" if self.previous.exists() else ""
        try:
            flat, metadata = files.load_with_metadata(self.path)
        except DataError as error:
            raise DataError(f"{error}{hint}") from error
        if metadata.get("format") != FORMAT:
            raise DataError(f"{self.path}: not a checkpoint of a training: its format is {metadata.get('format')!r}")
        text = metadata.get("numbers", "")
        if metadata.get("digest") != _digest(flat, text):
            raise DataError(f"{self.path}: damaged: its contents do not have the checksum in it{hint}")
        return flat, json.loads(text)


def _groups(flat: dict[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """Return the arrays of a file by what they are of."""
    groups: dict[str, dict[str, np.ndarray]] = {"model": {}, "optimizer": {}, "best": {}, "schedule": {}}
    for name, array in flat.items():
        group, _, rest = name.partition(".")
        groups[group][rest] = array
    return groups


def _to_json(value: Any) -> str:
    """Return a text: a schedule of the user's may count in NumPy's numbers."""
    return json.dumps(value, default=np.generic.item)


def _split(schedule: optim.Schedule) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return what JSON keeps of the state of a schedule, which may be the user's own, and the arrays in it."""
    numbers: dict[str, Any] = {}
    arrays: dict[str, np.ndarray] = {}
    state: dict[str, Any] = schedule.state_dict()
    for name, value in state.items():
        try:
            if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
                arrays[name] = value
            else:
                _to_json(value)
                numbers[name] = value
        except (TypeError, ValueError):
            raise DTypeError(
                f"fit: {name!r} in the state of the schedule {type(schedule).__name__} is a {type(value).__name__}, "
                "which a checkpoint cannot keep; expected numbers, texts, lists and dicts of them, or arrays of numbers"
            ) from None
    return numbers, arrays


def _settings(owner: optim.Optimizer | optim.Schedule, state: Mapping[str, Any]) -> dict[str, str]:
    """Return what an optimizer or a schedule of the library was made with, by name: all but its state."""
    if type(owner).__module__.partition(".")[0] != optim.__name__.partition(".")[0]:
        return {}  # an attribute of another's class may change from step to step
    found = {name: value for name, value in vars(owner).items() if not name.startswith("_") and name not in state}
    return {"kind": type(owner).__name__} | {
        name: repr(value)
        for name, value in found.items()
        if name not in NO_SETTINGS and not callable(value)  # functions are not compared: they have no name for good
    }


def _digest(arrays: dict[str, np.ndarray], text: str) -> str:
    """Return a checksum of names, dtypes, shapes and values, and of the text beside them."""
    found = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        a = arrays[name]
        found.update(f"{name} {a.dtype.name} {a.shape}".encode())
        found.update(np.ascontiguousarray(a).tobytes())
    return found.hexdigest()
