"""What small transformers are trained on: a Markov source with known entropy, and sentences of a small grammar."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch

from symfield import random
from symfield.typing import Float, Generator, Int, Tensor

__all__ = ["ALPHABET", "Grammar", "Markov", "Source", "source"]


@dataclass(frozen=True)
class Markov:
    """The next token depends on the last two: P(next | last two) is a table, drawn once, of Dirichlet rows.

    The first two tokens are drawn uniformly.

    Attributes:
        tokens: number of tokens.
        concentration: of the Dirichlet rows; smaller is easier to predict.
        seed: of the table.
    """

    tokens: int = 8
    concentration: float = 0.3
    seed: int = 0

    @property
    def vocabulary(self) -> int:
        """Number of tokens."""
        return self.tokens

    def table(self) -> Float[Tensor, "..."]:
        """P(c | a, b) as entry (a, b, c)."""
        generator = random.generator(self.seed)
        alpha = torch.full((self.tokens,) * 3, self.concentration, dtype=torch.float64)
        draw = torch._standard_gamma(alpha, generator=generator).clamp(min=1e-12)
        return draw / draw.sum(-1, keepdim=True)

    def sample(self, count: int, length: int, *, generator: Generator) -> Int[Tensor, "..."]:
        """Sequences.

        Args:
            count: how many.
            length: tokens in each.
            generator: source of randomness.

        Returns:
            Shape ``(count, length)``.
        """
        steps = self.table().cumsum(-1)
        found = torch.randint(self.tokens, (count, length), generator=generator)
        draw = torch.rand(count, length, dtype=torch.float64, generator=generator)
        for t in range(2, length):
            rows = steps[found[:, t - 2], found[:, t - 1]]
            found[:, t] = (draw[:, t, None] > rows).sum(-1).clamp(max=self.tokens - 1)
        return found

    def entropy(self, length: int) -> float:
        """Least mean loss of predicting tokens 2 to ``length`` of a sequence, in nats, exactly.

        Args:
            length: of the sequences.

        Returns:
            The mean of the conditional entropies.
        """
        table = self.table()
        each = -(table * table.log()).sum(-1)
        pairs = torch.full((self.tokens,) * 2, self.tokens**-2, dtype=torch.float64)
        total = math.log(self.tokens)
        for _ in range(2, length):
            total += float((pairs * each).sum())
            pairs = torch.einsum("ab,abc->bc", pairs, table)
        return total / (length - 1)


ALPHABET = " .abcdefghijklmnopqrstuvwxyz"
_NOUNS = ("fox", "owl", "cat", "wolf", "bear", "crow")
_PLURALS = {"wolf": "wolves", "fox": "foxes"}
_ADJECTIVES = ("", "", "old ", "red ", "small ")
_VERBS = ("see", "hear", "find", "like")
_ALONE = ("sleep", "run", "sing")


@dataclass(frozen=True)
class Grammar:
    """Sentences such as ``the old fox sees a cat.``: singular or plural, verbs that agree, with or without object.

    A sequence is a window of a long text of independent sentences, letter by letter.
    """

    @property
    def vocabulary(self) -> int:
        """Number of characters."""
        return len(ALPHABET)

    def sentence(self, *, generator: Generator) -> str:
        """One sentence, with a space after it.

        Args:
            generator: source of randomness.

        Returns:
            Lower-case text.
        """

        def pick(options: tuple[str, ...]) -> str:
            return options[int(torch.randint(len(options), (), generator=generator))]

        def phrase() -> tuple[str, bool]:
            noun, adjective, kind = pick(_NOUNS), pick(_ADJECTIVES), pick(("a", "the", "two"))
            plural = kind == "two"
            if kind == "a" and (adjective or noun)[0] in "aeiou":
                kind = "an"
            return f"{kind} {adjective}{_PLURALS.get(noun, noun + 's') if plural else noun}", plural

        subject, plural = phrase()
        transitive = int(torch.randint(2, (), generator=generator)) == 0
        verb = pick(_VERBS if transitive else _ALONE) + ("" if plural else "s")
        return f"{subject} {verb} {phrase()[0]}. " if transitive else f"{subject} {verb}. "

    def sample(self, count: int, length: int, *, generator: Generator) -> Int[Tensor, "..."]:
        """Windows at random places of a text that is drawn for them.

        Args:
            count: how many.
            length: characters in each.
            generator: source of randomness.

        Returns:
            Indices into :data:`ALPHABET`, shape ``(count, length)``.
        """
        text = ""
        while len(text) < 4000 + 4 * length + 16 * count:
            text += self.sentence(generator=generator)
        codes = torch.tensor([ALPHABET.index(letter) for letter in text])
        starts = torch.randint(len(codes) - length, (count,), generator=generator)
        return codes[starts[:, None] + torch.arange(length)]


Source = Markov | Grammar


def source(name: Literal["markov", "text"]) -> Source:
    """A source by name.

    Args:
        name: ``"markov"`` or ``"text"``.

    Returns:
        The source.
    """
    return Markov() if name == "markov" else Grammar()
