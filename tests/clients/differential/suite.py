"""Asks the server and the local mode the same, and counts what agrees."""
import json
from collections import Counter
from copy import deepcopy

from pydantic import BaseModel
from qdrant_client.http.exceptions import UnexpectedResponse

SHOWN = 2_000


def plain(value):
    """A request or an answer in JSON."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True, exclude_none=True)
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items() if each is not None}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    return value


def text(value):
    return json.dumps(plain(value), ensure_ascii=False, default=str)


class Refused(Exception):
    """What a side says instead of an answer."""


def outcome(client, method, args):
    """The answer or a Refused. An error of the server that is not the request's fault is raised."""
    try:
        return getattr(client, method)(**deepcopy(args))
    except UnexpectedResponse as error:
        if not 400 <= error.status_code < 500:
            raise
        return Refused(f"{error.status_code} {error.content.decode()}")
    except (ValueError, KeyError, AssertionError, TypeError, IndexError, AttributeError) as error:
        return Refused(f"{type(error).__name__}: {error}")


class Suite:
    """The two sides, and how many requests of each kind agreed and did not."""

    def __init__(self, server, local, most_shown=20):
        self.server, self.local, self.most_shown = server, local, most_shown
        self.agreed, self.mismatched = Counter(), Counter()

    def ask(self, kind, method, args, check, reference=None):
        """`check` names the first difference of two answers, or gives None. `reference` are other arguments for the local mode."""
        theirs = outcome(self.local, method, args if reference is None else reference)
        try:
            ours = outcome(self.server, method, args)
        except UnexpectedResponse as error:
            return self.mismatch(kind, method, args, "an error of the server", error, theirs)
        refused = isinstance(ours, Refused), isinstance(theirs, Refused)
        if any(refused):
            problem = None if all(refused) else "one side refuses"
            kind = f"{kind}, refused by both" if all(refused) else kind
        else:
            problem = check(ours, theirs)
        if problem is None:
            self.agreed[kind] += 1
        else:
            self.mismatch(kind, method, args, problem, ours, theirs)

    def mismatch(self, kind, method, args, problem, ours, theirs):
        self.mismatched[kind] += 1
        if sum(self.mismatched.values()) <= self.most_shown:
            print(f"MISMATCH in {kind}: {problem[:SHOWN]}\n  {method} {text(args)[:SHOWN]}")
            for name, answer in (("ours", ours), ("theirs", theirs)):
                shown = str(answer) if isinstance(answer, Exception) else text(answer)
                print(f"  {name}: {shown[:SHOWN]}")

    def whole(self, method, args, **wider):
        """The local mode's list without a limit."""
        return getattr(self.local, method)(**deepcopy({**args, **wider}))

    def report(self):
        for kind in sorted(self.agreed | self.mismatched):
            wrong = f", {self.mismatched[kind]} do not" if self.mismatched[kind] else ""
            print(f"  {kind}: {self.agreed[kind]} agree{wrong}")
        print(f"differential: {sum(self.agreed.values())} passed, {sum(self.mismatched.values())} failed")
