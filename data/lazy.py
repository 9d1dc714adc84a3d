"""A sequence whose items are made when they are asked for, so that millions of them take no memory."""

from __future__ import annotations

import abc
from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar, overload

T = TypeVar("T")


class Lazy(Sequence[T], abc.ABC, Generic[T]):
    """A subclass says how many there are (`__len__`), and makes one (`at`)."""

    @abc.abstractmethod
    def at(self, i: int) -> T:
        """The item at position `i`, from 0 to below the length; made anew at each call."""

    def some(self, positions: range) -> Sequence[T]:
        """The items at these positions."""
        return [self.at(i) for i in positions]

    @overload
    def __getitem__(self, i: int) -> T: ...

    @overload
    def __getitem__(self, i: slice) -> Sequence[T]: ...

    def __getitem__(self, i: int | slice) -> T | Sequence[T]:
        if isinstance(i, slice):
            return self.some(range(*i.indices(len(self))))
        if not -len(self) <= i < len(self):
            raise IndexError(i)
        return self.at(i % len(self))

    def __iter__(self) -> Iterator[T]:
        return map(self.at, range(len(self)))
