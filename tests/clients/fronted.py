"""A server of nearkin before the model of the tests, for the suites of its cache."""
import os
import re
import subprocess
import tempfile

from fake_model import Server

MODEL = Server()


def served(policy=""):
    """The URL of a new server, which ends with this process."""
    folder = tempfile.TemporaryDirectory()
    arguments = [os.environ.get("NEARKIN", "target/debug/nearkin"), "serve", "--data", f"{folder.name}/data", "--bind", "127.0.0.1:0",
                 "--upstream", MODEL.url]
    if policy:
        with open(f"{folder.name}/policy.toml", "w") as file:
            file.write(policy)
        arguments += ["--cache-policy", file.name]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    url = re.fullmatch(r"listening at (\S+)\n", process.stdout.readline())[1]
    KEPT.append((process, folder))
    return url


KEPT = []


def end():
    """Ends all servers of this process."""
    for process, folder in KEPT:
        process.terminate()
        process.wait()
        folder.cleanup()
