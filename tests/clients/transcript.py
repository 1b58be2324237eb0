#!/usr/bin/env python3
"""Plays calls through a real client and prints all that the client shows: transcript.py ollama|openai|anthropic BASE_URL <CALLS

CALLS, on standard input, is a JSON array of {"scene", "call", "arguments"}: `call` is the client's method (`chat`,
`chat.completions.create`), `arguments` are its keyword arguments. Standard output is a JSON object: for each scene

    frames    what a stream gave, one entry a chunk        or  answer    what came as a whole
    error     {"status", "text", "body"}: the exception that the client raised, after the frames that came before it
    status, headers    of the HTTP reply

Nothing is left out or smoothed here; what differs from run to run is the reader's to normalise.
"""

import json
import sys

import anthropic
import httpx
import httpx2
import ollama
import openai


def plain(value):
    """A client's object as JSON data, with only the fields that it holds a value for."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json", exclude_none=True)
    return value


def ollama_client(base, replies):
    def keep(reply):
        replies.append((reply.status_code, dict(reply.headers)))

    client = ollama.Client(host=base, timeout=httpx.Timeout(60), trust_env=False, event_hooks={"response": [keep]})

    def told(error):
        return {"status": error.status_code, "text": error.error, "body": None}

    return client, ollama.ResponseError, told


def openai_client(base, replies):
    def keep(reply):
        replies.append((reply.status_code, dict(reply.headers)))

    http = httpx2.Client(timeout=60, trust_env=False, event_hooks={"response": [keep]})
    client = openai.OpenAI(base_url=f"{base}/v1", api_key="unused", max_retries=0, http_client=http)

    def told(error):
        return {"status": getattr(error, "status_code", None), "text": error.message, "body": error.body}

    return client, openai.APIError, told


def anthropic_client(base, replies):
    def keep(reply):
        replies.append((reply.status_code, dict(reply.headers)))

    http = httpx2.Client(timeout=60, trust_env=False, event_hooks={"response": [keep]})
    client = anthropic.Anthropic(base_url=base, api_key="unused", max_retries=0, http_client=http)

    def told(error):
        return {"status": getattr(error, "status_code", None), "text": error.message, "body": error.body}

    return client, anthropic.APIError, told


def play(client, failure, told, call, arguments):
    """One scene, as far as the client shows it."""
    seen = {}
    try:
        method = client
        for name in call.split("."):
            method = getattr(method, name)
        answer = method(**arguments)
        if arguments.get("stream"):
            frames = seen["frames"] = []
            for frame in answer:
                frames.append(plain(frame))
        else:
            seen["answer"] = plain(answer)
    except (openai.APIConnectionError, anthropic.APIConnectionError):
        raise  # nobody answered: that is no transcript
    except failure as error:
        seen["error"] = told(error)
    return seen


def main():
    kind, base = sys.argv[1:]
    replies = []
    client, failure, told = {"ollama": ollama_client, "openai": openai_client, "anthropic": anthropic_client}[kind](base, replies)
    transcript = {}
    for entry in json.load(sys.stdin):
        replies.clear()
        seen = play(client, failure, told, entry["call"], entry["arguments"])
        seen["status"], seen["headers"] = replies[-1] if replies else (None, {})
        transcript[entry["scene"]] = seen
    json.dump(transcript, sys.stdout, ensure_ascii=False)


if __name__ == "__main__":
    main()
