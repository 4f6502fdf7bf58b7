"""Passes of a backbone, one for each expert, which compute once what the experts share."""

import copy
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from torch import Tensor, nn

CONTAINERS = (nn.ModuleList, nn.ModuleDict)  # are not called themselves


class Watched(nn.Module):
    """A module that is called by `call(module, ...)`; all else is asked of the module itself."""

    def __init__(self, module: nn.Module, call: Callable[..., Any]):
        super().__init__()
        self.module, self.call = module, call

    def forward(self, *args, **kwargs) -> Any:
        return self.call(self.module, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("module"), name)


class Passes:
    """A model for each expert in turn, which have all in common but the experts' own parts.

    Shared parts that the first model calls before any part of the expert's own give the others what they gave the first.
    Every pass has to call them in the same order.

    Args:
        model: With any modules in the places of the experts' parts.
        own: Each expert's own parts, by their names in the model.
        shared: Names of the other parts, see `called_parts`.
    """

    def __init__(self, model: nn.Module, own: Sequence[dict[str, nn.Module]], shared: Sequence[str]):
        self.model, self.own = model, own
        self.shared = {model.get_submodule(name): name for name in shared}
        self.calls: list[tuple[nn.Module, Any, Any]] = []  # of shared parts: module, first argument, output
        self.recording, self.next = True, 0

    def __iter__(self) -> Iterator[nn.Module]:
        watched = {name: Watched(module, self._call_shared) for module, name in self.shared.items()}
        for parts in self.own:
            self.next = 0
            watched |= {name: Watched(part, self._call_own) for name, part in parts.items()}
            yield with_parts(self.model, watched)
            if self.recording and parts:  # or what comes after them would be taken for shared
                raise ValueError(f"A {type(self.model).__name__} does not call its `{next(iter(parts))}` as a whole.")
            self.recording = False

    def _call_shared(self, module: nn.Module, *args, **kwargs) -> Any:
        if not self.recording and self.next < len(self.calls):
            known, _, output = self.calls[self.next]
            self.next += 1
            if output is not None and known is module:
                return output
        output = module(*args, **kwargs)
        if self.recording:
            self.calls.append((module, args[0] if args else None, output))
        return output

    def _call_own(self, module: nn.Module, *args, **kwargs) -> Any:
        self.recording = False
        return module(*args, **kwargs)

    def keep(self, images: Tensor, names: Sequence[str]) -> None:
        """Go on with some of the images: the parts of these names give what they gave for them, others compute anew."""
        known = {self.model.get_submodule(name) for name in names}
        self.calls = [
            (module, None, _select(output, images) if module in known else None) for module, _, output in self.calls
        ]

    def given_to(self, names: Sequence[str]) -> Tensor:
        """The first argument of the first call of one of the parts."""
        return next(given for module, given, _ in self.calls if self.shared[module] in names)

    def given_by(self, names: Sequence[str]) -> Tensor:
        """The output of the last call of one of the parts, of several outputs the first."""
        output = next(output for module, _, output in reversed(self.calls) if self.shared[module] in names)
        while not isinstance(output, Tensor):
            output = output[0]
        return output


def called_parts(module: nn.Module, apart: Collection[str], name: str = "") -> list[str]:
    """Names of the modules that a model is made of, as near to its root as they can be called with none `apart` inside."""
    prefix = f"{name}." if name else ""
    if not isinstance(module, CONTAINERS) and not any(each.startswith(prefix) for each in apart if each != name):
        return [name]
    return [part for child, each in module.named_children() for part in called_parts(each, apart, f"{prefix}{child}")]


def with_parts(module: nn.Module, parts: dict[str, nn.Module]) -> nn.Module:
    """A module like the given one, but with others in the named places; all else it has in common, its weights too."""
    if "" in parts:
        return parts[""]
    module = copy.copy(module)
    module._modules = dict(module._modules)
    for child in {name.partition(".")[0]: None for name in parts}:
        below = {name.partition(".")[2]: part for name, part in parts.items() if name.partition(".")[0] == child}
        module._modules[child] = with_parts(module._modules[child], below)
    return module


def _select(output: Any, images: Tensor) -> Any:
    if isinstance(output, tuple | list):
        return type(output)(_select(part, images) for part in output)
    return output[images] if isinstance(output, Tensor) else output
