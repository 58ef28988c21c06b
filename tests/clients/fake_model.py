"""A small server of OpenAI's API, in this process: no answer is given twice, so that one from memory can be told.

Of the model `words`, texts that share words have near vectors."""
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Model(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.say({"object": "list", "data": [{"id": "m", "object": "model", "created": 1, "owned_by": "tests"}]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.asked.append((self.path, body, self.headers))
        n = len(self.server.asked)
        if body["model"] == "fails":
            return self.say({"error": {"message": "overloaded", "type": "server_error", "code": "x"}}, 503)
        if self.path.endswith("/embeddings"):
            texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
            rows = [of_words(text) for text in texts] if body["model"] == "words" else [[n, 0.5]]
            data = [{"object": "embedding", "index": i, "embedding": row} for i, row in enumerate(rows)]
            return self.say({"object": "list", "model": "m", "data": data, "usage": {"prompt_tokens": 1, "total_tokens": 1}})
        if self.path.endswith("/responses"):
            return self.respond(body, n)
        words = [f"answer {n}", " is", " Paris."]
        if body.get("stream"):
            return self.stream(self.chunks(body, n, words))
        message = {"role": "assistant", "content": "".join(words)}
        if body.get("tools") and "weather" in body["messages"][-1]["content"]:
            function = {"name": "weather", "arguments": json.dumps({"n": n})}
            message = {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "type": "function", "function": function}]}
        finish = "tool_calls" if "tool_calls" in message else "stop"
        self.say({"id": f"chatcmpl-{n}", "object": "chat.completion", "created": 1, "model": body["model"],
                  "choices": [{"index": 0, "finish_reason": finish, "message": message}], "usage": usage()})

    def chunks(self, body, n, words):
        def chunk(delta, finish=None):
            return {"id": f"chatcmpl-{n}", "object": "chat.completion.chunk", "created": 1, "model": body["model"],
                    "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}

        yield chunk({"role": "assistant", "content": ""})
        for word in words:
            yield chunk({"content": word})
        yield chunk({}, "stop")
        if body.get("stream_options", {}).get("include_usage"):
            yield chunk({}) | {"choices": [], "usage": usage()}

    def respond(self, body, n):
        text = f"answer {n} is Paris."
        item = {"type": "message", "id": f"msg_{n}", "role": "assistant", "status": "completed",
                "content": [{"type": "output_text", "text": text, "annotations": []}]}
        whole = {"id": f"resp_{n}", "object": "response", "created_at": 1, "status": "completed", "model": body["model"],
                 "output": [item], "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
                 "usage": {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}}
        if not body.get("stream"):
            return self.say(whole)
        begun = whole | {"status": "in_progress", "output": []}
        of = {"item_id": item["id"], "output_index": 0, "content_index": 0}
        self.stream([
            {"type": "response.created", "response": begun, "sequence_number": 0},
            {"type": "response.output_item.added", "output_index": 0, "item": item | {"content": []}, "sequence_number": 1},
            {"type": "response.content_part.added", **of, "part": item["content"][0] | {"text": ""}, "sequence_number": 2},
            {"type": "response.output_text.delta", **of, "delta": text, "logprobs": [], "sequence_number": 3},
            {"type": "response.output_text.done", **of, "text": text, "logprobs": [], "sequence_number": 4},
            {"type": "response.content_part.done", **of, "part": item["content"][0], "sequence_number": 5},
            {"type": "response.output_item.done", "output_index": 0, "item": item, "sequence_number": 6},
            {"type": "response.completed", "response": whole, "sequence_number": 7},
        ], done=False)

    def stream(self, events, done=True):
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        texts = [f"data: {json.dumps(event)}\n\n" for event in events]
        try:
            for text in texts + (["data: [DONE]\n\n"] if done else []):
                self.wfile.write(f"{len(text.encode()):x}\r\n{text}\r\n".encode())
            self.wfile.write(b"0\r\n\r\n")
        except BrokenPipeError:
            # The client left, as one of the checks does.
            self.close_connection = True

    def say(self, answer, status=200):
        text = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


WORDS_DIM = 64


def of_words(text):
    row = [0.0] * WORDS_DIM
    for word in text.lower().split():
        row[hashlib.sha256(word.encode()).digest()[0] % WORDS_DIM] += 1.0
    return row


def usage():
    return {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}


class Server(ThreadingHTTPServer):
    """What it was asked is in `asked`: path, body, headers."""

    daemon_threads = True

    def __init__(self, port=0):
        super().__init__(("127.0.0.1", port), Model)
        self.asked = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"
