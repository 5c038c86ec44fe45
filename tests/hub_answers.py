"""How both doubles of the Hub answer: the one that is read from and the one that is written to."""

import json
from http.server import BaseHTTPRequestHandler


class HubAnswers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, content: bytes | object = None, code: int = 200, **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps({} if content is None else content).encode()
        self.send_response(code)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
