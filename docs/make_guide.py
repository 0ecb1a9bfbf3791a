"""Make the pictures of docs/guide.md from the sample photos: python docs/make_guide.py

Each is a row: what was searched by, then the nearest pictures with their scores, as a catalogue of the samples answers.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from index import Catalogue  # noqa: E402
from ingest import SourceSamples, build_catalogue, find_sources  # noqa: E402
from model import WINDOWS, ExtractorCard, Limits, Region, build_extractor, open_engine, read_picture  # noqa: E402
from search import (  # noqa: E402
    CombinedQuery,
    Example,
    Explainer,
    Found,
    FoundHit,
    ItemQuery,
    LocalEmbedder,
    LocalMaps,
    PictureQuery,
    QueryInput,
    SearchEngine,
    Shaping,
    TextQuery,
    open_catalogue_with_extractor,
)

SAMPLES, OUT = ROOT / ".cache" / "samples", ROOT / "docs" / "guide"
SIDE, GAP, LINE = 148, 8, 18  # pixels
SHOWN = 5
RED = (214, 40, 40)
INTERIORS, IMAGENET = SAMPLES / "interiors", SAMPLES / "imagenet"


def tile(data: bytes, caption: str, box: Sequence[float] | None = None) -> Image.Image:
    """Return a picture in a square, with a caption, and a box in it."""
    picture = read_picture(data).image
    if box:
        x, y, width, height = box
        corners = (x * picture.width, y * picture.height, (x + width) * picture.width, (y + height) * picture.height)
        ImageDraw.Draw(picture).rectangle(corners, outline=RED, width=max(4, max(picture.size) // 50))
    picture.thumbnail((SIDE, SIDE))
    made = Image.new("RGB", (SIDE, SIDE + LINE), "white")
    made.paste(picture, ((SIDE - picture.width) // 2, (SIDE - picture.height) // 2))
    ImageDraw.Draw(made).text((SIDE // 2, SIDE + LINE // 2), caption, "black", ImageFont.load_default(12), anchor="mm")
    return made


def words(text: str) -> Image.Image:
    """Return a tile with a text in it."""
    made = Image.new("RGB", (SIDE, SIDE + LINE), (240, 240, 240))
    ImageDraw.Draw(made).multiline_text((SIDE // 2, SIDE // 2), text, "black", ImageFont.load_default(16), anchor="mm")
    return made


def save(name: str, *rows: Sequence[Image.Image]) -> None:
    """Write rows of tiles as one picture; the first of each stands a little apart."""
    width = max(len(row) for row in rows) * (SIDE + GAP) + 3 * GAP
    made = Image.new("RGB", (width, len(rows) * (SIDE + LINE + GAP)), "white")
    for down, row in enumerate(rows):
        for across, one in enumerate(row):
            made.paste(one, (across * (SIDE + GAP) + (3 * GAP if across else 0), down * (SIDE + LINE + GAP)))
    made.save(OUT / f"{name}.jpg", quality=82)


class Guide:
    """Searches a catalogue of the samples, and shows what it finds."""

    def __init__(self, catalogue: Catalogue, card: ExtractorCard) -> None:
        folder = catalogue.extractor_folder
        maps = LocalMaps(folder, card, None)
        self._catalogue = catalogue
        self._engine = SearchEngine(catalogue, card, LocalEmbedder(lambda: open_engine(folder)), maps=maps)
        self._explainer = Explainer(self._engine, catalogue, card, maps)

    def id_of(self, path: Path) -> int:
        """Return the id of a sample."""
        key = path.relative_to(SAMPLES).as_posix()
        return self._catalogue.items_by_key([key])[key].id

    def row(
        self, query: QueryInput, first: Image.Image, shaping: Shaping = Shaping(SHOWN), where: object = None
    ) -> list[Image.Image]:
        """Return the tiles of a query's hits, after that of the query."""
        (found,) = asyncio.run(self._engine.search([query], shaping, where)).results
        assert isinstance(found, Found), found
        return [first, *(self._hit(hit, shaping) for hit in found.hits)]

    def explained(self, query: Path, hit: Path) -> list[Image.Image]:
        """Return what two pictures have in common."""
        data = query.read_bytes()
        found = asyncio.run(self._explainer.explain(PictureQuery(data), self.id_of(hit), 2))
        assert found.query
        return [
            tile(data, "query"),
            tile(hit.read_bytes(), f"hit, {found.score:.2f}"),
            tile(found.query.overlay, "of the query"),
            tile(found.hit.overlay, "of the hit"),
        ]

    def _hit(self, hit: FoundHit, shaping: Shaping) -> Image.Image:
        caption = f"{hit.score:.2f}" + (f"  {hit.group.value} ({hit.group.size})" if hit.group else "")
        data = (SAMPLES / hit.item.key).read_bytes()
        return tile(data, caption, hit.box if shaping.parts == "items" else None)


def cut(path: Path, box: Region) -> bytes:
    """Return a box of a picture as a file."""
    stored = BytesIO()
    box.crop(read_picture(path.read_bytes()).image).save(stored, "JPEG", quality=92)
    return stored.getvalue()


def make(guide: Guide) -> None:
    """Write all pictures."""
    table, chair = INTERIORS / "pexels-7303992.jpg", INTERIORS / "pexels-7303782.jpg"
    chairs, corner = INTERIORS / "pexels-7303800.jpg", INTERIORS / "pexels-36236147.jpg"
    of_table, of_chair = ItemQuery(guide.id_of(table)), ItemQuery(guide.id_of(chair))
    save("picture", guide.row(of_table, tile(table.read_bytes(), "query")))
    named = ("bird", "vehicle", "fruit")
    save("words", *(guide.row(TextQuery(text), words(text)) for text in named))
    unlike = CombinedQuery((Example(of_chair),), (Example(ItemQuery(guide.id_of(chairs)), 4),))
    like = tile(chair.read_bytes(), "like this")
    save("examples", guide.row(of_chair, like), guide.row(unlike, tile(chairs.read_bytes(), "but unlike this")))
    data, boxes = corner.read_bytes(), (Region(0.05, 0.55, 0.4, 0.35), Region(0.42, 0.4, 0.5, 0.4))
    save("region", *(guide.row(PictureQuery(data, box), tile(data, "the box", box.values())) for box in boxes))
    piece = cut(chairs, Region(0.1, 0.2, 0.36, 0.8))
    save("parts", guide.row(PictureQuery(piece), tile(piece, "query"), Shaping(SHOWN, parts="items")))
    plain = tile(table.read_bytes(), "as it is")
    diverse = tile(table.read_bytes(), "diversity 0.5")
    save("diversity", guide.row(of_table, plain), guide.row(of_table, diverse, Shaping(SHOWN, diversity=0.5)))
    save("explain", guide.explained(chair, chairs))


def main() -> None:
    """Build the catalogue and write the pictures."""
    OUT.mkdir(exist_ok=True)
    found = find_sources([SAMPLES])
    with tempfile.TemporaryDirectory() as place:
        samples = SourceSamples(found, Limits())
        with build_extractor("tf_efficientnet_lite0", None, samples, boxes=WINDOWS) as extractor:
            build_catalogue(found, Path(place) / "catalogue", extractor, labels=True)
        catalogue, card = open_catalogue_with_extractor(Path(place) / "catalogue")
        make(Guide(catalogue, card))
        catalogue.close()


if __name__ == "__main__":
    main()
