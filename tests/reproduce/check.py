#!/usr/bin/env python3
"""Checks the files of two builds of one release, and prints what it has found. The first failed check ends it.

    check.py WORK ARCH…

WORK/first/dist and WORK/second/dist have the files. It runs in the directory of Cargo.lock, with the packages of
requirements.txt.
"""

import copy
import hashlib
import importlib.util
import json
import os
import sys
import tarfile
from pathlib import Path

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

specification = importlib.util.spec_from_file_location("sbom", "release/sbom.py")
sbom = importlib.util.module_from_spec(specification)
specification.loader.exec_module(sbom)


def passed(text):
    print(f"- {text}")


def require(truth, *text):
    if not truth:
        sys.exit(f"FAILED: {' '.join(map(str, text))}")


def digests(directory):
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def both_builds_are_the_same(work):
    first, second = (digests(work / name / "dist") for name in ("first", "second"))
    different = sorted(name for name in first | second if first.get(name) != second.get(name))
    require(first and not different, "the builds differ:", *different)
    passed(
        f"the {len(first)} files of two builds are the same to the byte; the builds had other directories, `HOME`,"
        " `CARGO_HOME`, `CARGO_TARGET_DIR`, `umask`, `TZ` and `LC_ALL`"
    )


class Release:
    """The files of one architecture."""

    def __init__(self, work, arch):
        self.arch = arch
        dist = work / "first" / "dist"
        self.archive, = dist.glob(f"atdata-bridge-*-linux-{arch}.tar.gz")
        self.bom_file, = dist.glob(f"atdata-bridge-*-linux-{arch}.cdx.json")
        self.image = dist / f"image-{arch}"
        self.name = self.archive.name.removesuffix(".tar.gz")
        with tarfile.open(self.archive) as archive:
            self.files = archive.getmembers()
            self.program = archive.extractfile(f"{self.name}/atdata-bridge").read()
        self.bom = json.loads(self.bom_file.read_text())
        self.lock = Path("Cargo.lock").read_text()
        self.crates = sbom.linked_crates(arch)
        self.parts = sbom.inspect(self.program)

    def mistakes(self, bom):
        return list(sbom.check(bom, self.parts, self.lock, self.crates))


def archive_has_its_files(release):
    names = [file.name.removeprefix(release.name + "/") for file in release.files if file.isfile()]
    shells = [f"completions/atdata-bridge.{shell}" for shell in ("bash", "elvish", "fish", "powershell", "zsh")]
    require(names == ["LICENSE", "README.md", "atdata-bridge", *shells, "man/atdata-bridge.1"], names)
    rights = {oct(file.mode) for file in release.files if file.isfile() and not file.name.endswith("/atdata-bridge")}
    require(rights == {"0o644"} and {file.uid for file in release.files} == {0}, rights)


def program_has_no_path_of_its_build(release, work):
    paths = {str(work), os.environ["HOME"], os.environ["RUSTUP_HOME"], "/release-build/"}
    found = [path for path in paths if path.encode() in release.program]
    require(not found, release.arch, "the program has", *found)


def bom_is_valid(release):
    error = JsonStrictValidator(SchemaVersion.V1_5).validate_str(release.bom_file.read_text())
    require(error is None, release.arch, error)
    require(not release.mistakes(release.bom), *release.mistakes(release.bom))


def each_mistake_is_found(release):
    """Makes mistakes in the bill of materials, and returns how many."""
    made = 0

    def found(change, *words):
        nonlocal made
        bom = copy.deepcopy(release.bom)
        change(bom)
        mistakes = release.mistakes(bom)
        require(any(all(word in mistake for word in words) for mistake in mistakes), "not found:", *words, mistakes)
        made += 1

    for index, part in enumerate(release.bom["components"]):
        found(lambda bom: bom["components"].pop(index), part["name"], "does not list")
        found(lambda bom: bom["components"][index].pop("licenses"), part["name"], "no licence")
    for library in sbom.LIBRARIES:
        index, part = next((i, p) for i, p in enumerate(release.bom["components"]) if p["name"] == library.name)
        if library.text:
            found(lambda bom: bom["components"][index].update(version="0.0.1"), library.name, part["version"], "0.0.1")
    crate = next(i for i, p in enumerate(release.bom["components"]) if p["purl"].startswith("pkg:cargo/"))
    found(lambda bom: bom["components"][crate].update(name="proptest"), "proptest", "does not have")
    found(lambda bom: bom["components"][crate]["hashes"][0].update(content="0"), "not the crate of Cargo.lock")
    found(lambda bom: bom["components"][crate].pop("purl"), "no purl")
    brotli = {"name": "brotli", "version": "1", "licenses": [{"expression": "MIT"}], "purl": "pkg:generic/brotli@1"}
    found(lambda bom: bom["components"].append(brotli), "brotli", "does not have")
    return made


def kib(number):
    return f"{number / 1024:,.1f} KiB" if number < 1 << 20 else f"{number / (1 << 20):.1f} MiB"


def main():
    work = Path(sys.argv[1])
    print("## Checked\n")
    both_builds_are_the_same(work)
    releases = [Release(work, arch) for arch in sys.argv[2:]]
    for release in releases:
        archive_has_its_files(release)
        program_has_no_path_of_its_build(release, work)
        bom_is_valid(release)
        made = each_mistake_is_found(release)
    passed("an archive has the program, LICENSE, README.md, the completions of five shells and the manual page")
    passed("the program has no path of its build in it")
    passed("the bill of materials is valid CycloneDX 1.5; each part has a licence and a purl")
    passed("its crates are those that `cargo tree` and cargo-auditable find in the program, with the checksums of Cargo.lock")
    passed("its C libraries are those whose functions are in the program; OpenSSL has the version that the program says")
    passed(f"{made} mistakes in the bill of materials were found, each by its name; among them each part left out")

    print("\n## Sizes\n\n| | program | archive | image, compressed | bill of materials | list of crates in the program |")
    print("|---|---:|---:|---:|---:|---:|")
    for release in releases:
        image = sum(path.stat().st_size for path in release.image.rglob("*") if path.is_file())
        sizes = (len(release.program), release.archive.stat().st_size, image, release.bom_file.stat().st_size,
                 len(sbom.sections(release.program)[".dep-v0"]))
        print(f"| {release.arch} | {' | '.join(map(kib, sizes))} |")

    print("\n## Bill of materials\n\n| part | version | " + " | ".join(release.arch for release in releases) + " |")
    print("|---|---|" + "---|" * len(releases))
    parts = [{(p["name"], p["version"]) for p in r.bom["components"] if not p["purl"].startswith("pkg:cargo/")} for r in releases]
    for name, version in sorted(set().union(*parts)):
        marks = ["yes" if (name, version) in part else "no" for part in parts]
        print(f"| {name} | {version} | {' | '.join(marks)} |")
    crates = [str(sum(p["purl"].startswith("pkg:cargo/") for p in release.bom["components"])) for release in releases]
    print(f"| crates | of Cargo.lock | {' | '.join(crates)} |")

    print("\n## Digests (SHA-256)\n\n```")
    for release in releases:
        for path in (release.archive, release.bom_file):
            print(hashlib.sha256(path.read_bytes()).hexdigest(), path.name)
        index = json.loads((release.image / "index.json").read_text())
        print(index["manifests"][0]["digest"].removeprefix("sha256:"), release.image.name)
    print("```")


if __name__ == "__main__":
    main()
