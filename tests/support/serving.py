"""A WSGI application on a real socket, and a client that says what it is told to say."""

import http.client
import json
import threading
from contextlib import contextmanager

from hpsearch.dashboard.server import Server


class Client:
    def __init__(self, port):
        self.port, self.host = port, f"127.0.0.1:{port}"

    def __call__(self, method, path, body=None, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if isinstance(body, dict):
            body, headers = json.dumps(body), {"Content-Type": "application/json", **headers}
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        answer.body = answer.read()
        connection.close()
        return answer

    @property
    def own(self):
        return {"Origin": f"http://{self.host}"}


@contextmanager
def serving(app):
    with Server("127.0.0.1", 0) as server:
        server.set_app(app)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield Client(server.server_port)
        finally:
            server.shutdown()
            thread.join()
