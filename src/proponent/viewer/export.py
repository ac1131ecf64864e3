"""The page with its result files in one HTML file, which opens from disk and loads nothing else."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from importlib.resources import files as resources
from pathlib import Path

from proponent.files import written_whole
from proponent.viewer.results import ResultFile

MAIN = "main.js"
STYLESHEET = re.compile(r'<link rel="stylesheet" href="([\w.-]+)">\n')
SCRIPT = f'<script type="module" src="{MAIN}"></script>'
CHARSET = '<meta charset="utf-8">'
IMPORT = re.compile(r'^import \{([^}]+)\} from "\./([\w.-]+)";\n', re.MULTILINE)
EXPORT = re.compile(r"^export (?=(?:async )?(?:function\*?|const|class) (\w+))", re.MULTILINE)
POLICY = (
    "default-src 'none'; script-src {script}; style-src {style}; img-src data:; base-uri 'none'; "
    "form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)


def export_page(files: Sequence[ResultFile], output: Path) -> None:
    """Write the page with these files inside it as data; its content policy lets only its own script run.

    Raises InputError, naming file and line, for a line that is no result.
    """
    before, after = _page().split("</body>", 1)
    # a lone surrogate, which JSON can hold and UTF-8 cannot, is written as JSON's own escape of it
    with (
        written_whole(output) as aside,
        open(aside, "w", encoding="utf-8", errors="backslashreplace", newline="\n") as page,
    ):
        page.write(f'{before}<script type="application/json" id="data">')
        page.writelines(part.replace("<", "\\u003c") for part in _data(files))
        page.write(f"</script>\n</body>{after}")


def _data(files: Sequence[ResultFile]) -> Iterator[str]:
    """A JSON list of the files, in which `<` only occurs inside strings: escaped, it ends no element."""
    for place, file in enumerate(files):
        yield f'{"," if place else "["}\n{{"name":{json.dumps(file.name)},"lines":[\n'
        for number, line in enumerate(file.lines()):
            yield f"{',' if number else ''}{line}\n"
        yield "]}"
    yield "]\n" if files else "[]\n"


def _page() -> str:
    """The page with its styles and its modules inside, and a policy that names them by their hashes."""
    page = _read("index.html")
    style = "".join(_read(name) for name in STYLESHEET.findall(page))
    modules: dict[str, str] = {}
    _add_module(MAIN, modules)
    script = "".join(modules.values())
    policy = POLICY.format(script=_hash(script), style=_hash(style))
    page = STYLESHEET.sub("", page)
    page = page.replace(CHARSET, f'{CHARSET}\n<meta http-equiv="Content-Security-Policy" content="{policy}">')
    return page.replace(SCRIPT, f'<style>{style}</style>\n<script type="module">{script}</script>')


def _read(name: str) -> str:
    return (resources("proponent.viewer") / "page" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"


def _add_module(name: str, done: dict[str, str]) -> None:
    """Add a module as a function of its own, after those it imports."""
    source = _read(name)
    for _, needed in IMPORT.findall(source):
        if needed not in done:
            _add_module(needed, done)
    names = ", ".join(EXPORT.findall(source))
    body = EXPORT.sub("", IMPORT.sub(_as_constant, source))
    done[name] = f"const {_identifier(name)} = (() => {{\n{body}return {{ {names} }};\n}})();\n"


def _as_constant(match: re.Match[str]) -> str:
    names = re.sub(r"\s+as\s+", ": ", match[1].strip())
    return f"const {{ {names} }} = {_identifier(match[2])};\n"


def _identifier(name: str) -> str:
    return "module_" + re.sub(r"\W", "_", name)
