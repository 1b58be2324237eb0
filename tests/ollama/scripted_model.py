#!/usr/bin/env python3
"""Writes a model of which a test knows what it says: scripted_model.py ANSWER.txt PLANTED.json OUT.gguf

A real model server runs it like any other model, so a test knows what the server will say, token by token, whatever it
was asked. `{{KIND}}` in the answer stands for the planted secret of that kind. An answer that ends in `{{AGAIN}}` begins
anew at its end, for ever: it stops where the request's `num_predict` says.

How it works: the answer is cut into pieces of at most three characters and each piece is one token. The model is a llama
of a single layer that adds nothing (its weights are zero). What the output sees is therefore the last token's embedding
alone, which is one-hot, and the output matrix leads from each token to the one that follows it in the answer. The
template of every scripted model ends its prompt with the token <|assistant|>, from which the chain starts.

The invariant: one token has one successor. So no two tokens of an answer may have the same text (a vocabulary names each
token once), and `cut` finds a way to cut the answer into pieces that all differ, or says that there is none.

An answer `{{ECHO 500}}` makes another kind of model: it says again the last 500 tokens of its prompt, and ends. So what it
says is what a test tells it to say, which has 500 dots (`·`) before it: they fill it up, and say nothing. Its tokens are single
bytes and pairs of letters, digits and spaces. How it works: each token is a row of plus and minus ones, unlike those of all
others. The one layer's attention looks at the token that stands 500 places back, whatever it is: queries and keys are the same for
every token, so only the rotation of positions tells them apart, and the queries are turned back by 500 places. What it sees
there comes next; and when it sees <|assistant|>, the end.

Standard library only.
"""

import json
import math
import random
import re
import struct
import sys
from array import array
from pathlib import Path

PIECE = 3  # characters; a planted key arrives in no larger pieces than this
HEAD = 64  # width of an attention head; the embedding's width is a multiple of it
FEED_FORWARD = 32
CONTEXT = 4096
ALIGNMENT = 32
AGAIN = "{{AGAIN}}"
ECHO = re.compile(r"\{\{ECHO (\d+)\}\}")
ROTATION = 10000.0  # the base of the angles by which positions are told apart
ECHO_WIDTH = HEAD
SHARPNESS = 16.0  # how much more an echo's attention is drawn to its place than to those beside it
LOUDNESS = 8.0  # how much more an echo hears what it looks at than the token it stands on
CERTAINTY = 40.0  # the logit's weight: large enough that sampling at any usual temperature picks the chain

# Token types of the GGUF vocabulary.
NORMAL, UNKNOWN, CONTROL, UNUSED, BYTE = 1, 2, 3, 5, 6
UNK, BOS, EOS = 0, 1, 2
FILLER = "\u00b7"  # a token of an echo that is read but, being marked as unused, not written
SPACE = "\u2581"  # how a vocabulary of this family writes a space

# Value types of GGUF metadata.
UINT32, FLOAT32, BOOL, STRING, ARRAY, INT32 = 4, 6, 7, 8, 9, 5
TENSOR_F32 = 0


def fill(answer: str, planted: dict) -> str:
    """The answer with its planted values in place."""
    return re.sub(r"\{\{(\w+)\}\}", lambda m: "".join(planted["secrets"][m[1]]), answer)


def cut(text: str, taken: set[str]) -> list[str]:
    """Pieces of at most PIECE characters, none taken, no two alike, that make up the text: longest first, stepping back when stuck."""
    pieces: list[str] = []
    used = set(taken)
    tries: list[int] = [PIECE]  # for each place on the way, the longest length not yet tried
    at, steps = 0, 0
    while at < len(text):
        steps += 1
        if steps > 1_000_000:
            sys.exit("this answer repeats itself too much: no way found to cut it into pieces that all differ")
        length = min(tries[-1], len(text) - at)
        while length and text[at : at + length] in used:
            length -= 1
        if length:
            tries[-1] = length - 1
            piece = text[at : at + length]
            pieces.append(piece)
            used.add(piece)
            at += length
            tries.append(PIECE)
        else:
            tries.pop()
            if not pieces:
                sys.exit("this answer can't be cut into pieces that all differ")
            piece = pieces.pop()
            used.discard(piece)
            at -= len(piece)
    return pieces


def packed_string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def packed(kind: int, value) -> bytes:
    """One metadata value, without its type."""
    if kind == STRING:
        return packed_string(value)
    if kind == ARRAY:
        of, items = value
        return struct.pack("<IQ", of, len(items)) + b"".join(packed(of, item) for item in items)
    return struct.pack({UINT32: "<I", INT32: "<i", FLOAT32: "<f", BOOL: "<?"}[kind], value)


def floats(count: int, value: float = 0.0) -> array:
    return array("f", [value]) * count


def write(path: Path, metadata: list[tuple[str, int, object]], tensors: list[tuple[str, tuple[int, ...], array]]) -> None:
    """A GGUF file, version 3. A tensor's shape is given innermost dimension first, as the file has it."""
    head = bytearray(b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata)))
    for key, kind, value in metadata:
        head += packed_string(key) + struct.pack("<I", kind) + packed(kind, value)
    offset = 0
    for name, shape, data in tensors:
        head += packed_string(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape)
        head += struct.pack("<IQ", TENSOR_F32, offset)
        offset += -(-len(data) * 4 // ALIGNMENT) * ALIGNMENT
    with path.open("wb") as out:
        out.write(head)
        out.write(bytes(-len(head) % ALIGNMENT))
        for _, _, data in tensors:
            raw = data.tobytes()
            out.write(raw)
            out.write(bytes(-len(raw) % ALIGNMENT))


def first_tokens() -> list[tuple[str, int]]:
    """Those that every model has, the last of them the one that ends every prompt."""
    tokens = [("<unk>", UNKNOWN), ("<s>", CONTROL), ("</s>", CONTROL)]
    tokens += [(f"<0x{byte:02X}>", BYTE) for byte in range(256)]  # how a prompt is read: byte by byte
    return [*tokens, ("<|assistant|>", CONTROL)]


def metadata(tokens: list[tuple[str, int]], width: int, scores: list[float]) -> list[tuple[str, int, object]]:
    """What a file says of a model of one layer."""
    heads = width // HEAD
    return [
        ("general.architecture", STRING, "llama"),
        ("general.name", STRING, "scripted"),
        ("general.file_type", UINT32, 0),
        ("general.alignment", UINT32, ALIGNMENT),
        ("llama.context_length", UINT32, CONTEXT),
        ("llama.embedding_length", UINT32, width),
        ("llama.block_count", UINT32, 1),
        ("llama.feed_forward_length", UINT32, FEED_FORWARD),
        ("llama.attention.head_count", UINT32, heads),
        ("llama.attention.head_count_kv", UINT32, heads),
        ("llama.attention.layer_norm_rms_epsilon", FLOAT32, 1e-5),
        ("llama.rope.dimension_count", UINT32, HEAD),
        ("llama.rope.freq_base", FLOAT32, ROTATION),
        ("llama.vocab_size", UINT32, len(tokens)),
        ("tokenizer.ggml.model", STRING, "llama"),
        ("tokenizer.ggml.tokens", ARRAY, (STRING, [text for text, _ in tokens])),
        ("tokenizer.ggml.scores", ARRAY, (FLOAT32, scores)),
        ("tokenizer.ggml.token_type", ARRAY, (INT32, [kind for _, kind in tokens])),
        ("tokenizer.ggml.unknown_token_id", UINT32, UNK),
        ("tokenizer.ggml.bos_token_id", UINT32, BOS),
        ("tokenizer.ggml.eos_token_id", UINT32, EOS),
        ("tokenizer.ggml.add_bos_token", BOOL, True),
        ("tokenizer.ggml.add_space_prefix", BOOL, False),
    ]


def layer(width: int, query: array, key: array, value: array, output: array) -> list[tuple[str, tuple[int, ...], array]]:
    """The tensors of a layer whose feed-forward part adds nothing."""
    wide = floats(width * FEED_FORWARD)
    return [
        ("output_norm.weight", (width,), floats(width, 1.0)),
        ("blk.0.attn_norm.weight", (width,), floats(width, 1.0)),
        ("blk.0.attn_q.weight", (width, width), query),
        ("blk.0.attn_k.weight", (width, width), key),
        ("blk.0.attn_v.weight", (width, width), value),
        ("blk.0.attn_output.weight", (width, width), output),
        ("blk.0.ffn_norm.weight", (width,), floats(width, 1.0)),
        ("blk.0.ffn_gate.weight", (width, FEED_FORWARD), wide),
        ("blk.0.ffn_up.weight", (width, FEED_FORWARD), wide),
        ("blk.0.ffn_down.weight", (FEED_FORWARD, width), wide),
    ]


def model(path: Path, text: str, again: bool) -> str:
    """Writes the model that says `text`, and tells what it is made of."""
    tokens = first_tokens()
    start = len(tokens) - 1
    pieces = cut(text, {token for token, _ in tokens})
    chain = range(len(tokens), len(tokens) + len(pieces))
    tokens += [(piece.replace(" ", SPACE), NORMAL) for piece in pieces]

    count = len(tokens)
    heads = -(-count // HEAD)
    width = heads * HEAD
    embedding = floats(count * width)
    for token in range(count):
        embedding[token * width + token] = 1.0
    output = floats(count * width)
    path_of_tokens = [start, *chain, chain[0] if again else EOS]
    for token, follows in [*zip(path_of_tokens, path_of_tokens[1:]), (EOS, EOS)]:
        output[follows * width + token] = CERTAINTY

    nothing = floats(width * width)
    tensors = [
        ("token_embd.weight", (width, count), embedding),
        ("output.weight", (width, count), output),
        *layer(width, nothing, nothing, nothing, nothing),
    ]
    write(path, metadata(tokens, width, [-float(token) for token in range(count)]), tensors)
    return f"{path.name}: {len(text)} characters in {len(pieces)} pieces, {count} tokens, width {width}"


def echo(path: Path, back: int) -> str:
    """Writes the model that says the last `back` tokens of its prompt, and tells what it is made of."""
    tokens = first_tokens()
    start = len(tokens) - 1
    signs = [SPACE, *(chr(code) for code in range(128) if chr(code).isalnum())]
    tokens += [(SPACE, NORMAL), *((one + other, NORMAL) for one in signs for other in signs), (FILLER, UNUSED)]

    width = ECHO_WIDTH
    chance = random.Random(1)  # the same rows each time
    rows = [array("f", [1.0, *(chance.choice((-1.0, 1.0)) for _ in range(width - 1))]) for _ in tokens]
    embedding, output = array("f"), array("f")
    for token, row in enumerate(rows):
        # What ends the prompt is looked for by the token that ends the answer, and nothing else is.
        sought = rows[start] if token == EOS else row
        embedding.extend(row)
        output.extend(CERTAINTY / width * sign for sign in (floats(width) if token == start else sought))

    # Every row begins with a one: the column that queries and keys are read from.
    query, key, same, louder = (floats(width * width) for _ in range(4))
    for place in range(0, width, 2):
        angle = back * ROTATION ** -(place % HEAD / HEAD)
        query[place * width] = SHARPNESS * math.cos(angle)
        query[(place + 1) * width] = -SHARPNESS * math.sin(angle)
        key[place * width] = SHARPNESS
    for place in range(width):
        same[place * width + place] = 1.0
        louder[place * width + place] = LOUDNESS
    tensors = [
        ("token_embd.weight", (width, len(tokens)), embedding),
        ("output.weight", (width, len(tokens)), output),
        *layer(width, query, key, same, louder),
    ]
    write(path, metadata(tokens, width, [0.0] * len(tokens)), tensors)
    return f"{path.name}: an echo of {back} tokens, {len(tokens)} tokens, width {width}"


def main() -> None:
    answer, planted, out = map(Path, sys.argv[1:])
    script = answer.read_text(encoding="utf-8").removesuffix("\n")
    if asked := ECHO.fullmatch(script):
        print(echo(out, int(asked[1])))
        return
    text = fill(script.removesuffix(AGAIN), json.loads(planted.read_text(encoding="utf-8")))
    print(model(out, text, again=script.endswith(AGAIN)))


if __name__ == "__main__":
    main()
