"""What nouns mean: the part of WordNet 3.0 that ImageNet's classes are in, packed small next to this file.

ImageNet names its classes by WordNet 3.0's noun offsets (n02391049 is offset 02391049, a zebra), so the two join exactly. The
packed file has every class of the ImageNets that timm knows with all that is above it: 23,548 synsets and 39,353 lemmas in
0.4 MB. It is made from WordNet's own files (Debian: wordnet-base) by ``python -m model.wordnet FOLDER``. Its licence is in
wordnet.LICENSE.
"""

from __future__ import annotations

import functools
import json
import lzma
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PACKED = Path(__file__).with_name("wordnet.json.xz")
# Endings of plurals and what they are in the singular, as WordNet's own morphy has them.
ENDINGS = (
    *(("s", ""), ("ses", "s"), ("ves", "f"), ("xes", "x"), ("zes", "z"), ("ches", "ch"), ("shes", "sh")),
    *(("men", "man"), ("ies", "y")),
)


@dataclass(frozen=True, slots=True)
class WordNet:
    """``parents``: the synsets above each, by its offset; ``senses``: each lemma's synsets, the most frequent sense first;
    ``lemmas``: each synset's first lemma; ``irregular``: plurals that no rule makes, with their singulars."""

    parents: Mapping[str, Sequence[str]]
    senses: Mapping[str, Sequence[str]]
    lemmas: Mapping[str, str]
    irregular: Mapping[str, str]

    def above(self, offset: str) -> list[str]:
        """Return the synsets above one, the nearest first; none for one that is not there."""
        found: dict[str, None] = {}
        level = list(self.parents.get(offset, ()))
        while level:
            found |= dict.fromkeys(level)
            level = [one for each in level for one in self.parents[each] if one not in found]
        return list(found)


def singulars(word: str, irregular: Mapping[str, str]) -> Iterator[str]:
    """Yield a word, and what it may be the plural of."""
    yield word
    if word in irregular:
        yield irregular[word]
    for ending, instead in ENDINGS:
        if word.endswith(ending) and len(word) > len(ending) + 1:
            yield word.removesuffix(ending) + instead


@functools.cache
def read_wordnet() -> WordNet:
    """Read the packed file; it takes a tenth of a second, once."""
    return WordNet(**json.loads(lzma.decompress(PACKED.read_bytes())))


def pack(folder: Path, offsets: Sequence[str]) -> WordNet:
    """Return the part of WordNet's files (data.noun, index.noun, noun.exc) that some synsets, and all above them, are in."""
    parents, lemmas = {}, {}
    for line in _lines(folder / "data.noun"):
        parts = line.split(" | ")[0].split(" ")
        pointers = parts[5 + 2 * int(parts[3], 16) :]
        kinds = zip(pointers[::4], pointers[1::4], strict=False)
        parents[parts[0]] = [offset for kind, offset in kinds if kind in ("@", "@i")]
        lemmas[parts[0]] = _word(parts[4])
    whole = WordNet(parents, {}, {}, {})
    kept = {one for offset in offsets for one in (offset, *whole.above(offset))}
    senses = {}
    for line in _lines(folder / "index.noun"):
        lemma, _, count, *others = line.split()
        if there := [one for one in others[-int(count) :] if one in kept]:
            senses[_word(lemma)] = there
    pairs = [line.split()[:2] for line in _lines(folder / "noun.exc")]
    irregular = {_word(plural): _word(one) for plural, one in pairs if _word(one) in senses and plural != one}
    return WordNet(
        {one: parents[one] for one in sorted(kept)}, senses, {one: lemmas[one] for one in sorted(kept)}, irregular
    )


def _lines(path: Path) -> Iterator[str]:
    with path.open(encoding="ascii") as lines:
        yield from (line.rstrip("\n") for line in lines if not line.startswith("  "))  # which the licence does


def _word(lemma: str) -> str:
    return lemma.replace("_", " ").lower()


def main() -> None:
    """Pack the WordNet in the folder that is named, for all ImageNets that timm knows."""
    from timm.data import ImageNetInfo
    from timm.data.imagenet_info import _NUM_CLASSES_TO_SUBSET as SUBSETS

    names = {name for subset in set(SUBSETS.values()) for name in ImageNetInfo(subset).label_names()}
    found = pack(Path(sys.argv[1]), sorted(name[1:] for name in names))
    text = json.dumps({name: getattr(found, name) for name in WordNet.__slots__}, separators=(",", ":"))
    PACKED.write_bytes(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))
    print(f"{len(found.parents):,} synsets, {len(found.senses):,} lemmas, {PACKED.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
