"""An n-gram model as sorted tensors: many contexts are looked up at once, on a CPU or on CUDA.

Every n-gram is a node: its n - 1 first words are its parent, and its longest known proper suffix is its link. A
context is the node of the longest known n-gram that ends it, the root where nothing is known.

    key of a node = parent * number of words + last word     sorted, so one binary search finds a child

If a context has no such child, its back-off weight is added and its link is the next context (Katz 1987).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainer.errors import ModelError

BEGIN, END, UNKNOWN = "<s>", "</s>", "<unk>"
NEVER = -100.0
"""log10 of what a model without <unk> gives to words that it does not know, as KenLM does."""
LN_10 = float(np.log(10.0))


@dataclass(frozen=True)
class NgramModel:
    """Logarithms are natural. Nodes 0 to V - 1 are the V words, then longer n-grams in the order of their keys, then
    the root. An n-gram takes 24 bytes."""

    order: int
    words: tuple[str, ...]
    keys: Tensor
    """int64 (M,), ascending: those of the n-grams of two words and more."""
    log_probs: Tensor
    """float32 (V + M,)."""
    backoffs: Tensor
    """float32 (V + M + 1,), 0 for the root."""
    links: Tensor
    """int32 (V + M + 1,), the root's is itself."""
    contexts: Tensor
    """int32 (V + M,): the context that follows each node."""
    has_unknown: bool = True
    """Whether the file had <unk>; without it, unknown words are all but impossible."""

    @property
    def num_ngrams(self) -> int:
        return len(self.log_probs)

    @property
    def num_bytes(self) -> int:
        return sum(t.numel() * t.element_size() for t in vars(self).values() if isinstance(t, Tensor))

    @property
    def root(self) -> int:
        return len(self.backoffs) - 1

    @property
    def ids(self) -> dict[str, int]:
        return {word: i for i, word in enumerate(self.words)}

    @property
    def start(self) -> int:
        """The context at a sentence's begin."""
        return int(self.contexts[self.words.index(BEGIN)]) if BEGIN in self.words else self.root

    @property
    def end(self) -> int | None:
        """The word that ends a sentence."""
        return self.words.index(END) if END in self.words else None

    @property
    def unknown(self) -> int:
        return self.words.index(UNKNOWN)

    def to(self, device: torch.device) -> NgramModel:
        moved: dict[str, Any] = {name: t.to(device) for name, t in vars(self).items() if isinstance(t, Tensor)}
        return replace(self, **moved)

    def score(self, contexts: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
        """(log p(word | context), the next context) of each pair; int64 in, float32 and int64 out, of one shape."""
        if self.order == 1 or not len(self.keys):
            return self.log_probs[words], self.contexts[words].long()
        chain = [contexts]
        for _ in range(self.order - 2):
            chain.append(self.links.take(chain[-1]).long())
        shorter = torch.stack(chain)  # the context, and those that back off from it
        keys = shorter * len(self.words) + words
        place = torch.searchsorted(self.keys, keys).clamp_(max=len(self.keys) - 1)
        is_missed = (self.keys.take(place) != keys).cumprod(0)  # it and all before it lack the word
        backoffs = torch.where(is_missed > 0, self.backoffs.take(shorter), 0.0).sum(0)
        nodes = torch.cat([place + len(self.words), words[None]])
        node = nodes.gather(0, is_missed.sum(0, keepdim=True))[0]
        return backoffs + self.log_probs.take(node), self.contexts.take(node).long()

    def sentence(self, words: Sequence[str]) -> float:
        """log p of the sentence, its end included; words that are not known are <unk>."""
        ids, context, total = self.ids, torch.tensor([self.start]), 0.0
        for word in [*words, *([END] if self.end is not None else [])]:
            log_prob, context = self.score(context, torch.tensor([ids.get(word, self.unknown)]))
            total += float(log_prob)
        return total


@dataclass
class Level:
    """The n-grams of one length as a file lists them."""

    ngrams: np.ndarray
    """int64 (N, n): word numbers."""
    log_probs: np.ndarray
    """float32 (N,), log10."""
    backoffs: np.ndarray
    """float32 (N,), log10; zeros on the highest level."""


class ListedTwiceError(ModelError):
    """The n-gram `place` of those of `n` words stands before it already."""

    def __init__(self, ngram: str, n: int, place: int) -> None:
        super().__init__(f"the n-gram {ngram!r} stands twice")
        self.n, self.place = n, place


def build(words: Sequence[str], levels: Sequence[Level], has_unknown: bool = True) -> NgramModel:
    """The model of `levels`, from single words (one for each of `words`, in order) upwards.

    A pruned model may have an n-gram without the n-gram that begins or ends it. A missing begin is put in with the
    probability that backing off gives it; a missing end is stepped over. Neither changes a probability.
    ListedTwiceError over an n-gram that is.
    """
    num_words, order = len(words), len(levels)
    keys = [np.zeros(0, np.int64)]
    log_probs, backoffs = [levels[0].log_probs * LN_10], [levels[0].backoffs * LN_10]
    parents = [level.ngrams[:, 0] for level in levels]  # the node of each n-gram's first words, one more at a time
    starts, nodes = [0, num_words], num_words
    for n in range(2, order + 1):
        wanted = [parents[k] * num_words + levels[k].ngrams[:, n - 1] for k in range(n - 1, order)]
        found = np.unique(np.concatenate(wanted))
        own = np.searchsorted(found, wanted[0])
        if len(np.unique(own)) < len(own):
            twice = _first_twice(own)
            raise ListedTwiceError(" ".join(words[i] for i in levels[n - 1].ngrams[twice]), n, twice)
        values = np.full((2, len(found)), [[np.nan], [0.0]], np.float32)
        values[0, own], values[1, own] = levels[n - 1].log_probs * LN_10, levels[n - 1].backoffs * LN_10
        for k, of_level in zip(range(n - 1, order), wanted, strict=True):
            parents[k] = nodes + np.searchsorted(found, of_level)
        keys.append(found)
        log_probs.append(values[0])
        backoffs.append(values[1])
        nodes += len(found)
        starts.append(nodes)
    return _linked(order, tuple(words), keys, log_probs, backoffs, starts, has_unknown)


def _linked(
    order: int, words: tuple[str, ...], keys: list[np.ndarray], log_probs: list[np.ndarray],
    backoffs: list[np.ndarray], starts: list[int], has_unknown: bool,
) -> NgramModel:  # fmt: skip
    """Find every node's link, level by level, and the probability of n-grams that the file lacks."""
    num_words, nodes = len(words), starts[-1]
    all_keys = np.concatenate(keys)
    probs, weights = np.concatenate(log_probs), np.append(np.concatenate(backoffs), np.float32(0))
    links = np.full(nodes + 1, nodes, np.int32)
    for n in range(2, order + 1):
        first, stop = starts[n - 1], starts[n]
        parent, word = np.divmod(all_keys[first - num_words : stop - num_words], num_words)
        known = all_keys[: first - num_words]  # shorter ones
        context, node = links[parent].astype(np.int64), np.full(stop - first, -1, np.int64)
        total = weights[parent].copy()
        for _ in range(n - 2):
            key = context * num_words + word
            place = np.searchsorted(known, key).clip(max=max(0, len(known) - 1))
            hit = (node < 0) & (known[place] == key) if len(known) else np.zeros(len(key), bool)
            node = np.where(hit, place + num_words, node)
            missed = node < 0
            total = np.where(missed, total + weights[context], total)
            context = np.where(missed, links[context], context)
        node = np.where(node < 0, word, node)
        links[first:stop] = node
        lacks = np.isnan(probs[first:stop])
        probs[first:stop] = np.where(lacks, total + probs[node], probs[first:stop])
    contexts = np.arange(nodes, dtype=np.int32)
    if order == 1:
        contexts[:] = nodes
    else:
        contexts[starts[order - 1] :] = links[starts[order - 1] : nodes]
    arrays = (all_keys, probs, weights, links, contexts)
    all_keys, probs, weights, links, contexts = map(np.ascontiguousarray, arrays)
    return NgramModel(
        order, words, torch.from_numpy(all_keys), torch.from_numpy(probs), torch.from_numpy(weights),
        torch.from_numpy(links), torch.from_numpy(contexts), has_unknown,
    )  # fmt: skip


def _first_twice(values: np.ndarray) -> int:
    """The position at which a value stands for the second time."""
    ordered = np.argsort(values, kind="stable")
    same = np.flatnonzero(np.diff(values[ordered]) == 0)
    return int(ordered[same + 1].min())
