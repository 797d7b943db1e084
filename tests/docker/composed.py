"""docker/compose.yaml as Compose reads it: variables replaced, and each service as a command that can be run here."""

import os
import re
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker" / "compose.yaml"
VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")


def read_compose(**variables):
    """The document with ${NAME:-default} replaced as Compose does it."""

    def value(match):
        return variables.get(match[1]) or match[2] or ""

    def replaced(node):
        if isinstance(node, dict):
            return {key: replaced(item) for key, item in node.items()}
        if isinstance(node, list):
            return [replaced(item) for item in node]
        return VARIABLE.sub(value, node) if isinstance(node, str) else node

    return replaced(yaml.safe_load(FILE.read_text()))


class Services:
    """Runs services' commands outside of containers, in `folder` for /hpsearch, with `secrets` for /run/secrets."""

    def __init__(self, folder, secrets, database):
        self.folder, self.secrets, self.database = folder, secrets, database
        (folder / "secrets").mkdir()
        for name, content in secrets.items():
            (folder / "secrets" / name).write_text(content + "\n")

    def command(self, service, *arguments, **variables):
        """The words and the environment of a service; `arguments` replace its command, as `run` does."""
        described = read_compose(**variables)["services"][service]
        words = list(arguments) or [str(word) for word in described["command"]]
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("HPSEARCH_", "PG"))}
        environment |= {name: self.here(str(text), described) for name, text in described["environment"].items()}
        environment["OMP_NUM_THREADS"] = "1"
        return [sys.executable, "-m", "hpsearch", *words], environment

    def here(self, text, described):
        """What stands for a value outside of the containers: our server, and secrets that the service has for files."""
        if text.startswith("/run/secrets/"):
            name = text.removeprefix("/run/secrets/")
            assert name in described["secrets"]
            return str(self.folder / "secrets" / name)
        host = read_compose()["services"]["postgres"]["environment"]
        return text.replace(f"@postgres/{host['POSTGRES_DB']}", self.database)
