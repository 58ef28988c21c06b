"""Runs the functions of a suite one after another, and counts them."""
import asyncio
import inspect
import sys
import traceback


def run(name, functions):
    """Runs all functions called `check_*` with the URL of the server, in the order in which they are written."""
    url, passed, failed = sys.argv[1], 0, 0
    for title, function in functions.items():
        if not title.startswith("check_"):
            continue
        try:
            made = function(url)
            if inspect.iscoroutine(made):
                asyncio.run(made)
            passed += 1
        except Exception:
            failed += 1
            lines = traceback.format_exc().splitlines()
            # The suite's own lines, and what went wrong.
            own = [line for line in lines if sys.argv[0] in line]
            print("\n".join([f"{name}: {title} failed", *own, *lines[-3:]]))
    print(f"{name}: {passed} passed, {failed} failed")
    sys.exit(1 if failed or not passed else 0)


def refused(function, status, words):
    """The call is refused with this status and a message that has these words."""
    try:
        answer = function()
    except Exception as error:
        received = (getattr(error, "status_code", None), str(error))
        assert received[0] == status and words in received[1], f"expected {status} {words!r}, received {received}"
        return
    raise AssertionError(f"expected {status} {words!r}, received {answer}")
