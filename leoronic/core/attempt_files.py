"""Where the files of an attempt are, and what they are called there.

Each attempt that brings files has a folder of its own for them. They get names that are unique in
it; the command is rewritten to use them, unless it is run in that folder under the given names.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable

from msgspec import structs

from leoronic.core.blob import FileRef
from leoronic.core.run import AttemptKey

WORK = ".leoronic/work"
"""Relative to a node's root."""


def private_folder(key: AttemptKey) -> str:
    """The folder of an attempt's own, relative to the node's root."""
    return f"{WORK}/{key[0]}.{key[1]}"


def unique_names(paths: Iterable[str]) -> list[str]:
    """For each path its last part; where that is taken, with a number: `data.csv`, `data.2.csv`."""
    taken: set[str] = set()
    names = []
    for path in paths:
        name = posixpath.basename(path.rstrip("/"))
        stem, dot, ending = name.partition(".") if not name.startswith(".") else (name, "", "")
        number = 1
        while name in taken:
            number += 1
            name = f"{stem}.{number}{dot}{ending}"
        taken.add(name)
        names.append(name)
    return names


def kept_name(path: str) -> str:
    """What a file is called under its own name: as given if it is below here, else its last part.

    Raises `ValueError` for one that has none.
    """
    plain = posixpath.normpath(path)
    if plain in (".", "..", "/"):
        raise ValueError(f"{path} names no file")
    if plain.startswith(("/", "../")):
        return posixpath.basename(plain)
    return plain


def named(files: Iterable[FileRef], *, keep_names: bool) -> tuple[FileRef, ...]:
    """`files` with their names. Raises `ValueError` if two have the same that is to be kept."""
    files = list(files)
    wanted = [file.output or file.path for file in files]
    if not keep_names:
        names = unique_names(wanted)
    else:
        files = list({_same(file): file for file in reversed(files)}.values())[::-1]
        names = [kept_name(file.output or file.path) for file in files]
        for i, name in enumerate(names):
            clash = next((n for n in range(i) if _in_the_way(names[n], name)), None)
            if clash is not None:
                raise ValueError(
                    f"{files[clash].path} and {files[i].path} cannot both keep their names: "
                    f"they would be {names[clash]} and {name}"
                )
    return tuple(structs.replace(file, name=name) for file, name in zip(files, names, strict=True))


def _same(file: FileRef) -> tuple[str, str, str]:
    """What is equal if a file is given twice, under one name but spelled otherwise."""
    return kept_name(file.output or file.path), file.digest, file.task


def _in_the_way(one: str, other: str) -> bool:
    return one == other or other.startswith(f"{one}/") or one.startswith(f"{other}/")


def placed_words(files: Iterable[FileRef], folder: str) -> dict[str, str]:
    """For each word that means one of `files` in a command: where it is, below `folder`."""
    words: dict[str, str] = {}
    for file in files:
        place = f"{folder}/{file.name}"
        plain = posixpath.normpath(file.path)
        spellings = [file.path, plain]
        if not plain.startswith("/") and not file.task:
            spellings.append(f"./{plain}")
        for word in spellings:
            words.setdefault(word, place)
    return words
