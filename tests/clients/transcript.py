#!/usr/bin/env python3
"""Plays calls through a real client and prints all that the client shows: transcript.py LIBRARY BASE_URL <CALLS

LIBRARY is ollama, openai, anthropic, langchain or llama-index. CALLS, on standard input, is a JSON array of

    {"scene", "call", "arguments"}    the client's method (`chat`, `chat.completions.create`) and its keyword arguments
    "async": true                     the same of the library's other client, which waits without blocking
    "make": {CLASS: ARGUMENTS}        what the method is a method of, where the library has no client but classes
    "first": {METHOD: ARGUMENTS}      what is made of that before (`bind_tools`)

A string of NAMED stands for an object of Python's. Standard output is a JSON object: for each scene

    frames    what a stream gave, one entry a chunk        or  answer    what came as a whole
    final     what a stream's helper made of all its chunks
    error     {"status", "text", "body"}: the exception that the client raised, after the frames that came before it
    status, headers    of the last HTTP reply

Nothing is left out or smoothed here; what differs from run to run is the reader's to normalise.
"""

import asyncio
import functools
import inspect
import json
import sys
import tempfile

import pydantic


class Place(pydantic.BaseModel):
    """A place on a map."""

    town: str
    year: int


def search_docs(query: str) -> str:
    """Search the documents.

    Args:
      query: What to search for.
    """
    return query


BLOB = tempfile.NamedTemporaryFile()
BLOB.write(b"not a model")
BLOB.flush()
NAMED = {"$Place": Place, "$search_docs": search_docs, "$blob": BLOB.name, "$sound": ("sound.wav", b"RIFF")}


def named(value):
    """Arguments with the objects that names stand for."""
    if isinstance(value, dict):
        return {key: named(item) for key, item in value.items()}
    if isinstance(value, list):
        return [named(item) for item in value]
    return NAMED.get(value, value) if isinstance(value, str) else value


def plain(value):
    """A client's object as JSON data, with only the fields that it holds a value for."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, pydantic.BaseModel):
        return value.model_dump(mode="json", exclude_none=True, warnings=False)
    return value


class Replies:
    """The HTTP replies of a scene, for clients of both kinds."""

    def __init__(self):
        self.all = []

    def keep(self, reply):
        self.all.append((reply.status_code, dict(reply.headers)))

    async def keep_too(self, reply):
        self.keep(reply)

    def settings(self, waits):
        return {"timeout": 60, "trust_env": False, "event_hooks": {"response": [self.keep_too if waits else self.keep]}}


# Each library: what an entry's method is a method of, and what the library's own exceptions tell.


def ollama_library(base, replies):
    import ollama

    clients = [ollama.Client(host=base, **replies.settings(False)), ollama.AsyncClient(host=base, **replies.settings(True))]

    def told(error):
        if isinstance(error, ollama.ResponseError):
            return {"status": error.status_code, "text": error.error, "body": None}

    return lambda entry: clients[entry.get("async", False)], told


def openai_library(base, replies):
    import httpx2
    import openai

    shared = {"base_url": f"{base}/v1", "api_key": "unused", "max_retries": 0}
    clients = [
        openai.OpenAI(**shared, http_client=httpx2.Client(**replies.settings(False))),
        openai.AsyncOpenAI(**shared, http_client=httpx2.AsyncClient(**replies.settings(True))),
    ]

    def told(error):
        if isinstance(error, openai.APIError):
            return {"status": getattr(error, "status_code", None), "text": error.message, "body": error.body}

    return lambda entry: clients[entry.get("async", False)], told


def anthropic_library(base, replies):
    import anthropic
    import httpx2

    shared = {"base_url": base, "api_key": "unused", "max_retries": 0}
    clients = [
        anthropic.Anthropic(**shared, http_client=httpx2.Client(**replies.settings(False))),
        anthropic.AsyncAnthropic(**shared, http_client=httpx2.AsyncClient(**replies.settings(True))),
    ]

    def told(error):
        if isinstance(error, anthropic.APIError):
            return {"status": getattr(error, "status_code", None), "text": error.message, "body": error.body}

    return lambda entry: clients[entry.get("async", False)], told


def langchain_library(base, replies):
    import langchain_ollama

    _, told = ollama_library(base, replies)
    shared = {"base_url": base, "sync_client_kwargs": replies.settings(False), "async_client_kwargs": replies.settings(True)}

    def make(entry):
        ((name, arguments),) = entry["make"].items()
        return getattr(langchain_ollama, name)(**shared, **arguments)

    return make, told


def llama_index_library(base, replies):
    import ollama
    from llama_index.core.llms import ChatMessage
    from llama_index.core.tools import FunctionTool
    from llama_index.llms.ollama import Ollama

    _, told = ollama_library(base, replies)
    clients = {
        "client": ollama.Client(host=base, **replies.settings(False)),
        "async_client": ollama.AsyncClient(host=base, **replies.settings(True)),
    }
    NAMED["$search_docs"] = FunctionTool.from_defaults(search_docs)

    def make(entry):
        said = entry["arguments"]
        if "messages" in said:
            said["messages"] = [ChatMessage(**message) for message in said["messages"]]
        return Ollama(base_url=base, **clients, **entry["make"]["Ollama"])

    return make, told


LIBRARIES = {
    "ollama": ollama_library,
    "openai": openai_library,
    "anthropic": anthropic_library,
    "langchain": langchain_library,
    "llama-index": llama_index_library,
}


def unanswered(error):
    """Whether nobody answered: that is no transcript. Nor is a call that the library doesn't have."""
    own = isinstance(error, (ConnectionError, TypeError, AttributeError))
    return own or any(kind.__name__ in ("APIConnectionError", "TransportError") for kind in type(error).__mro__)


async def settled(value):
    return await value


async def listen(stream, frames):
    async for frame in stream:
        frames.append(plain(frame))


def play(wait, make, told, entry):
    """One scene, as far as the client shows it. `wait` gives what a coroutine gives."""
    seen = {}
    entry = {key: named(value) for key, value in entry.items()}
    try:
        on = make(entry)
        for method, arguments in entry.get("first", {}).items():
            on = getattr(on, method)(**arguments)
        answer = functools.reduce(getattr, entry["call"].split("."), on)(**entry["arguments"])
        if inspect.isawaitable(answer):
            answer = wait(settled(answer))
        # A helper of a stream is entered first.
        if not hasattr(answer, "__iter__") and hasattr(answer, "__enter__"):
            answer = answer.__enter__()
        elif not hasattr(answer, "__aiter__") and hasattr(answer, "__aenter__"):
            answer = wait(settled(answer.__aenter__()))
        if isinstance(answer, (pydantic.BaseModel, dict, list, str, type(None))):
            seen["answer"] = plain(answer)
        else:
            frames = seen["frames"] = []
            if hasattr(answer, "__aiter__"):
                wait(listen(answer, frames))
            else:
                for frame in answer:
                    frames.append(plain(frame))
            for final in ("get_final_completion", "get_final_response", "get_final_message"):
                if hasattr(answer, final):
                    made = getattr(answer, final)()
                    seen["final"] = plain(wait(settled(made)) if inspect.isawaitable(made) else made)
    except Exception as error:
        if unanswered(error):
            raise
        seen["error"] = told(error) or {"status": None, "text": f"{type(error).__name__}: {error}", "body": None}
    return seen


def main():
    library, base = sys.argv[1:]
    replies = Replies()
    make, told = LIBRARIES[library](base, replies)
    transcript = {}
    with asyncio.Runner() as runner:
        for entry in json.load(sys.stdin):
            replies.all.clear()
            seen = play(runner.run, make, told, entry)
            seen["status"], seen["headers"] = replies.all[-1] if replies.all else (None, {})
            transcript[entry["scene"]] = seen
    json.dump(transcript, sys.stdout, ensure_ascii=False)


if __name__ == "__main__":
    main()
