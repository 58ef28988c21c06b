#!/usr/bin/env python3
"""Makes datasets/fixtures: the corpus that the README's main job reads, its manifest and its licences.

  python3 datasets/make_fixtures.py [--packages DIR]

Needs cargo, apt-get, dpkg-deb and `pip install pyarrow==26.0.1`. The packages are fetched by name and
version through cargo and apt-get; a Debian package that its archive no longer offers is taken from DIR.
The same packages and the same pyarrow give the same bytes.
"""

import argparse
import gzip
import hashlib
import html.parser
import json
import re
import shutil
import subprocess
import tempfile
import tomllib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

FIXTURES = Path(__file__).resolve().parent / "fixtures"

# Several versions of one crate, and crates that share a README, bring natural repeats.
CRATES = {
    "anyhow": "1.0.90 1.0.98 1.0.102 1.0.105",
    "base64": "0.21.7 0.22.1 0.23.1",
    "bitflags": "2.9.4 2.11.0 2.13.2",
    "cfg-if": "1.0.0 1.0.3 1.0.5",
    "clap_lex": "0.7.7 1.0.0 1.1.2",
    "crossbeam-deque": "0.8.5 0.8.6 0.8.8",
    "crossbeam-epoch": "0.9.18 0.9.21",
    "crossbeam-utils": "0.8.20 0.8.23",
    "either": "1.13.0 1.15.0 1.19.0",
    "equivalent": "1.0.1 1.0.3",
    "fastrand": "2.1.1 2.3.0 2.5.0",
    "hashbrown": "0.15.5 0.16.1 0.17.2",
    "heck": "0.4.1 0.5.0",
    "icu_normalizer": "2.1.1 2.2.0",
    "indexmap": "2.11.4 2.13.0 2.14.2",
    "itoa": "1.0.14 1.0.17 1.0.19",
    "lexical-core": "1.0.5 1.0.6",
    "lexical-parse-integer": "1.0.5 1.0.6",
    "lexical-util": "1.0.6 1.0.7",
    "log": "0.4.28 0.4.31 0.4.35",
    "memchr": "2.7.4 2.8.3",
    "munge": "0.4.7",
    "munge_macro": "0.4.7",
    "once_cell": "1.20.3 1.21.0 1.21.4",
    "proc-macro2": "1.0.95 1.0.103 1.0.107",
    "quote": "1.0.40 1.0.44 1.0.47",
    "rayon-core": "1.11.0 1.12.1 1.13.0",
    "same-file": "1.0.4 1.0.6",
    "scopeguard": "1.1.0 1.2.0",
    "semver": "1.0.23 1.0.26 1.0.28",
    "serde": "1.0.219 1.0.228 1.0.229",
    "serde_core": "1.0.228 1.0.229",
    "serde_derive": "1.0.219 1.0.228 1.0.229",
    "serde_json": "1.0.140 1.0.149 1.0.154",
    "shlex": "1.2.0 1.3.0 2.0.1",
    "sonic-rs": "0.5.7 0.5.10",
    "strum": "0.27.2 0.28.0",
    "strum_macros": "0.27.2 0.28.0",
    "tempfile": "3.20.0 3.24.0 3.27.0",
    "thiserror": "2.0.12 2.0.17 2.0.21",
    "thiserror-impl": "2.0.12 2.0.17 2.0.21",
    "tinyvec": "1.10.0 1.13.3",
    "unicode-ident": "1.0.20 1.0.27",
    "walkdir": "2.4.0 2.5.1",
}

# Crates with adapted files of several other projects: only their documentation is taken.
MIXED_SOURCES = {"sonic-rs"}

# The language folders of apache2-doc hold the English page where no translation exists.
APACHE_PAGES = {
    "en": "filter handler mpm howto/ssi programs/httxt2dbm vhosts/fd-limits mod/mod_echo",
    "de": "glossary mod/mod_echo programs/httxt2dbm",
    "es": "handler howto/ssi mod/mod_echo",
    "fr": "filter handler programs/httxt2dbm",
    "ja": "filter handler mpm vhosts/fd-limits mod/mod_authz_user mod/mod_suexec mod/mod_asis"
    " mod/mod_echo mod/module-dict howto/index howto/ssi programs/httxt2dbm",
    "ko": "filter handler mpm vhosts/fd-limits howto/ssi mod/mod_echo",
    "pt-br": "handler mod/mod_echo programs/httxt2dbm",
    "tr": "filter handler mpm programs/httxt2dbm mod/mod_echo",
    "zh-cn": "handler mpm rewrite/index howto/index vhosts/index misc/index mod/mod_echo",
}
DEBIAN = {
    "apache2-bin": ("2.4.71-1~deb12u1", "Apache-2.0"),
    "apache2-doc": ("2.4.71-1~deb12u1", "Apache-2.0"),
    "libxcb-doc": ("1.15-1", "X11"),
}

# Largest text of one record in characters; which share of the files of a kind is taken, and of those
# which share of their versions.
DOC_CHARS = 4_500
SOURCE_CHARS = 16_000
README_CHARS = 16_000
DOC_SHARE = 0.8
SOURCE_SHARE = 0.27
VERSION_SHARE = 0.65
MAN_SHARE = 0.10


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--packages", type=Path, help="folder with Debian packages already fetched")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        work = Path(work)
        crates = fetch_crates(work)
        debian = {name: fetch_debian(name, work, args.packages) for name in DEBIAN}
        shutil.rmtree(FIXTURES / "corpus", ignore_errors=True)
        shutil.rmtree(FIXTURES / "LICENSES", ignore_errors=True)
        (FIXTURES / "corpus" / "alice").mkdir(parents=True)
        (FIXTURES / "LICENSES").mkdir()
        files = write_corpus(crates, debian)
        write_licences(crates, debian)
        write_manifest(files, crates, debian)


# Packages


def fetch_crates(work):
    """One entry per crate version: name, version, folder, licence, sha256 of the package."""
    crates = []
    for name, versions in sorted(CRATES.items()):
        for version in versions.split():
            project = work / f"{name}-{version}"
            (project / "src").mkdir(parents=True)
            (project / "src/lib.rs").write_text("")
            (project / "Cargo.toml").write_text(
                '[package]\nname = "fetch"\nversion = "0.0.0"\nedition = "2021"\n[dependencies]\n'
                f'{name} = {{ version = "={version}", default-features = false }}\n'
            )
            command = ["cargo", "metadata", "--format-version=1", "--quiet"]
            found = json.loads(subprocess.run(command, cwd=project, check=True, capture_output=True).stdout)
            package = next(p for p in found["packages"] if (p["name"], p["version"]) == (name, version))
            lock = tomllib.loads((project / "Cargo.lock").read_text())["package"]
            locked = next(p for p in lock if (p["name"], p["version"]) == (name, version))
            crates.append(
                {
                    "name": name,
                    "version": version,
                    "folder": Path(package["manifest_path"]).parent,
                    "license": package["license"].replace("/", " OR "),
                    "sha256": locked["checksum"],
                }
            )
    return crates


def fetch_debian(name, work, packages):
    """The unpacked package and its sha256."""
    version, _ = DEBIAN[name]
    pattern = f"{name}_{version.replace(':', '%3a')}_*.deb"
    found = sorted(packages.glob(pattern)) if packages else []
    if not found:
        subprocess.run(["apt-get", "download", "-qq", f"{name}={version}"], cwd=work, check=True)
        found = sorted(work.glob(pattern))
    folder = work / f"deb-{name}"
    subprocess.run(["dpkg-deb", "-x", found[0], folder], check=True)
    return {"folder": folder, "sha256": sha256(found[0].read_bytes())}


# Records


def record(package, path, text, license, version):
    name = f"{package}-{version}"
    source = package if package in DEBIAN else f"crate:{package}"
    return {"id": f"{name}/{path}", "text": text, "source": source, "license": license, "version": version}


def share(key):
    """A number in [0, 1) that depends on nothing but `key`."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") / 2**32


def read_text(path):
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


def crate_records(crates, choose):
    for crate in crates:
        for path in sorted(p for p in crate["folder"].rglob("*") if p.is_file()):
            inner = path.relative_to(crate["folder"]).as_posix()
            for name, text in choose(crate, inner, path):
                row = record(crate["name"], name, text, crate["license"], crate["version"])
                if text.strip() and (choose is readmes or share(row["id"]) < VERSION_SHARE):
                    yield row


def readmes(crate, inner, path):
    if re.fullmatch(r"(?i)readme[^/]*\.md", inner) and len(read_text(path)) <= README_CHARS:
        yield inner, read_text(path)


def docs(crate, inner, path):
    """Small pages, the newest notes of change logs, and what each module says about itself."""
    if re.search(r"(?i)(^|/)readme[^/]*$", inner) or share(crate["name"] + inner) >= DOC_SHARE:
        return
    text = read_text(path) if inner.endswith((".md", ".rs", ".txt")) else ""
    if inner.endswith((".md", ".txt")) and len(text) <= DOC_CHARS:
        yield inner, text
    elif re.fullmatch(r"(?i)(changelog|changes|releases)\.md", inner):
        yield inner + "#newest", newest_notes(text)
    elif inner.startswith("src/") and inner.endswith(".rs"):
        lines = [line.strip() for line in text.splitlines()]
        said = [re.sub(r"^//! ?", "", line) for line in lines if line.startswith("//!")]
        if len("\n".join(said)) <= DOC_CHARS:
            yield inner + "#docs", "\n".join(said).strip()


def newest_notes(text):
    """Whole sections from the top of a change log, as many as fit into DOC_CHARS."""
    kept = ""
    for section in re.split(r"(?m)^(?=## )", text):
        if len(kept) + len(section) > DOC_CHARS:
            break
        kept += section
    return kept


def sources(crate, inner, path):
    if not re.match(r"(src|tests|examples|benches)/.*\.rs$|build\.rs$", inner):
        return
    if crate["name"] in MIXED_SOURCES:
        return
    text = read_text(path)
    if 80 <= len(text) <= SOURCE_CHARS and share("src" + crate["name"] + inner) < SOURCE_SHARE:
        yield inner, text


class PageText(html.parser.HTMLParser):
    """The text of the element with id `page-content`, without scripts, language lists and comments."""

    BLOCKS = {"p", "div", "h1", "h2", "h3", "h4", "li", "tr", "pre", "dt", "dd", "table", "ul", "dl", "br"}
    VOID = {"br", "img", "meta", "link", "hr", "input"}
    SKIPPED = {"script", "style", "button"}
    SKIPPED_CLASSES = {"toplang", "bottomlang", "out-of-date", "top"}

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.open, self.parts = [], []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag in self.BLOCKS:
            self.parts.append("\n")
        if tag in self.VOID:
            return
        inside = attrs.get("id") == "page-content" or bool(self.open and self.open[-1][1])
        skipped = tag in self.SKIPPED or attrs.get("class") in self.SKIPPED_CLASSES
        skipped = skipped or attrs.get("id") in {"quickview", "comments_section"}
        self.open.append((tag, inside and not skipped))

    def handle_endtag(self, tag):
        while any(name == tag for name, _ in self.open) and self.open.pop()[0] != tag:
            pass

    def handle_data(self, data):
        if self.open and self.open[-1][1]:
            self.parts.append(data)

    def text(self):
        lines = (re.sub(r"[ \t\xa0]+", " ", line).strip() for line in "".join(self.parts).splitlines())
        return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip() + "\n"


def apache_pages(folder):
    manual = folder / "usr/share/doc/apache2-doc/manual"
    version, license = DEBIAN["apache2-doc"]
    for language, pages in sorted(APACHE_PAGES.items()):
        for page in pages.split():
            path = f"{language}/{page}.html"
            data = (manual / path).read_bytes()
            charset = re.search(rb"charset=([\w-]+)", data).group(1).decode()
            parser = PageText()
            parser.feed(data.decode(charset))
            yield record("apache2-doc", path, parser.text(), license, version)


def man_pages(folder):
    """Pages of the xcb requests; a page is shipped under each function that it documents."""
    pages = folder / "usr/share/man/man3"
    version, license = DEBIAN["libxcb-doc"]
    for path in sorted(pages.glob("xcb_*.3.gz")):
        if share(path.resolve().name) < MAN_SHARE and (not path.is_symlink() or share(path.name) < 0.2):
            text = gzip.decompress(path.read_bytes()).decode()
            yield record("libxcb-doc", path.name.removesuffix(".gz"), text, license, version)


# Files


def write_corpus(crates, debian):
    corpus = FIXTURES / "corpus"
    lines = [to_line(r) for r in crate_records(crates, docs)]
    (corpus / "crates-docs.jsonl").write_bytes(b"".join(lines))

    lines = [to_line(r) for r in crate_records(crates, sources)]
    # The zstd program, since pyarrow's codec writes no checksum.
    packed = subprocess.run(
        ["zstd", "-19", "--check", "-q", "-c"], input=b"".join(lines), stdout=subprocess.PIPE, check=True
    )
    (corpus / "crates-src.jsonl.zst").write_bytes(packed.stdout)

    rows = pa.Table.from_pylist(list(crate_records(crates, readmes)))
    pq.write_table(rows, corpus / "readmes.parquet", compression="zstd", row_group_size=64)

    manuals = [*apache_pages(debian["apache2-doc"]["folder"]), *man_pages(debian["libxcb-doc"]["folder"])]
    data = b"".join(to_line(r) for r in manuals)
    (corpus / "manuals.jsonl.gz").write_bytes(gzip.compress(data, 9, mtime=0))

    folder = alice_crate(crates)["folder"]
    for path in sorted((folder / "benches/data").glob("*.txt")):
        if path.name.startswith("Carroll"):
            shutil.copyfile(path, corpus / "alice" / path.name)
    return sorted(p for p in corpus.rglob("*") if p.is_file())


def alice_crate(crates):
    """The crate that ships a passage of Alice in many languages; only newer versions do."""
    return [crate for crate in crates if crate["name"] == "icu_normalizer"][-1]


def to_line(row):
    return (json.dumps(row, ensure_ascii=False) + "\n").encode()


# Of a crate that leaves a choice, Apache-2.0 or the Unlicense is taken: no file is needed for them.
LICENCE_FILES = {
    "Apache-2.0": "NOTICE*",
    "MIT": "LICENSE*",
    "Unicode-3.0": "LICENSE*",
    "(MIT OR Apache-2.0) AND Unicode-3.0": "LICENSE-UNICODE",
}


def write_licences(crates, debian):
    """Texts that a licence wants beside copies: MIT-only crates, X11, Unicode, and NOTICE files."""
    folder = FIXTURES / "LICENSES"
    for crate in crates:
        pattern = LICENCE_FILES.get(crate["license"])
        for path in sorted(crate["folder"].glob(pattern)) if pattern else []:
            shutil.copyfile(path, folder / f"{crate['name']}-{path.name}.txt")
    xcb = debian["libxcb-doc"]["folder"] / "usr/share/doc/libxcb-doc/copyright"
    shutil.copyfile(xcb, folder / "libxcb-doc-copyright.txt")
    notice = debian["apache2-bin"]["folder"] / "usr/share/doc/apache2-bin/NOTICE"
    shutil.copyfile(notice, folder / "apache2-doc-NOTICE.txt")


def write_manifest(files, crates, debian):
    lines = ["# Written by datasets/make_fixtures.py.", ""]
    for path in files:
        data = path.read_bytes()
        lines += ["[[file]]", f'path = "{path.relative_to(FIXTURES).as_posix()}"']
        lines += [f"records = {count_records(path)}", f"bytes = {len(data)}"]
        lines += [f'sha256 = "{sha256(data)}"']
        if path.suffix == ".txt":
            lines += ['source = "crate:icu_normalizer"', 'license = "Unicode-3.0"']
            lines += [f'version = "{alice_crate(crates)["version"]}"']
        lines.append("")
    for crate in crates:
        lines += ["[[package]]", f'name = "crate:{crate["name"]}"', f'version = "{crate["version"]}"']
        lines += [f'license = "{crate["license"]}"', f'sha256 = "{crate["sha256"]}"', ""]
    for name, (version, license) in sorted(DEBIAN.items()):
        lines += ["[[package]]", f'name = "{name}"', f'version = "{version}"']
        lines += [f'license = "{license}"', f'sha256 = "{debian[name]["sha256"]}"', ""]
    (FIXTURES / "manifest.toml").write_text("\n".join(lines[:-1]) + "\n")


def count_records(path):
    if path.suffix == ".parquet":
        return pq.read_metadata(path).num_rows
    if path.suffix == ".txt":
        return 1
    if path.suffix == ".jsonl":
        return path.read_bytes().count(b"\n")
    with pa.input_stream(str(path), compression="detect") as stream:
        return stream.read().count(b"\n")


def sha256(data):
    return hashlib.sha256(data).hexdigest()


if __name__ == "__main__":
    main()
