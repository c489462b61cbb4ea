"""`make demo`: four requests side by side, through a real proxy, in front of a stand-in cloud.

The stand-in is no language model; its answers are canned. Everything else is what you would run.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import openai
from rich.console import Console
from rich.table import Table

from audit.chain import read_line
from audit.errors import AuditError
from demo.stand_in_cloud import StandInCloud

ROOT = Path(__file__).parent.parent
PORT = 8093
CONSOLE = Console(highlight=False, width=110)

QUESTIONS = (
    ("pinned", "My name is Jane Doe, jane.doe@example-mail.com. Greet me."),
    ("answered at home", "What is the capital of France?"),
    ("escalated", "Who won the 1937 Zanzibar chess championship, and how?"),
    ("blocked", "Is 4111 1111 1111 1111 a valid card?"),
)


@dataclass(frozen=True, slots=True)
class Answered:
    """What came of a question, as the client sees it."""

    status: int
    text: str
    route: str
    why: str
    num_at_cloud: int


def main() -> None:
    """Run the demo."""
    with tempfile.TemporaryDirectory(prefix="ringfence-demo-") as name, StandInCloud() as cloud:
        folder = Path(name)
        CONSOLE.print("Starting a proxy in front of a [bold]stand-in[/] cloud (canned answers) …")
        with proxy(folder, cloud.base_url) as url:
            table = Table("", "question", "answered by", "why", "answer", "sent out")
            for label, question in QUESTIONS:
                told = ask(url, question, cloud)
                table.add_row(label, question, told.route, told.why, told.text, sent(told))
            CONSOLE.print(table)
        show_ledger(folder / "data" / "ledger")


def sent(told: Answered) -> str:
    """Whether anything reached the stand-in."""
    return "[yellow]1 request[/]" if told.num_at_cloud else "[green]nothing[/]"


@contextmanager
def proxy(folder: Path, cloud_url: str) -> Iterator[str]:
    """A real `ringfence serve` with the shipped policy; the stand-in is its destination."""
    policy = (ROOT / "policies" / "default.yaml").read_text()
    policy = re.sub(r"base_url: \S+", f"base_url: {cloud_url}", policy)
    (folder / "policy.yaml").write_text(policy)
    env = os.environ | {
        "RINGFENCE_PORT": str(PORT),
        "RINGFENCE_DATA_DIR": str(folder / "data"),
        "RINGFENCE_POLICY_FILE": str(folder / "policy.yaml"),
        "RINGFENCE_CLOUD_API_KEY": "stand-in",
        "RINGFENCE_EXPOSE_ROUTE_HEADERS": "true",
        "RINGFENCE_LOG_LEVEL": "error",
    }
    process = subprocess.Popen([sys.executable, "-m", "proxy", "serve"], env=env)
    url = f"http://127.0.0.1:{PORT}"
    try:
        wait_until_ready(url, process)
        yield url
    finally:
        process.terminate()
        process.wait(30)


def wait_until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    """Wait for the proxy; gives up when it has ended."""
    with httpx2.Client(trust_env=False) as wire:
        while process.poll() is None:
            try:
                if wire.get(f"{url}/readyz").status_code == 200:
                    return
            except httpx2.TransportError:
                pass
            time.sleep(0.2)
    sys.exit("the proxy did not start")


def ask(url: str, question: str, cloud: StandInCloud) -> Answered:
    """One question through the unmodified `openai` client."""
    cloud.requests.clear()
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0)
    try:
        raw = client.chat.completions.with_raw_response.create(
            model="ringfence",
            messages=[{"role": "user", "content": question}],
            max_tokens=48,
        )
    except openai.APIStatusError as error:
        body = error.body if isinstance(error.body, dict) else {}
        return Answered(
            error.status_code,
            str(body.get("message")),
            "nobody",
            str(error.code),
            len(cloud.requests),
        )
    headers = raw.headers
    why = headers["x-ringfence-reason"]
    if score := headers.get("x-ringfence-confidence"):
        why += f" ({float(score):.2f}, threshold {float(headers['x-ringfence-threshold']):.2f})"
    text = str(raw.parse().choices[0].message.content).strip()
    route = {"local": "local model", "cloud": "stand-in cloud"}[headers["x-ringfence-route"]]
    return Answered(200, text, route, why, len(cloud.requests))


def show_ledger(ledger: Path) -> None:
    """The records that the demo left, and the check an auditor would run."""
    CONSOLE.print("\nThe ledger, a line each:")
    table = Table("seq", "record", "says", box=None, pad_edge=False)
    for path in sorted((ledger / "wal").rglob("*.jsonl")):
        for line in path.read_bytes().splitlines():
            try:
                record = read_line(line)
            except AuditError:
                continue
            table.add_row(str(record["seq"]), str(record["kind"]), summary(record))
    CONSOLE.print(table)
    command = [sys.executable, "-m", "proxy", "audit", "verify", str(ledger)]
    CONSOLE.print("\n$ ringfence audit verify")
    subprocess.run(command, check=False)


def summary(record: dict[str, object]) -> str:
    """A record in a few words."""
    match record:
        case {"kind": "decision", "policy": {"action": action}, "routing": {"reason": reason}}:
            found = record.get("entities")
            names = [e["entity"] for e in found] if isinstance(found, list) else []
            return f"policy {action}, {reason}; found: {', '.join(names) or 'nothing'}"
        case {"kind": "egress.intent", "destination": str(to), "body": {"bytes": size}}:
            return f"{size} bytes about to leave for {to}"
        case {"kind": "egress.outcome", "status": status, "sent": was}:
            return f"sent {was}, status {status}"
    return ""


if __name__ == "__main__":
    main()
