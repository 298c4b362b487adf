"""Labels by a language model behind an OpenAI-compatible address that the user names.

Report text leaves the computer: nothing is sent unless `send_reports` says so. The model is asked
for a JSON object with 0 or 1 for every class; anything else is asked for once more, then refused.
Answers are kept on disk under the hash of prompt, model and report, without any text, so that a
stopped run goes on where it was and a finished one can be repeated.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO, Any

from uvlm.errors import InputError, UvlmError
from uvlm.text.labelling.protocol import Labels

__all__ = ["LanguageModel", "default_cache"]

log = logging.getLogger(__name__)

PROMPT = (
    "You label radiology reports. For each finding of the list answer 1 if the report says that it "
    "is present now, 0 if it is absent, not mentioned, or past and resolved. A finding called "
    "possible or suspected counts as present. Answer with one JSON object and nothing else: its "
    "keys are the findings exactly as listed, its values are 0 or 1.\nFindings: {classes}"
)
ATTEMPTS = 2
PROGRESS = 100
"""Reports between two lines of the log."""

LONGEST_ANSWER = 1 << 20
"""Bytes."""

LOCAL = ("localhost", "127.0.0.1", "::1")


def default_cache() -> Path:
    """Where answers are kept unless told otherwise."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "uvlm" / "language_model"


class LanguageModel:
    """A labeller; gives no evidence."""

    def __init__(
        self,
        address: str,
        model: str,
        classes: Sequence[str],
        *,
        send_reports: bool,
        cache: Path | None = None,
        key: str | None = None,
        workers: int = 4,
        timeout: float = 120.0,
        ids: Sequence[str] = (),
    ) -> None:
        """
        Args:
            address: such as http://localhost:8000/v1; `/chat/completions` is added
            model: the name the server knows it by
            send_reports: must be True: what is sent is the text of the reports
            cache: folder for answers; None for `default_cache()`
            key: sent as bearer token, if given
            workers: requests at a time
            timeout: seconds per request
            ids: of the reports that will be labelled, for messages

        Raises:
            InputError: `send_reports` is False, or the address is none.
        """
        parts = urllib.parse.urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError(
                f"{address!r} is no address. Give one such as http://localhost:8000/v1."
            )
        if not send_reports:
            raise InputError(
                f"the text of the reports would be sent to {parts.hostname}. If that is allowed, "
                "say so with --send-reports."
            )
        if parts.scheme == "http" and parts.hostname not in LOCAL:
            log.warning("%s is reached without encryption (http)", parts.hostname)
        self._url = address.rstrip("/") + "/chat/completions"
        self._host, self._model, self._classes = parts.hostname, model, tuple(classes)
        self._cache = default_cache() if cache is None else Path(cache)
        self._key, self._workers, self._timeout = key, workers, timeout
        self._ids = tuple(ids)
        self._prompt = PROMPT.format(classes=json.dumps(self._classes))
        # What is meant for this computer goes to no proxy.
        direct = [urllib.request.ProxyHandler({})] if self._host in LOCAL else []
        self._opener = urllib.request.build_opener(_NoRedirect, *direct)

    @property
    def name(self) -> str:
        return f"llm@{self._model}"

    @property
    def classes(self) -> tuple[str, ...]:
        return self._classes

    def label(self, reports: Sequence[str]) -> list[Labels]:
        """One `Labels` per report; a report without text is all zeros and is not sent.

        Raises:
            UvlmError: the server cannot be reached or answers with something else; what was
                answered until then is kept.
        """
        stop = threading.Event()

        def one(numbered: tuple[int, str]) -> Labels:
            if stop.is_set():
                return Labels(values={}, evidence=())
            try:
                return Labels(values=self._values(*numbered), evidence=())
            except BaseException:
                stop.set()
                raise

        labels = []
        with ThreadPoolExecutor(self._workers) as pool:
            for found in pool.map(one, enumerate(reports, 1)):
                labels.append(found)
                if len(labels) % PROGRESS == 0:
                    log.info("%d of %d reports labelled", len(labels), len(reports))
        return labels

    def _values(self, number: int, report: str) -> dict[str, int]:
        if not report.strip():
            return dict.fromkeys(self._classes, 0)
        parts = json.dumps([self._prompt, self._model, report])
        kept = self._cache / f"{hashlib.sha256(parts.encode()).hexdigest()}.json"
        known = self._kept(kept)
        if known is not None:
            return known
        trouble = ""
        for _ in range(ATTEMPTS):
            try:
                values = self._validated(self._ask(report))
            except _AnswerError as error:
                trouble = str(error)
                if error.final:
                    break
                continue
            _write(kept, {"model": self._model, "values": values})
            return values
        known_as = f" (id {self._ids[number - 1]!r})" if number <= len(self._ids) else ""
        raise UvlmError(
            f"{self._host}: report {number}{known_as}: {trouble}. Answers are kept: run again."
        )

    def _kept(self, path: Path) -> dict[str, int] | None:
        try:
            return self._validated(path.read_text("utf-8"), lambda found: found["values"])
        except (OSError, UnicodeError, _AnswerError):
            return None

    def _ask(self, report: str) -> str:
        """The text that the model answers."""
        content = {
            "model": self._model,
            "temperature": 0,
            "messages": [
                {"role": "system", "content": self._prompt},
                {"role": "user", "content": report},
            ],
        }
        headers = {"Content-Type": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        request = urllib.request.Request(
            self._url, json.dumps(content).encode(), headers, method="POST"
        )
        try:
            with self._opener.open(request, timeout=self._timeout) as response:
                body = response.read(LONGEST_ANSWER)
        except urllib.error.HTTPError as error:
            # Its body is not repeated: servers quote what they were sent.
            error.close()
            final = error.code < 500 and error.code != 429
            raise _AnswerError(f"the server answers with status {error.code}", final) from None
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", None) or type(error).__name__
            raise _AnswerError(f"the server cannot be reached ({reason})") from None
        try:
            text = json.loads(body)["choices"][0]["message"]["content"]
        except (ValueError, KeyError, IndexError, TypeError):
            raise _AnswerError("the answer is no chat completion") from None
        if not isinstance(text, str):
            raise _AnswerError("the answer holds no text")
        return text

    def _validated(self, text: str, part: Any = lambda found: found) -> dict[str, int]:
        """The JSON object of an answer, which may stand in a code fence or after thoughts."""
        after = text.rpartition("</think>")[2]
        try:
            found = part(json.loads(after[after.index("{") : after.rindex("}") + 1]))
        except (ValueError, KeyError, TypeError, RecursionError):
            raise _AnswerError("the answer is no JSON object") from None
        if not isinstance(found, Mapping) or set(found) != set(self._classes):
            raise _AnswerError(f"the answer's keys are not the {len(self._classes)} classes")
        values = {name: found[name] for name in self._classes}
        if any(type(value) is not int or value not in (0, 1) for value in values.values()):
            raise _AnswerError("the answer holds a value that is not 0 or 1")
        return values


class _AnswerError(Exception):
    """No usable answer; `final` if asking again would not help."""

    def __init__(self, what: str, final: bool = False) -> None:
        super().__init__(what)
        self.final = final


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Reports go to the address the user named and nowhere else."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> None:
        return None


def _write(path: Path, content: dict[str, Any]) -> None:
    """Whole or not at all; two threads may write the same answer."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(content) + "\n", "utf-8")
        os.replace(partial, path)
    except OSError as error:
        found = f"cannot be written ({error.strerror})"
        raise InputError.about(path.parent, found, "Give another folder with --cache.") from None
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()
