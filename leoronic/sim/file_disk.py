"""A simulated disk with blobs of tiny chunks: real digests, real bytes, and real damage."""

from __future__ import annotations

from hashlib import sha256

from leoronic.core.blob import BlobRef, ChunkList
from leoronic.sim.story import Violation

CHUNK_BYTES = 16


def list_of(content: bytes) -> ChunkList:
    """The list of a blob with this content."""
    chunks = [content[at : at + CHUNK_BYTES] for at in range(0, len(content), CHUNK_BYTES)]
    digests = b"".join(sha256(chunk).digest() for chunk in chunks)
    return ChunkList("s2", len(content), CHUNK_BYTES, digests)


def name_of(found: ChunkList) -> str:
    """The digest that is the blob's name."""
    return "s2:" + sha256(found.head() + found.digests).hexdigest()


class _Part:
    def __init__(self, found: ChunkList) -> None:
        self.list = found
        self.chunks: dict[int, bytes] = {}


class FileDisk:
    """What survives the process. Whatever is read is checked, as the real one does."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.lists: dict[str, ChunkList] = {}
        self.parts: dict[str, _Part] = {}
        self.folders: dict[tuple[str, int], dict[str, bytes]] = {}

    def make(self, content: bytes) -> str:
        """Make a blob; returns its digest."""
        found = list_of(content)
        digest = name_of(found)
        self.blobs[digest], self.lists[digest] = content, found
        return digest

    def refs(self) -> tuple[BlobRef, ...]:
        """All that is here, damaged or not."""
        return tuple(BlobRef(digest, found.size) for digest, found in self.lists.items())

    def is_right(self, digest: str) -> bool:
        """Whether it is here, undamaged."""
        return digest in self.blobs and name_of(list_of(self.blobs[digest])) == digest

    def set_aside(self, digest: str) -> None:
        """It is not here any more."""
        self.blobs.pop(digest, None)
        self.lists.pop(digest, None)

    def chunk(self, digest: str, index: int) -> bytes | None:
        """A chunk of a blob or of a part, as it is on the disk; None: not here."""
        if digest in self.blobs:
            return self.blobs[digest][index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES]
        part = self.parts.get(digest)
        return None if part is None else part.chunks.get(index)

    def is_chunk(self, digest: str, index: int, data: bytes) -> bool:
        """Whether this is chunk `index` of what is here."""
        part = self.parts.get(digest)
        found = self.lists.get(digest) if part is None else part.list
        return found is not None and sha256(data).digest() == found.digest_of(index)

    def begin(self, digest: str, found: ChunkList) -> int | None:
        """The bits of the chunks of an earlier try that are right; None: the list is another's."""
        if name_of(found) != digest:
            return None
        part = self.parts.setdefault(digest, _Part(found))
        part.chunks = {i: c for i, c in part.chunks.items() if self.is_chunk(digest, i, c)}
        return sum(1 << index for index in part.chunks)

    def finish(self, digest: str) -> int | None:
        """The size of the blob that the part has become; None: it is not all there, or wrong."""
        part = self.parts[digest]
        chunks = [part.chunks.get(index, b"") for index in range(part.list.count)]
        if name_of(list_of(b"".join(chunks))) != digest:
            return None
        del self.parts[digest]
        if self.make(b"".join(chunks)) != digest:
            raise Violation("bytes equal their digest", digest)
        return part.list.size
