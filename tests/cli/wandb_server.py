"""Stands in for W&B's server: says yes to all that its client uploads, keeps it, and hands out a first trial."""

import gzip
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import yaml

PROJECT = {"id": "project", "name": "karyon", "entity": {"id": "entity", "name": "team"}}


class Server:
    """What the client has told, and the answers to its requests, a method each, as far as it reads them.

    Attributes:
        address: of the server.
        runs: the variables of all requests that told of a run, joined, by its id.
        lines: of the files that grow, such as ``wandb-history.jsonl``, by offset, by run and file.
        files: the bytes of the files that were put, by run or artifact and name.
        artifacts: what was said of each artifact, by its name.
        sweep: the content of the sweep file that was handed in.
        heartbeats: the states of their runs that agents have told.
        unknown: requests that there is no answer to.
    """

    def __init__(self) -> None:
        self.address = ""
        self.runs: dict[str, dict[str, Any]] = {}
        self.lines: dict[tuple[str, str], dict[int, str]] = {}
        self.files: dict[str, bytes] = {}
        self.artifacts: dict[str, dict[str, Any]] = {}
        self.sweep: dict[str, Any] = {}
        self.heartbeats: list[dict[str, Any]] = []
        self.unknown: list[str] = []

    def history(self, run: str) -> list[dict[str, Any]]:
        """What was logged, a dictionary a step."""
        lines = self.lines.get((run, "wandb-history.jsonl"), {})
        return [json.loads(line) for _, line in sorted(lines.items())]

    def logged(self, run: str, key: str) -> dict[int, Any]:
        """What was logged under a key, by the trainer's step."""
        return {row["trainer/global_step"]: row[key] for row in self.history(run) if key in row}

    def config(self, run: str) -> dict[str, Any]:
        """The config of a run, as it stands at the end."""
        return {key: entry["value"] for key, entry in json.loads(self.runs[run]["config"]).items()}

    def answer(self, operation: str, told: dict[str, Any]) -> dict[str, Any]:
        method = getattr(self, f"answer_{operation}", None)
        if method is None:
            self.unknown.append(f"{operation}: {told}")
            return {}
        return method(told)

    def answer_UpsertBucket(self, told: dict[str, Any]) -> dict[str, Any]:
        name = told["name"]
        self.runs.setdefault(name, {}).update({key: value for key, value in told.items() if value is not None})
        bucket = {"id": name, "name": name, "displayName": self.runs[name].get("displayName"), "config": "{}"}
        bucket |= {"project": PROJECT, "historyLineCount": len(self.history(name))}
        return {"upsertBucket": {"bucket": bucket, "inserted": True}}

    def answer_RunResumeStatus(self, told: dict[str, Any]) -> dict[str, Any]:
        name = told["name"]
        if name not in self.runs:
            return {"model": {**PROJECT, "bucket": None}}
        counts = {file: len(lines) for (run, file), lines in self.lines.items() if run == name}
        bucket = {
            "id": name,
            "name": name,
            "config": self.runs[name].get("config", "{}"),
            "summaryMetrics": "{}",
            "historyLineCount": counts.get("wandb-history.jsonl", 0),
            "eventsLineCount": counts.get("wandb-events.jsonl", 0),
            "logLineCount": counts.get("output.log", 0),
            "historyTail": json.dumps([json.dumps(line) for line in self.history(name)[-1:]]),
            "eventsTail": "[]",
            "wandbConfig": "{}",
            "tags": [],
        }
        return {"model": {**PROJECT, "bucket": bucket}}

    def answer_Viewer(self, told: dict[str, Any]) -> dict[str, Any]:
        return {"viewer": {"id": "user", "username": "user", "entity": "team", "flags": "{}", "teams": {"edges": []}}}

    def answer_ServerFeaturesQuery(self, told: dict[str, Any]) -> dict[str, Any]:
        return {"serverInfo": {"features": []}}

    def answer_CreateArtifact(self, told: dict[str, Any]) -> dict[str, Any]:
        name = told["input"]["artifactCollectionName"]
        self.artifacts[name] = told["input"]
        return {"createArtifact": {"artifact": {"id": name, "state": "PENDING", "artifactSequence": {}}}}

    def answer_CreateArtifactManifest(self, told: dict[str, Any]) -> dict[str, Any]:
        name = f"{told['artifactID']}/manifest"
        file = {"id": name, "name": name, "displayName": name, **self._place(name)}
        return {"createArtifactManifest": {"artifactManifest": {"id": name, "file": file}}}

    def answer_CreateArtifactFiles(self, told: dict[str, Any]) -> dict[str, Any]:
        edges = []
        for spec in told["input"]["artifactFiles"]:
            name = spec["name"]
            node = {"id": name, "name": name, "displayName": name, "artifact": {"id": spec["artifactID"]}}
            edges.append({"node": node | self._place(f"{spec['artifactID']}/{name}")})
        return {"createArtifactFiles": {"files": {"edges": edges}}}

    def answer_CommitArtifact(self, told: dict[str, Any]) -> dict[str, Any]:
        return {"commitArtifact": {"artifact": {"id": told["artifactID"], "digest": ""}}}

    def answer_CreateRunFiles(self, told: dict[str, Any]) -> dict[str, Any]:
        files = [{"name": name, **self._place(f"{told['run']}/{name}")} for name in told["files"]]
        return {"createRunFiles": {"runID": told["run"], "uploadHeaders": [], "files": files}}

    def _place(self, name: str) -> dict[str, Any]:
        return {"uploadUrl": f"{self.address}/put/{name}", "uploadHeaders": [], "storagePath": name}

    def answer_UpsertSweep(self, told: dict[str, Any]) -> dict[str, Any]:
        self.sweep = yaml.safe_load(told["config"])
        return {"upsertSweep": {"sweep": {"name": "sweep1", "project": PROJECT}, "configValidationWarnings": []}}

    def answer_SweepWithRuns(self, told: dict[str, Any]) -> dict[str, Any]:
        sweep = {"id": "sweep1", "name": "sweep1", "config": yaml.safe_dump(self.sweep), "runs": {"edges": []}}
        return {"project": {"sweep": sweep}}

    def answer_CreateAgent(self, told: dict[str, Any]) -> dict[str, Any]:
        return {"createAgent": {"agent": {"id": "agent1"}}}

    def answer_Heartbeat(self, told: dict[str, Any]) -> dict[str, Any]:
        """Hands out the first trial at once, and no other."""
        commands = []
        if not self.heartbeats:
            args = {name: {"value": entry["values"][0]} for name, entry in self.sweep["parameters"].items()}
            commands = [{"type": "run", "run_id": "trial1", "program": self.sweep["program"], "args": args}]
        self.heartbeats.append(json.loads(told["runState"]))
        return {"agentHeartbeat": {"agent": {"id": "agent1"}, "commands": json.dumps(commands)}}

    def stream(self, run: str, content: dict[str, Any]) -> None:
        """Keeps lines of a run's files, each at its offset."""
        for file, part in content.get("files", {}).items():
            lines = self.lines.setdefault((run, file), {})
            lines.update({part["offset"] + number: line for number, line in enumerate(part["content"])})


@contextmanager
def wandb_server() -> Iterator[Server]:
    """Runs the stand-in on a free port of this machine."""
    told = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self._body()
            if self.path == "/graphql":
                request = json.loads(body)
                operation = re.search(r"(?:query|mutation) (\w+)", request["query"])
                assert operation is not None, request["query"]
                self._reply({"data": told.answer(operation[1], request.get("variables") or {})})
            elif self.path.endswith("/file_stream"):
                # /files/<entity>/<project>/<run>/file_stream
                told.stream(self.path.split("/")[-2], json.loads(body))
                self._reply({"exitcode": None, "limits": {}})
            else:
                # What the client tells of itself.
                self._reply({})

        def do_PUT(self) -> None:
            told.files[self.path.removeprefix("/put/")] = self._body()
            self._reply({})

        def _body(self) -> bytes:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

        def _reply(self, content: dict[str, Any]) -> None:
            body = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    class QuietServer(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """The client hangs up when it is done."""

    server = QuietServer(("127.0.0.1", 0), Handler)
    told.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield told
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
