"""The protocols as the official Python clients of OpenAI and Anthropic meet them.

Run by `tests/it/clients.rs` with the address of a server and the name of its model: one function a claim, a line
of output for each that holds, the first that does not ends the program.
"""

import base64
import json
import struct
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import anthropic
import openai
from pydantic import BaseModel

BASE, MODEL = sys.argv[1], sys.argv[2]
SPELL = [{"role": "user", "content": "Count from one to ten in words."}]
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 20}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}

client = openai.OpenAI(base_url=BASE + "/v1", api_key="none", max_retries=0, timeout=120)
claude = anthropic.Anthropic(base_url=BASE, api_key="none", max_retries=0, timeout=120)


def metric(name):
    text = urllib.request.urlopen(BASE + "/metrics").read().decode()
    lines = [line for line in text.splitlines() if line.startswith(name + "{")]
    # A slot that does not say what it has counted at once is left out of the page.
    if not lines:
        return float("nan")
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


def fails(kind, call):
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


def models():
    listed = client.models.list().data
    assert [model.id for model in listed] == [MODEL], listed
    assert client.models.retrieve(MODEL).id == MODEL


def chat():
    answer = client.chat.completions.create(model=MODEL, messages=SPELL, temperature=0, max_tokens=24)
    choice = answer.choices[0]
    assert choice.message.role == "assistant" and len(choice.message.content) > 5, answer
    assert choice.finish_reason in ("stop", "length")
    usage = answer.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    again = client.chat.completions.create(model=MODEL, messages=SPELL, temperature=0, max_tokens=24)
    assert again.choices[0].message.content == choice.message.content
    assert again.usage.prompt_tokens_details.cached_tokens > 0, again.usage
    assert again.id != answer.id


def chat_stream():
    whole = client.chat.completions.create(model=MODEL, messages=SPELL, temperature=0, max_tokens=24)
    stream = client.chat.completions.create(
        model=MODEL, messages=SPELL, temperature=0, max_tokens=24, stream=True, stream_options={"include_usage": True}
    )
    text, usage, reasons = "", None, []
    for chunk in stream:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            text += choice.delta.content or ""
            reasons += [choice.finish_reason] if choice.finish_reason else []
    assert text == whole.choices[0].message.content, (text, whole)
    assert usage.completion_tokens == whole.usage.completion_tokens
    assert len(reasons) == 1


def seeds_and_choices():
    def ask(seed):
        answer = client.chat.completions.create(
            model=MODEL, messages=SPELL, temperature=1.2, top_p=0.95, seed=seed, n=3, max_tokens=16,
            frequency_penalty=0.2, presence_penalty=0.1, extra_body={"top_k": 50, "min_p": 0.01},
        )
        return [choice.message.content for choice in answer.choices]

    first = ask(7)
    assert len(first) == 3 and ask(7) == first, first
    assert len(set(first + ask(8))) > 1, first


def stop_and_bias():
    answer = client.chat.completions.create(model=MODEL, messages=SPELL, temperature=0, max_tokens=40)
    word = answer.choices[0].message.content.split()[2]
    cut = client.chat.completions.create(model=MODEL, messages=SPELL, temperature=0, max_tokens=40, stop=[word])
    assert word not in cut.choices[0].message.content and cut.choices[0].finish_reason == "stop"
    token = post("/tokenize", {"prompt": "Hello", "add_special_tokens": False})["tokens"][0]
    forced = client.chat.completions.create(
        model=MODEL, messages=SPELL, temperature=0, max_tokens=3, logit_bias={str(token): 100}
    )
    assert "Hello" in forced.choices[0].message.content, forced


def logprobs():
    answer = client.chat.completions.create(
        model=MODEL, messages=SPELL, temperature=0, max_tokens=8, logprobs=True, top_logprobs=4
    )
    content = answer.choices[0].logprobs.content
    assert "".join(token.token for token in content) == answer.choices[0].message.content
    for token in content:
        assert token.logprob <= 0 and len(token.top_logprobs) == 4
        # Greedy: what was chosen is the likeliest.
        assert token.top_logprobs[0].token == token.token
        assert bytes(token.bytes).decode(errors="replace") == token.token


def json_schema():
    class Person(BaseModel):
        name: str
        age: int

    # A small model writes endless names; the schema's own limits end them.
    schema = Person.model_json_schema()
    schema["properties"]["name"]["maxLength"] = 12
    schema["properties"]["age"].update(minimum=0, maximum=120)
    schema["additionalProperties"] = False
    answer = client.chat.completions.create(
        model=MODEL, temperature=0, max_tokens=100,
        messages=[{"role": "user", "content": "Describe a person named Ada as JSON."}],
        response_format={"type": "json_schema", "json_schema": {"name": "person", "schema": schema, "strict": True}},
    )
    Person.model_validate_json(answer.choices[0].message.content)
    guided = client.chat.completions.create(
        model=MODEL, messages=SPELL, temperature=0, extra_body={"guided_choice": ["red", "green"]}
    )
    assert guided.choices[0].message.content in ("red", "green")
    guided = client.chat.completions.create(
        model=MODEL, messages=SPELL, temperature=0, extra_body={"guided_regex": "[a-c]{3}-[0-9]{2}"}
    )
    text = guided.choices[0].message.content
    assert text[3] == "-" and text[4:].isdigit() and len(text) == 6, text


def tools():
    messages = [{"role": "user", "content": "What is the weather in Paris?"}]
    answer = client.chat.completions.create(
        model=MODEL, messages=messages, tools=[TOOL], tool_choice="required", temperature=0, max_tokens=100
    )
    call = answer.choices[0].message.tool_calls[0]
    assert answer.choices[0].finish_reason == "tool_calls"
    assert call.function.name == "get_weather" and "city" in json.loads(call.function.arguments)
    stream = client.chat.completions.create(
        model=MODEL, messages=messages, tools=[TOOL], temperature=0, max_tokens=100, stream=True,
        tool_choice={"type": "function", "function": {"name": "get_weather"}},
    )
    name, arguments = "", ""
    for chunk in stream:
        for delta in chunk.choices[0].delta.tool_calls or []:
            name += delta.function.name or ""
            arguments += delta.function.arguments or ""
    assert name == "get_weather" and json.loads(arguments) == json.loads(call.function.arguments), arguments
    messages += [
        answer.choices[0].message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": "21 degrees, sunny"},
    ]
    told = client.chat.completions.create(model=MODEL, messages=messages, tools=[TOOL], temperature=0, max_tokens=30)
    assert told.choices[0].message.content is not None or told.choices[0].message.tool_calls


def completions():
    answer = client.completions.create(
        model=MODEL, prompt=["The capital of France is", "Two plus two is"], temperature=0, max_tokens=6, logprobs=2,
        echo=True,
    )
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert answer.choices[0].text.startswith("The capital of France is")
    first = answer.choices[0].logprobs
    assert first.token_logprobs[0] is None and first.token_logprobs[1] < 0
    assert len(first.tokens) == len(first.text_offset) == len(first.top_logprobs)
    assert "".join(first.tokens) == answer.choices[0].text
    tokens = post("/tokenize", {"prompt": "The capital of France is"})["tokens"]
    by_tokens = client.completions.create(model=MODEL, prompt=tokens, temperature=0, max_tokens=6)
    assert "The capital of France is" + by_tokens.choices[0].text == answer.choices[0].text


def embeddings():
    # Through the client, which asks for base64 and decodes it.
    vectors = client.embeddings.create(model=MODEL, input=["A cat sits on a mat.", "A dog runs."]).data
    assert abs(sum(x * x for x in vectors[0].embedding) - 1) < 1e-3
    plain = post("/v1/embeddings", {"model": MODEL, "input": "A cat sits on a mat.", "encoding_format": "float"})
    coded = post("/v1/embeddings", {"model": MODEL, "input": "A cat sits on a mat.", "encoding_format": "base64"})
    raw = base64.b64decode(coded["data"][0]["embedding"])
    numbers = struct.unpack(f"<{len(raw) // 4}f", raw)
    assert max(abs(a - b) for a, b in zip(numbers, plain["data"][0]["embedding"])) < 1e-6


def responses():
    answer = client.responses.create(model=MODEL, input="Count to three.", temperature=0, max_output_tokens=64)
    assert answer.status in ("completed", "incomplete") and answer.output_text, answer
    events = list(
        client.responses.create(model=MODEL, input="Count to three.", temperature=0, max_output_tokens=64, stream=True)
    )
    kinds = [event.type for event in events]
    assert kinds[0] == "response.created" and kinds[-1] == "response." + answer.status, kinds
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == answer.output_text
    called = client.responses.create(
        model=MODEL, input="What is the weather in Paris?", temperature=0, tool_choice="required",
        tools=[{"type": "function", **TOOL["function"], "strict": True}], max_output_tokens=100,
    )
    assert called.output[0].type == "function_call" and json.loads(called.output[0].arguments)
    error = fails(
        openai.BadRequestError, lambda: client.responses.create(model=MODEL, input="x", previous_response_id="resp_1")
    )
    assert error.param == "previous_response_id"


def messages():
    answer = claude.messages.create(model=MODEL, max_tokens=24, messages=SPELL, extra_body={"temperature": 0})
    assert answer.content[0].type == "text" and answer.stop_reason in ("end_turn", "max_tokens")
    text, final = "", None
    with claude.messages.stream(
        model=MODEL, max_tokens=24, messages=SPELL, system="Be brief.", extra_body={"temperature": 0}
    ) as stream:
        for piece in stream.text_stream:
            text += piece
        final = stream.get_final_message()
    assert final.content[0].text == text and final.usage.output_tokens > 0
    used = claude.messages.create(
        model=MODEL, max_tokens=100, messages=[{"role": "user", "content": "What is the weather in Paris?"}],
        extra_body={"temperature": 0},
        tools=[{"name": "get_weather", "description": "The weather", "input_schema": TOOL["function"]["parameters"]}],
        tool_choice={"type": "tool", "name": "get_weather"},
    )
    assert used.stop_reason == "tool_use" and "city" in used.content[0].input, used
    counted = claude.messages.count_tokens(model=MODEL, messages=SPELL)
    usage = claude.messages.create(model=MODEL, max_tokens=1, messages=SPELL).usage
    assert counted.input_tokens == usage.input_tokens + usage.cache_read_input_tokens


def errors():
    error = fails(
        openai.NotFoundError, lambda: client.chat.completions.create(model="no-such-model", messages=SPELL)
    )
    assert error.status_code == 404, error
    error = fails(
        openai.BadRequestError,
        lambda: client.chat.completions.create(model=MODEL, messages=SPELL, temperature=99),
    )
    assert error.param == "temperature", error
    error = fails(
        openai.BadRequestError,
        lambda: client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]
        ),
    )
    assert error.param == "messages[0].content[0].type", error
    error = fails(
        openai.BadRequestError,
        lambda: client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "word " * 20000}]),
    )
    assert "context" in error.message, error
    fails(anthropic.NotFoundError, lambda: claude.messages.create(model="none", max_tokens=5, messages=SPELL))
    fails(
        anthropic.BadRequestError,
        lambda: claude.messages.create(model=MODEL, max_tokens=5, messages=SPELL, extra_body={"frobnicate": 1}),
    )


def leaving_frees_the_model():
    stream = client.chat.completions.create(
        model=MODEL, messages=SPELL, stream=True, temperature=1, extra_body={"ignore_eos": True}
    )
    for number, _ in enumerate(stream):
        if number == 3:
            break
    until(lambda: metric("bms_llm_requests_running") == 1)
    stream.close()
    until(lambda: metric("bms_llm_requests_running") == 0)


def a_full_queue_is_429():
    def ask(_):
        try:
            return client.chat.completions.create(
                model=MODEL, messages=SPELL, stream=True, extra_body={"ignore_eos": True}
            )
        except openai.RateLimitError as error:
            return error

    # All at once: whose turn has not come hears nothing for some seconds.
    with ThreadPoolExecutor(40) as pool:
        asked = list(pool.map(ask, range(40)))
    refused = [answer for answer in asked if isinstance(answer, openai.RateLimitError)]
    assert refused, "the queue never filled"
    for error in refused:
        assert int(error.response.headers["retry-after"]) >= 1
    for answer in asked:
        if answer not in refused:
            answer.close()
    until(lambda: metric("bms_llm_requests_running") + metric("bms_llm_requests_waiting") == 0)
    until(lambda: not refuses(chat))


def metrics():
    for name in ("prompt_tokens_total", "generation_tokens_total", "prefix_cache_queried_tokens_total"):
        assert metric("bms_llm_" + name) > 0, name
    for name in ("time_to_first_token_seconds", "inter_token_latency_seconds", "e2e_request_latency_seconds"):
        assert metric(f"bms_llm_{name}_count") > 0, name


def post(path, body):
    request = urllib.request.Request(
        BASE + path, data=json.dumps({"model": MODEL, **body}).encode(), headers={"content-type": "application/json"}
    )
    return json.load(urllib.request.urlopen(request))


def refuses(ask):
    try:
        ask()
    except openai.RateLimitError:
        return True
    return False


def until(holds):
    for _ in range(200):
        if holds():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come about")


CLAIMS = [
    models, chat, chat_stream, seeds_and_choices, stop_and_bias, logprobs, json_schema, tools, completions, embeddings,
    responses, messages, errors, leaving_frees_the_model, a_full_queue_is_429, metrics,
]
for claim in CLAIMS:
    began = time.monotonic()
    claim()
    print(f"{claim.__name__}: {time.monotonic() - began:.1f} s", flush=True)
