"""A language model's labels: what is sent, what is believed, what is kept. The server is local."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from uvlm.errors import InputError, UvlmError
from uvlm.text.labelling import language_model
from uvlm.text.labelling.language_model import LanguageModel

CLASSES = ("Lung nodule", "Pleural effusion")
RIGHT = '{"Lung nodule": 1, "Pleural effusion": 0}'


class Server(ThreadingHTTPServer):
    """Answers with the next of `answers`, the last one again and again; a number is a status."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[str | int | bytes] = [RIGHT]
        self.asked: list[dict] = []
        self.headers: list[dict[str, str]] = []
        self.lock = threading.Lock()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.asked.append({"path": self.path, **body})
            self.server.headers.append(dict(self.headers))
            answers = self.server.answers
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
        status = answer if isinstance(answer, int) else 200
        self.send_response(status)
        if 300 <= status < 400:
            self.send_header("Location", f"{self.server.address}/elsewhere")
        self.end_headers()
        if isinstance(answer, bytes):
            self.wfile.write(answer)
        else:
            content = {"choices": [{"message": {"content": answer}}]}
            self.wfile.write(json.dumps(content).encode())

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def labeller(server: Server, tmp_path: Path, **more: object) -> LanguageModel:
    options = {"send_reports": True, "cache": tmp_path / "cache", "workers": 1, "timeout": 5.0}
    return LanguageModel(server.address, "tiny", CLASSES, **(options | more))  # type: ignore[arg-type]


def test_labels_come_from_the_answer_and_the_request_holds_prompt_and_report(server, tmp_path):
    (found,) = labeller(server, tmp_path).label(["A nodule is seen."])
    assert found.values == {"Lung nodule": 1, "Pleural effusion": 0}
    (asked,) = server.asked
    assert asked["path"] == "/v1/chat/completions"
    assert (asked["model"], asked["temperature"]) == ("tiny", 0)
    assert [m["role"] for m in asked["messages"]] == ["system", "user"]
    assert all(name in asked["messages"][0]["content"] for name in CLASSES)
    assert asked["messages"][1]["content"] == "A nodule is seen."
    assert "Authorization" not in server.headers[0]


def test_nothing_is_sent_without_the_users_word(server, tmp_path):
    with pytest.raises(InputError, match="--send-reports"):
        labeller(server, tmp_path, send_reports=False)
    assert server.asked == []


@pytest.mark.parametrize("address", ["file:///etc", "localhost:8000", "ftp://a/b", ""])
def test_only_web_addresses_are_taken(address):
    with pytest.raises(InputError, match="is no address"):
        LanguageModel(address, "tiny", CLASSES, send_reports=True)


def test_an_unencrypted_foreign_address_is_warned_of(caplog):
    LanguageModel("http://example.org/v1", "tiny", CLASSES, send_reports=True)
    assert "example.org is reached without encryption" in caplog.text


def test_the_key_is_sent_as_bearer_token(server, tmp_path):
    labeller(server, tmp_path, key="k1").label(["Text."])
    assert server.headers[0]["Authorization"] == "Bearer k1"


@pytest.mark.parametrize(
    "answer",
    [
        f"```json\n{RIGHT}\n```",
        f"<think>Is it {{1}}?</think>\n{RIGHT}",
        f"Here it is: {RIGHT}",
        '{"Pleural effusion": 0, "Lung nodule": 1}',
    ],
)
def test_wrapping_of_the_answer_is_taken_off(server, tmp_path, answer):
    server.answers = [answer]
    (found,) = labeller(server, tmp_path).label(["Text."])
    assert list(found.values.items()) == [("Lung nodule", 1), ("Pleural effusion", 0)]


WRONG = [
    ("I cannot help with that.", "no JSON object"),
    ("[1, 0]", "no JSON object"),
    ('{"Lung nodule": 1}', "keys are not the 2 classes"),
    (RIGHT.replace("}", ', "More": 1}'), "keys are not the 2 classes"),
    (RIGHT.replace("1", "2"), "not 0 or 1"),
    (RIGHT.replace("1", "true"), "not 0 or 1"),
    (RIGHT.replace("1", '"1"'), "not 0 or 1"),
    (RIGHT.replace("1", "null"), "not 0 or 1"),
    ("{" * 5000 + "}", "no JSON object"),
    (b"busy", "no chat completion"),
    (b'{"choices": []}', "no chat completion"),
    (b'{"choices": [{"message": {"content": null}}]}', "holds no text"),
    (500, "status 500"),
]


@pytest.mark.parametrize(("answer", "message"), WRONG)
def test_a_wrong_answer_is_asked_for_once_more_then_refused(server, tmp_path, answer, message):
    server.answers = [answer]
    with pytest.raises(UvlmError, match=message) as caught:
        labeller(server, tmp_path).label(["secret words"])
    assert len(server.asked) == 2
    assert "secret" not in str(caught.value)
    assert "report 1" in str(caught.value)
    assert not list((tmp_path / "cache").glob("*"))


def test_a_second_answer_that_is_right_counts(server, tmp_path):
    server.answers = ["no idea", RIGHT]
    (found,) = labeller(server, tmp_path).label(["Text."])
    assert found.values["Lung nodule"] == 1


@pytest.mark.parametrize("status", [400, 401, 404, 302, 307])
def test_a_refusal_or_a_redirect_is_final(server, tmp_path, status):
    server.answers = [status]
    with pytest.raises(UvlmError, match=f"status {status}"):
        labeller(server, tmp_path).label(["Text."])
    assert [asked["path"] for asked in server.asked] == ["/v1/chat/completions"]


def test_a_server_that_is_not_there_is_named(tmp_path):
    with Server() as stopped:
        address = stopped.address
    absent = LanguageModel(address, "tiny", CLASSES, send_reports=True, cache=tmp_path)
    with pytest.raises(UvlmError, match=r"127\.0\.0\.1: report 1: the server cannot be reached"):
        absent.label(["Text."])


def test_no_proxy_sees_what_is_meant_for_this_computer(server, tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    assert labeller(server, tmp_path).label(["Text."])[0].values["Lung nodule"] == 1


def test_a_report_without_text_is_not_sent(server, tmp_path):
    (found,) = labeller(server, tmp_path).label([" \n"])
    assert set(found.values.values()) == {0}
    assert server.asked == []


def test_answers_are_kept_without_text_and_asked_for_once(server, tmp_path):
    first = labeller(server, tmp_path).label(["A nodule."])
    server.answers = [500]
    assert labeller(server, tmp_path).label(["A nodule."]) == first
    (kept,) = (tmp_path / "cache").iterdir()
    assert "nodule." not in kept.read_text()
    assert len(server.asked) == 1


def test_another_model_prompt_or_report_is_asked_anew(server, tmp_path):
    labeller(server, tmp_path).label(["A.", "B."])
    options = {"send_reports": True, "cache": tmp_path / "cache"}
    LanguageModel(server.address, "other", CLASSES, **options).label(["A."])
    server.answers = ['{"Lung nodule": 0}']
    LanguageModel(server.address, "tiny", CLASSES[:1], **options).label(["A."])
    assert len(server.asked) == 4


@pytest.mark.parametrize("content", ["", "{", '{"values": {"Lung nodule": 5}}', "[]", "\x00"])
def test_a_damaged_kept_answer_is_asked_for_again(server, tmp_path, content):
    first = labeller(server, tmp_path).label(["A nodule."])
    (kept,) = (tmp_path / "cache").iterdir()
    kept.write_text(content)
    assert labeller(server, tmp_path).label(["A nodule."]) == first
    assert len(server.asked) == 2


def test_what_was_answered_before_a_failure_is_kept(server, tmp_path):
    server.answers = [RIGHT, RIGHT, 404]
    with pytest.raises(UvlmError, match=r"report 3: .*run again"):
        labeller(server, tmp_path).label(["A.", "B.", "C.", "D."])
    server.answers = [RIGHT]
    before = len(server.asked)
    assert len(labeller(server, tmp_path).label(["A.", "B.", "C.", "D."])) == 4
    assert len(server.asked) == before + 2


def test_many_at_a_time_keep_their_order(server, tmp_path):
    texts = [f"Report {i}." for i in range(20)]
    found = labeller(server, tmp_path, workers=8).label(texts)
    assert len(found) == len(server.asked) == 20
    assert sorted(asked["messages"][1]["content"] for asked in server.asked) == sorted(texts)


def test_progress_is_logged_without_text(server, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(language_model, "PROGRESS", 2)
    with caplog.at_level(logging.INFO, "uvlm"):
        labeller(server, tmp_path).label(["Secret.", "B.", "C."])
    assert "2 of 3 reports labelled" in caplog.text
    assert "Secret" not in caplog.text


def test_a_cache_that_cannot_be_written_is_named(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="--cache"):
        labeller(server, tmp_path, cache=tmp_path / "file").label(["Text."])
