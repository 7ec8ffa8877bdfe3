"""A provider of pictures on 127.0.0.1 that `huggingface_hub.InferenceClient` talks to as to any other."""

import io
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from PIL import Image


class Provider:
    """Answers each request with the next of `answers`, then with `picture`; keeps what it was asked."""

    def __init__(self, picture: Image.Image | None = None) -> None:
        self.answers: list[int] = []
        self.asked: list[dict] = []
        self.body = b""  # in place of a picture
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                provider.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                status = provider.answers.pop(0) if provider.answers else 200
                file = io.BytesIO()
                (picture or Image.new("RGB", (64, 64))).save(file, "PNG")
                body = (provider.body or file.getvalue()) if status == 200 else b'{"error": "not this one"}'
                self.send_response(status)
                self.send_header("Content-Type", "image/png" if status == 200 else "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/model"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()
