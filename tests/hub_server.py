"""A stand-in for the Hugging Face Hub: the few endpoints of it which the package huggingface_hub uses, from memory."""

import base64
import contextlib
import hashlib
import http.server
import json
import re
import threading

TOKEN = "hf_standInToken0123456789"


class Hub(http.server.ThreadingHTTPServer):
    """Repositories in memory.

    Attributes:
        repositories: "owner/name" to revision to the files by name.
        private: the names of the repositories that ask for `TOKEN`.
        broken: what goes wrong: "down" (status 503), "bytes" (a file has others than its hash says), "size" (a file is said to be
            huge), "endless" (more bytes come than were said), "cut" (fewer), "page" (answers are no JSON), "gated".
        asked: "METHOD path" of every request.
        uploads: files that were sent, by SHA-256.
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories, self.private, self.broken = {}, set(), set()
        self.asked, self.uploads, self.visibility = [], {}, {}
        self.endpoint = f"http://127.0.0.1:{self.server_port}"

    def add(self, repository, files, revision="main"):
        """Put files into a revision of a repository; returns the hash of the commit."""
        revisions = self.repositories.setdefault(repository, {})
        revisions[revision] = {**revisions.get(revision, {}), **files}
        commit = hashlib.sha1(json.dumps(sorted((n, oid(n, d)) for n, d in revisions[revision].items())).encode())
        revisions[commit.hexdigest()] = dict(revisions[revision])
        return commit.hexdigest()


@contextlib.contextmanager
def hub():
    """A context manager with a running `Hub`."""
    with Hub() as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()


def is_large(name):
    return not name.endswith((".md", ".json"))


def oid(name, data):
    """The hash by which the Hub names a file: SHA-256 of large ones, git's of others."""
    if is_large(name):
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def answer(self, value=None, status=200, body=None, **headers):
        data = json.dumps(value).encode() if body is None else body
        self.send_response(status)
        self.send_header("Content-Length", headers.pop("Content_Length", len(data)))
        for name, text in headers.items():
            self.send_header(name.replace("_", "-"), text)
        self.end_headers()
        if self.command != "HEAD":
            with contextlib.suppress(ConnectionError):
                self.wfile.write(data)

    def fail(self, status, code):
        self.answer({"error": code}, status, X_Error_Code=code)

    def body(self):
        data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        return data

    def do_any(self):
        self.path, _, self.query = self.path.partition("?")
        self.server.asked.append(f"{self.command} {self.path}")
        data, broken = self.body(), self.server.broken
        if "down" in broken:
            return self.answer({"error": "down"}, 503)
        if "page" in broken:
            return self.answer(body=b"<html>log in</html>")
        for pattern, method in ROUTES:
            match = re.fullmatch(pattern, f"{self.command} {self.path}")
            if match:
                repository = match.groupdict().get("repository")
                if repository in self.server.private and self.headers.get("Authorization") != f"Bearer {TOKEN}":
                    return self.fail(401, "RepoNotFound")
                if "gated" in broken:
                    return self.fail(403, "GatedRepo")
                return method(self, data, **match.groupdict())
        self.fail(404, "NotFound")

    do_GET = do_HEAD = do_POST = do_PUT = do_any

    def files(self, repository, revision):
        """The commit and files of a revision; None after an answer that says what is missing."""
        revisions = self.server.repositories.get(repository)
        if revisions is None:
            return self.fail(404, "RepoNotFound")
        name = (revision or "main").replace("%2F", "/")
        if name not in revisions:
            return self.fail(404, "RevisionNotFound")
        return next(
            commit for commit, files in revisions.items() if len(commit) == 40 and files == revisions[name]
        ), revisions[name]

    def info(self, data, repository, revision=None):
        if found := self.files(repository, revision):
            siblings = []
            for name, content in found[1].items():
                size = 10**15 if "size" in self.server.broken else len(content)
                about = {"rfilename": name, "size": size, "blobId": oid("x.md", content)}
                if is_large(name):
                    about["lfs"] = {"sha256": oid(name, content), "size": size, "pointerSize": 130}
                siblings.append(about)
            self.answer({"id": repository, "modelId": repository, "sha": found[0], "siblings": siblings, "tags": []})

    def resolve(self, data, repository, revision, file):
        if not (found := self.files(repository, revision)):
            return
        commit, files = found
        if file not in files:
            return self.fail(404, "EntryNotFound")
        content, about = files[file], {"X_Repo_Commit": commit, "ETag": f'"{oid(file, files[file])}"'}
        if self.command == "GET" and "bytes" in self.server.broken:
            content = bytes(len(content))
        if self.command == "GET" and "endless" in self.server.broken:
            content = content + bytes(1 << 20)
        if self.command == "GET" and "cut" in self.server.broken:
            content = content[:-1]
        self.answer(body=content, **about)

    def create(self, data):
        about = json.loads(data)
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.answer({"error": f"bad token {self.headers.get('Authorization')}"}, 403)
        name = f"{about['organization']}/{about['name']}"
        self.server.visibility[name] = about
        status = 409 if name in self.server.repositories else 200
        self.server.repositories.setdefault(name, {"main": {}})
        self.answer({"url": f"{self.server.endpoint}/{name}"}, status)

    def validate(self, data):
        self.answer({"errors": [], "warnings": []})

    def preupload(self, data, repository, revision):
        files = [file["path"] for file in json.loads(data)["files"]]
        modes = [{"path": f, "uploadMode": "lfs" if is_large(f) else "regular", "shouldIgnore": False} for f in files]
        self.answer({"files": modes})

    def batch(self, data, repository):
        upload = {oid: {"href": f"{self.server.endpoint}/upload/{oid}"} for oid in self.oids(data)}
        objects = [{"oid": o, "size": 1, "actions": {"upload": upload[o]}} for o in upload]
        self.answer({"transfer": "basic", "objects": objects})

    @staticmethod
    def oids(data):
        return [one["oid"] for one in json.loads(data)["objects"]]

    def upload(self, data, oid):
        self.server.uploads[oid] = data
        self.answer({}, 200 if hashlib.sha256(data).hexdigest() == oid else 400)

    def commit(self, data, repository, revision):
        files = {}
        for line in map(json.loads, data.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.server.uploads[value["oid"]]
        commit = self.server.add(repository, files, revision)
        self.answer({"commitUrl": f"{self.server.endpoint}/{repository}/commit/{commit}", "commitOid": commit})


ROUTES = [
    (r"GET /api/models/(?P<repository>[^/]+/[^/]+)", Handler.info),
    (r"GET /api/models/(?P<repository>[^/]+/[^/]+)/revision/(?P<revision>[^/]+)", Handler.info),
    (r"(?:GET|HEAD) /(?P<repository>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)", Handler.resolve),
    (r"POST /api/repos/create", Handler.create),
    (r"POST /api/validate-yaml", Handler.validate),
    (r"POST /api/models/(?P<repository>[^/]+/[^/]+)/preupload/(?P<revision>[^/]+)", Handler.preupload),
    (r"POST /(?P<repository>[^/]+/[^/]+)\.git/info/lfs/objects/batch", Handler.batch),
    (r"PUT /upload/(?P<oid>[0-9a-f]{64})", Handler.upload),
    (r"POST /api/models/(?P<repository>[^/]+/[^/]+)/commit/(?P<revision>[^/]+)", Handler.commit),
]
