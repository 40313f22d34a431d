"""A model's buffers as they were at the start of a step, to go back to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable


class BufferKeeper:
    """Keeps a copy of each buffer; a forward pass may change buffers, and must be undone at times.

    Changes are found by value: code that writes through ``.data`` leaves no other trace. A buffer
    that changes its shape (a cache that grows) goes back as well, and is otherwise not followed.

    Args:
        model: Its buffers, each once, in the order of ``named_buffers``.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        seen: set[int] = set()
        self._places: list[tuple[torch.nn.Module, str]] = []
        self.buffers: list[torch.Tensor] = []
        for module in model.modules():
            for name, buffer in module.named_buffers(recurse=False):
                if id(buffer) not in seen:
                    seen.add(id(buffer))
                    self._places.append((module, name))
                    self.buffers.append(buffer)
        self.start = [buffer.detach().clone() for buffer in self.buffers]

    def __len__(self) -> int:
        return len(self._places)

    def keep(self) -> None:
        """Take the values at hand as those to go back to."""
        self.buffers = [getattr(module, name) for module, name in self._places]
        for place, buffer in enumerate(self.buffers):
            if self.start[place].shape == buffer.shape:
                self.start[place].copy_(buffer)
            else:
                self.start[place] = buffer.detach().clone()

    def changed(self) -> dict[int, torch.Tensor]:
        """Return the buffers that differ from what was kept, by their place."""
        if not self._places:
            return {}
        now = [getattr(module, name) for module, name in self._places]
        alike = [one.shape == start.shape for one, start in zip(now, self.start, strict=True)]
        differ = torch.stack(  # looked at together: on a GPU each look would wait for it
            [
                (one != start).any() if same else torch.zeros((), dtype=torch.bool).to(one.device)
                for one, start, same in zip(now, self.start, alike, strict=True)
            ]
        ).tolist()
        return {place: now[place] for place, is_changed in enumerate(differ) if is_changed}

    def restore(self) -> dict[int, torch.Tensor]:
        """Go back to what was kept, in the tensors that there were; return what had changed."""
        found = {place: one.detach().clone() for place, one in self.changed().items()}
        with torch.no_grad():
            for place, (module, name) in enumerate(self._places):
                if place in found:
                    self.buffers[place].copy_(self.start[place])
                if getattr(module, name) is not self.buffers[place]:
                    setattr(module, name, self.buffers[place])
        return found

    def write(self, place: int, make: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """Set one buffer to a function of what was kept."""
        with torch.no_grad():
            self.buffers[place].copy_(make(self.start[place]))
