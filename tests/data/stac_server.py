"""A server of files, and of a small STAC API, on this machine."""

import contextlib
import functools
import http.server
import json
import threading
from pathlib import Path


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder with ranges, as GDAL asks for them, and a STAC API at /api over `items`."""

    def __init__(self, *args, items, log, pages, **kwargs):
        self.items, self.log, self.pages = items, log, pages
        super().__init__(*args, **kwargs)

    def log_message(self, *args):
        pass

    def do_HEAD(self):
        self._answer(self._file(), body=False)

    def do_GET(self):
        host = f"http://{self.headers['Host']}"
        if self.path == "/api":
            self._json(_landing(host))
        else:
            self._answer(self._file(), body=True)

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.log.append(asked)
        self._json(self._found(asked, f"http://{self.headers['Host']}"))

    def _found(self, asked, host):
        """The items in the box, one page after the other."""
        west, south, east, north = asked["bbox"]
        found = [
            item
            for item in self.items
            if item["bbox"][0] < east and west < item["bbox"][2] and item["bbox"][1] < north and south < item["bbox"][3]
        ]
        size = len(found) if self.pages is None else self.pages
        start = asked.get("token", 0)
        links = []
        if start + size < len(found):
            body = {**asked, "token": start + size}
            links = [{"rel": "next", "href": f"{host}/api/search", "method": "POST", "body": body}]
        return {"type": "FeatureCollection", "features": found[start : start + size], "links": links}

    def _json(self, content):
        data = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _file(self):
        path = Path(self.translate_path(self.path))
        return path.read_bytes() if path.is_file() else None

    def _answer(self, data, body):
        if data is None:
            self.send_error(404)
            return
        first, last = 0, len(data) - 1
        wanted = self.headers.get("Range")
        if wanted:
            start, _, stop = wanted.removeprefix("bytes=").partition("-")
            first, last = int(start), min(int(stop or last), last)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        else:
            self.send_response(200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(last - first + 1))
        self.end_headers()
        if body:
            self.wfile.write(data[first : last + 1])


def _landing(host):
    conformance = ["core", "item-search", "item-search#query"]
    return {
        "type": "Catalog",
        "stac_version": "1.0.0",
        "id": "api",
        "description": "items for tests",
        "conformsTo": [f"https://api.stacspec.org/v1.0.0/{name}" for name in conformance],
        "links": [
            {"rel": "root", "href": f"{host}/api", "type": "application/json"},
            {"rel": "self", "href": f"{host}/api", "type": "application/json"},
            {"rel": "search", "href": f"{host}/api/search", "type": "application/geo+json", "method": "GET"},
            {"rel": "search", "href": f"{host}/api/search", "type": "application/geo+json", "method": "POST"},
        ],
    }


@contextlib.contextmanager
def serve(folder, items=(), pages=None):
    """Yield the server's address and the list of what is asked of its API."""
    log = []
    handler = functools.partial(_Handler, directory=str(folder), items=items, log=log, pages=pages)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", log
        finally:
            server.shutdown()
            thread.join()
