"""P1 and P7 for files: one leaves only when every part of it was read, and leaves as it came."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator

import pytest

from demo.stand_in_cloud import Reply, StandInCloud
from tests.harness import RunningProxy, running_proxy, write_policy
from tests.proxy.inspection.files.builders import a_docx, a_pdf, shown, with_part

DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
PDF = "application/pdf"
INLINE = "BI /W 1 /H 1 /BPC 8 /CS /G ID x EI\n"
CARD = "My card is 4111 1111 1111 1111."
CLEAN = a_docx("The river is long, and it is cold in winter.")


@pytest.fixture(scope="module")
def talker(
    local_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[RunningProxy, StandInCloud]]:
    """A proxy that may send what the small local model cannot take, and its cloud."""
    folder = tmp_path_factory.mktemp("files")
    with StandInCloud() as cloud:
        cloud.reply = lambda _: Reply()
        policy = write_policy(
            folder, cloud.base_url, [("on_local_failure: refuse", "on_local_failure: cloud")]
        )
        env = {"RINGFENCE_LOCAL_BASE_URL": local_url, "RINGFENCE_POLICY_FILE": str(policy)}
        with running_proxy(folder, cloud.base_url, env) as proxy:
            yield proxy, cloud


def url(data: bytes, kind: str = DOCX) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def ask(talker: tuple[RunningProxy, StandInCloud], file_data: str) -> tuple[str, list[str]]:
    """What the policy said of a request with a file, and the files that left."""
    proxy, cloud = talker
    cloud.requests.clear()
    part = {"type": "file", "file": {"filename": "notes.docx", "file_data": file_data}}
    text = {"type": "text", "text": "What is this about?"}
    body = {"model": "ringfence", "messages": [{"role": "user", "content": [text, part]}]}
    proxy.post(json.dumps({**body, "max_tokens": 4}).encode())
    sent = [json.loads(request.body) for request in cloud.requests]
    files = [one["messages"][0]["content"][1]["file"]["file_data"] for one in sent]
    action = proxy.records("decision")[-1]["policy"]["action"]  # type: ignore[index]
    return str(action), files


KINDS = {
    "document": (CLEAN, DOCX),
    "text": (b"The river is long.", "text/plain"),
    "PDF": (a_pdf(shown("The river is long.")), PDF),
}


@pytest.mark.parametrize(("data", "kind"), KINDS.values(), ids=KINDS.keys())
def test_a_file_that_was_read_whole_leaves_as_it_came(
    data: bytes, kind: str, talker: tuple[RunningProxy, StandInCloud]
) -> None:
    sent = url(data, kind)
    assert ask(talker, sent) == ("allow", [sent])


HOME = {
    "a card in it": (url(a_docx(CARD)), "block"),
    "a card in text": (url(CARD.encode(), "text/plain"), "block"),
    "a card in a table": (url(b"name,card\nJane,4111111111111111\n", "text/csv"), "block"),
    "a card beside a picture": (
        url(with_part(a_docx(CARD), "word/media/image1.png", b"\x89PNG")),
        "block",
    ),
    "a card in a PDF": (url(a_pdf(shown(CARD)), PDF), "block"),
    "a picture in a PDF": (url(a_pdf(f"{INLINE} {shown('Hello')}"), PDF), "local_only"),
    "a picture": (url(with_part(CLEAN, "word/media/image1.png", b"\x89PNG")), "local_only"),
    "broken": (url(CLEAN[:-9]), "local_only"),
    "loose base64": (url(CLEAN) + "\n", "local_only"),
    "another label": (url(CLEAN, "text/plain"), "local_only"),
    "a label that talks": (url(CLEAN, f"{DOCX};name=Jane"), "local_only"),
    "a card, without base64": ("data:text/plain,4111%20111111111%31%31%31", "block"),
}


@pytest.mark.parametrize(("sent", "action"), HOME.values(), ids=HOME.keys())
def test_a_file_with_more_in_it_stays_home(
    sent: str, action: str, talker: tuple[RunningProxy, StandInCloud]
) -> None:
    assert ask(talker, sent) == (action, [])
