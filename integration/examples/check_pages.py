"""A checker of web pages: follows the links of a site, and says which of them are broken.

    python check_pages.py [/path/of/a/node [http://...]]

Without an address it starts a small site of its own on this machine. Actors with `async def`
methods fetch many pages at once; `leoronic.aio` keeps the loop here free.
"""

from __future__ import annotations

import asyncio
import re
import sys
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urljoin

import leoronic

CHECKERS = 2
PAGES_MAX = 500
SITE = {
    "/": ["/a", "/b", "/gone"],
    "/a": ["/b", "/c?x=1", "mailto:nobody"],
    "/b": ["/", "/broken"],
    "/c?x=1": ["/a"],
}


@leoronic.remote(num_cpus=0.1)
class Checker:
    """Fetches pages, up to eight at a time."""

    async def check(self, address: str) -> tuple[str, int, list[str]]:
        """(address, status, the links of the page); status 0 for no answer at all."""
        return await asyncio.to_thread(self._fetch, address)

    def _fetch(self, address: str) -> tuple[str, int, list[str]]:
        try:
            with urllib.request.urlopen(address, timeout=10) as answer:
                text = answer.read(1_000_000).decode(errors="replace")
                return address, answer.status, re.findall(r'href="([^"]*)"', text)
        except urllib.error.HTTPError as error:
            return address, error.code, []
        except OSError:
            return address, 0, []


class Site(BaseHTTPRequestHandler):
    """A few pages that link to each other, and to two that are not there."""

    def do_GET(self) -> None:
        """One page."""
        links = SITE.get(self.path)
        self.send_response(200 if links is not None else 404)
        self.end_headers()
        for link in links or ():
            self.wfile.write(f'<a href="{link}">{link}</a>\n'.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Quietly."""


async def crawl(start: str) -> dict[str, int]:
    """The status of each page that can be reached from `start` without leaving its site."""
    checkers = [Checker.options(max_concurrency=8).remote() for _ in range(CHECKERS)]
    status: dict[str, int] = {start: -1}
    waiting = [checkers[0].check.remote(start)]
    while waiting:
        ready, waiting = await leoronic.aio.wait(waiting)
        for address, code, links in await leoronic.aio.get(ready):
            status[address] = code
            for link in links:
                found = urljoin(address, link)
                if found.startswith(start) and found not in status and len(status) < PAGES_MAX:
                    status[found] = -1
                    waiting.append(checkers[len(status) % CHECKERS].check.remote(found))
    return status


async def main(root: str | None, start: str | None) -> dict[str, int]:
    """Check the site at `start`, else one of its own."""
    await leoronic.aio.init(root, local=root is None)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        return await crawl(start or f"http://127.0.0.1:{server.server_port}/")
    finally:
        server.shutdown()
        await leoronic.aio.shutdown()


if __name__ == "__main__":
    found = asyncio.run(main(*[*sys.argv[1:3], None, None][:2]))
    broken = sorted(address for address, code in found.items() if code != 200)
    print(f"{len(found)} pages, {len(broken)} broken")
    for address in broken:
        print(f"  {found[address]} {address}")
