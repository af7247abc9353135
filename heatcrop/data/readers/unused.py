"""Files that resemble annotations and images that no annotation names: what would be lost silently."""

from __future__ import annotations

import difflib
import functools
import itertools
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from heatcrop.data.images import SUFFIXES
from heatcrop.data.listing import OWN_TABLES, Listing, list_folder, walk
from heatcrop.data.readers import table
from heatcrop.data.readers.collect import Collector
from heatcrop.data.readers.lines import DELIMITERS, load_text, parse_lines
from heatcrop.data.readers.naming import LABEL_COLUMNS
from heatcrop.data.readers.packed import ARCHIVES, PACKED, SPREADSHEETS, PackedError
from heatcrop.data.readers.root import Root
from heatcrop.errors import DataError
from heatcrop.files import printable
from heatcrop.wording import counted

_DOCUMENTS = (".json", ".jsonl", ".ndjson", ".xml", ".yaml", ".yml", ".parquet")
_ENDINGS = (*table.ENDINGS, ".txt", *_DOCUMENTS, *SPREADSHEETS, *ARCHIVES)
_Describe = Callable[[Path], str]
_EXAMINED = 3
"""Files of one folder and ending that are opened; beside each of many images there may be one."""
_NOT_USED = "resembles annotations and is not used"
_MOST_BYTES = 65_536
_FIRST_ROWS = 20
_IMAGE_WORDS = {"image", "images", "image_id", "image_name", "image_path", "img", "path", "filepath"} | {
    "file",
    "filename",
    "file_name",
}
_IMAGE = re.compile(
    rf"\w({'|'.join(map(re.escape, sorted(SUFFIXES, key=len, reverse=True)))})\b", re.IGNORECASE
)
_BOXES = re.compile(r"\d+(\s+[01]?\.\d+){4,}")  # of YOLO: a class's number and shares of the image's sides


def report_unused(
    collector: Collector,
    root: Root,
    describe: _Describe | None = None,
    images: bool = True,
    others: Sequence[Path] = (),
) -> None:
    """Add problems for what is in a root's folder and was not read, once the rows of all roots are added.

    These are files that resemble annotations, and images that no row names. Of a file that the user has
    named, only images beside those that it names are examined, which leaves a note. `describe` describes a
    file in a known format; without it, documents are not examined, only tables. Images are examined where
    `images` is set. `others` are files that are read for another purpose.
    """
    others = [path.resolve() for path in others]
    listings = _beside_images(collector, root) if root.given_file else walk(root.folder)
    n_lost, first = 0, ""
    stems = functools.cache(lambda: {Path(name).stem for name in collector.paths})
    for parts, listing in listings:
        for name in listing.images if images else ():
            image = "/".join([*parts, name])
            if not collector.is_named(root, image):
                n_lost, first = n_lost + 1, min(first or image, image)
        if not root.given_file:
            names = [
                name for name in listing.others if not _is_one(root.folder.joinpath(*parts, name), others)
            ]
            _report_files(collector, root, parts, names, stems, describe)
    if n_lost:
        source = root.prefix if root.source == root.folder else root.name(root.source)
        where = f"{source}: " if source else ""
        (collector.notes if root.given_file else collector.problems).append(
            f"{where}{counted(n_lost, 'image(s)')} without a row in the annotations, for instance "
            f"{root.prefix}{printable(first)}; add a row for each, or move them away"
        )


def _is_one(path: Path, others: Sequence[Path]) -> bool:
    """Return whether a path is one of some others, which are resolved."""
    return any(other.name == path.name and other == path.resolve() for other in others)


def _beside_images(collector: Collector, root: Root) -> Iterator[tuple[list[str], Listing]]:
    """Yield the folders of the images that a root's rows name."""
    for folder in sorted(collector.folders_of(root)):
        try:
            yield folder.split("/") if folder else [], list_folder(root.folder / folder)
        except OSError:  # reported with its images
            continue


def _report_files(
    collector: Collector,
    root: Root,
    parts: Sequence[str],
    names: Sequence[str],
    stems: Callable[[], Collection[str]],
    describe: _Describe | None,
) -> None:
    """Add a problem for the files of one folder and ending that resemble annotations, of which some are."""
    by_ending: dict[str, list[Path]] = {}
    for name in names:
        path = root.folder.joinpath(*parts, name)
        ending = next((one for one in _ENDINGS if name.casefold().endswith(one)), "")
        if ending and path not in collector.files and (describe is not None or ending not in _DOCUMENTS):
            by_ending.setdefault(ending, []).append(path)
    for paths in by_ending.values():
        found = []
        for path in paths[:_EXAMINED]:
            reason = why_unused(path, stems)
            if describe is not None and (known := describe(path)):
                reason = known
            if reason:
                found.append((path, reason))
        # Where all that were examined resemble annotations, so do the others.
        if len(found) == _EXAMINED < len(paths):
            (path, reason), *_ = found
            found = [(path, f"{reason} ({len(paths)} such files in this folder)")]
        for path, reason in found:
            collector.problems.append(f"{root.name(path)}: {reason}")


def why_unused(path: Path, stems: Callable[[], Collection[str]] = tuple) -> str:
    """Return why a file that resembles annotations is not used, and the fix; '' where it resembles none.

    `stems` returns names of images, without their ends.
    """
    name = path.name.casefold()
    try:
        data, _ = load_text(path, path.name, n_bytes=_MOST_BYTES)
    except DataError as error:
        damaged = name.endswith(PACKED)
        return str(error).removeprefix(f"{path.name}: ") if damaged or isinstance(error, PackedError) else ""
    if name.endswith(".parquet"):
        return ""
    if name.endswith(_DOCUMENTS):
        known = f"{_NOT_USED}: expected a format of docs/formats.md; convert it, or move it away"
        return known if _IMAGE.search(data.decode("utf-8", "replace")) else ""
    rows = [row for _, row, _ in itertools.islice(parse_lines(data, DELIMITERS), _FIRST_ROWS) if row]
    header = [field.casefold() for field in rows[0]] if rows else []
    own = tuple(header) in OWN_TABLES or table.OF_SUSPECTS.issubset(header)
    if own or not (_names_columns(header) or _holds_images(rows) or _holds_stems(rows, stems)):
        return ""
    missing = [column for column in table.NEEDED if column not in header]
    fault = f"its first row {','.join(header)[:200]!r} lacks {', '.join(missing)}" if missing else ""
    return (
        f"{_NOT_USED}: {fault or 'other data is read'}; give it the header {','.join(table.COLUMNS[:3])!r}, "
        "give it as --data, or move it away"
    )


def _names_columns(row: Sequence[str]) -> bool:
    """Return whether a first row names images and labels, perhaps misspelt."""
    words = {word for field in row for word in (field, *re.findall(r"\w+", field))}
    return all(
        any(difflib.get_close_matches(word, known, n=1, cutoff=0.8) for word in words)
        for known in (_IMAGE_WORDS, LABEL_COLUMNS)
    )


def _holds_images(rows: Sequence[Sequence[str]]) -> bool:
    """Return whether most rows, beside a header, name an image or hold boxes."""
    texts = [",".join(row) for row in rows]
    found = [
        bool(_BOXES.fullmatch(text.strip()))
        or (len(re.split(r"[,\s]+", text)) > 1 and bool(_IMAGE.search(text)))
        for text in texts
    ]
    return bool(found) and 2 * sum(found) >= max(1, len(found) - 1)


def _holds_stems(rows: Sequence[Sequence[str]], stems: Callable[[], Collection[str]]) -> bool:
    """Return whether half of the first column, below the header, are names of images without their ends."""
    first = {row[0] for row in rows[1:] if len(row) > 1}
    return len(first) > 1 and len(first.intersection(stems())) >= max(2, len(first) / 2)
