"""HTTP out: the page, open to all; what it shows, it reads with the reader's token."""

import gzip
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from fastapi import APIRouter, HTTPException, Request, Response

FOLDER: Final = Path(__file__).parents[1] / "page"
_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_HEADERS: Final = {
    # Nothing but our own files, and no text becomes a script: not in an element, an attribute, a style or an address.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Kept, and asked about each time: an old module beside a new one would be another program.
    "Cache-Control": "no-cache",
    "Vary": "Accept-Encoding",
}


@dataclass(frozen=True, slots=True)
class _File:
    plain: bytes
    packed: bytes
    type: str
    etag: str

    @classmethod
    def read(cls, path: Path) -> "_File":
        plain = path.read_bytes()
        return cls(plain, gzip.compress(plain, mtime=0), _TYPES[path.suffix], sha256(plain).hexdigest()[:32])

    def answer(self, request: Request) -> Response:
        """The file, packed for who takes it so; 304 for who has it."""
        packs = "gzip" in request.headers.get("accept-encoding", "")
        # A strong ETag is of the bytes that are sent (RFC 9110, 8.8.1).
        etag = f'"{self.etag}{"-gzip" if packs else ""}"'
        headers = _HEADERS | {"ETag": etag}
        if etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        if packs:
            return Response(self.packed, headers=headers | {"Content-Encoding": "gzip"}, media_type=self.type)
        return Response(self.plain, headers=headers, media_type=self.type)


def page_router() -> APIRouter:
    """`/` and `/page/<file>`, read once: what else lies on the disk has no way out."""
    files = {path.name: _File.read(path) for path in sorted(FOLDER.iterdir()) if path.suffix in _TYPES}
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    async def index(request: Request) -> Response:
        """The page."""
        return files["index.html"].answer(request)

    @router.get("/page/{name}")
    async def part(request: Request, name: str) -> Response:
        """A module, the style, or the picture."""
        if name not in files:
            raise HTTPException(404, "the page has no such file")
        return files[name].answer(request)

    return router
