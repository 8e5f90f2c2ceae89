#!/usr/bin/env python3
"""Makes and checks the list of all that is in a program, its bill of materials (CycloneDX, JSON).

    sbom.py make CRATES PROGRAM ARCH   prints that of PROGRAM: CRATES, which cargo-cyclonedx made, and what is not a crate
    sbom.py check SBOM PROGRAM         prints what PROGRAM has and SBOM has not, or the other way round, or has otherwise
    sbom.py crates PROGRAM             prints the list of the crates that cargo-auditable has put into PROGRAM
    sbom.py lock                       prints the crates of Cargo.lock that compile C which this script does not know

It runs in the directory of Cargo.lock. `make` takes the versions of the C libraries from the sources and packages on
this machine, so it belongs to the build. Needs nothing but Python's standard library, cargo and, on Debian, dpkg.
"""

import hashlib
import json
import re
import struct
import subprocess
import sys
import uuid
import zlib
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Library:
    """A library that a crate compiles from C."""

    name: str
    parent: str  # the component that uses it
    crate: str  # has its source
    file: str  # says its version, below the directory of the crate
    version: str  # finds the numbers of the version, each or all of them, in the file
    licence: str
    symbol: str  # a function that a program with this library has; as a regular expression
    purl: str
    cpe: str = ""  # none where the dictionary of NIST has none
    text: bytes = b""  # finds the version in the program; the linker drops that of most libraries


# librdkafka has more code of others in it, but without versions: see its LICENSES.txt.
LIBRARIES = [
    Library(
        "librdkafka", "rdkafka-sys", "rdkafka-sys", "librdkafka/src/rdkafka.h",
        r"^#define RD_KAFKA_VERSION 0x(..)(..)(..)", "BSD-2-Clause", "rd_kafka_new",
        "pkg:github/confluentinc/librdkafka@v{}",
    ),
    Library(
        "openssl", "openssl-sys", "openssl-src", "openssl/VERSION.dat", r"^(?:MAJOR|MINOR|PATCH)=(\d+)", "Apache-2.0",
        "SSL_CTX_new", "pkg:generic/openssl@{}", "cpe:2.3:a:openssl:openssl:{}", rb"OpenSSL ([\d.]+) \d+ \w+ \d{4}",
    ),
    Library(
        "curl", "curl-sys", "curl-sys", "curl/include/curl/curlver.h",
        r"^#define LIBCURL_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)", "curl", "curl_easy_perform",
        "pkg:generic/curl@{}", "cpe:2.3:a:haxx:libcurl:{}",
    ),
    Library(
        "zstd", "zstd-sys", "zstd-sys", "zstd/lib/zstd.h",
        r"^#define ZSTD_VERSION_(?:MAJOR|MINOR|RELEASE) +(\d+)", "BSD-3-Clause", r"ZSTD_createCCtx\w*",
        "pkg:generic/zstd@{}", "cpe:2.3:a:facebook:zstandard:{}",
    ),
    Library(
        "zlib", "libz-sys", "libz-sys", "src/zlib/zlib.h", r'^#define ZLIB_VERSION "([\d.]+)"', "Zlib", "deflate",
        "pkg:generic/zlib@{}", "cpe:2.3:a:zlib:zlib:{}",
    ),
    Library(
        "lz4", "librdkafka", "rdkafka-sys", "librdkafka/src/lz4.h",
        r"^#define LZ4_VERSION_(?:MAJOR|MINOR|RELEASE) +(\d+)", "BSD-2-Clause", r"LZ4F_compressUpdate",
        "pkg:generic/lz4@{}", "cpe:2.3:a:lz4_project:lz4:{}",
    ),
    Library(
        "cjson", "librdkafka", "rdkafka-sys", "librdkafka/src/cJSON.h",
        r"^#define CJSON_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)", "MIT", "cJSON_Parse", "pkg:generic/cjson@{}",
        "cpe:2.3:a:davegamble:cjson:{}",
    ),
    Library(
        "nanopb", "librdkafka", "rdkafka-sys", "librdkafka/src/nanopb/pb.h", r'^#define NANOPB_VERSION "nanopb-(.+)"',
        "Zlib", "pb_decode", "pkg:generic/nanopb@{}", "cpe:2.3:a:nanopb_project:nanopb:{}",
    ),
    Library(
        "snappy-c", "librdkafka", "rdkafka-sys", "librdkafka/src/snappy.c", r"Uptodate with snappy ([\d.]+)",
        "BSD-3-Clause", "rd_kafka_snappy_uncompress", "pkg:generic/snappy-c@{}",
    ),
]

# Crates that compile C or assembly of their own, so that the crate is the component, and one that only helps the others.
OWN_CODE = {"ring", "cmake"}

# What a future dependency could bring, and a function of each: a program that has it needs a line above.
OTHERS = {
    "aws-lc": r"aws_lc_\w+", "brotli": r"BrotliDecoderDecompress\w*", "bzip2": "BZ2_bzCompress",
    "c-ares": "ares_library_init", "cyrus-sasl": "sasl_client_new", "expat": "XML_Parse",
    "jemalloc": r"(_rjem_)?je_malloc|_rjem_malloc", "krb5": "gss_init_sec_context", "libpsl": "psl_builtin",
    "libssh2": "libssh2_session_init_ex", "libstdc++": "__cxa_throw", "libxml2": "xmlReadMemory", "lzma": "lzma_code",
    "mimalloc": "mi_malloc", "nghttp2": "nghttp2_session_mem_recv", "pcre2": "pcre2_compile_8",
    "sqlite": "sqlite3_open_v2", "zlib-ng": "zng_deflate",
}

# What the compiler adds to each program.
RUNTIME_SYMBOLS = {"glibc": "__libc_start_main", "libgcc": "_Unwind_Resume", "rust-std": r"_R\w*3std\w*|_ZN3std\w*"}
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


def output(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def version_of(library, crates):
    """The version of a library, from its source."""
    path = crates[library.crate].parent / library.file
    found = re.findall(library.version, path.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
    if not found:
        sys.exit(f"sbom.py: {library.name}: there is no version in {path}")
    if isinstance(found[0], tuple):  # two hexadecimal digits each
        found = [str(int(number, 16)) for number in found[0]]
    return ".".join(found)


def component(name, version, licence, purl, cpe, source):
    made = {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "scope": "required",
        "licenses": [{"expression": licence}],
        "purl": purl,
        "properties": [{"name": "atdata-bridge:source", "value": source}],
    }
    if cpe:
        made["cpe"] = cpe + ":*" * (13 - len(cpe.split(":")))
    return made


def c_libraries(metadata):
    """The component of each library in C, and the name of the component that uses it."""
    packages = {package["name"]: package for package in metadata["packages"]}
    directories = {name: Path(package["manifest_path"]) for name, package in packages.items()}
    for library in LIBRARIES:
        version = version_of(library, directories)
        source = f"{library.file} in the crate {library.crate} {packages[library.crate]['version']}"
        cpe = library.cpe.format(version)
        yield component(library.name, version, library.licence, library.purl.format(version), cpe, source), library.parent


def runtime(arch):
    """The components of the compilers: glibc, libgcc and Rust's standard library."""
    native = output("dpkg", "--print-architecture").strip() == arch
    suffix = "" if native else f"-{arch}-cross"
    release = output(f"{MACHINES[arch]}-linux-gnu-gcc", "-dumpversion").strip()
    for name, package, licence, cpe in (
        ("glibc", f"libc6-dev{suffix}", "LGPL-2.1-or-later", "cpe:2.3:a:gnu:glibc:{}"),
        ("libgcc", f"libgcc-{release}-dev{suffix}", "GPL-3.0-or-later WITH GCC-exception-3.1", "cpe:2.3:a:gnu:gcc:{}"),
    ):
        version = output("dpkg-query", "--show", "--showformat=${Version}", package)
        purl = f"pkg:deb/debian/{package}@{version.replace('+', '%2B')}?arch={arch if native else 'all'}"
        upstream = re.match(r"[\d.]+", version)[0]
        yield component(name, version, licence, purl, cpe.format(upstream), f"the package {package} of Debian")
    version = output("rustc", "--version").split()[1]
    cpe = f"cpe:2.3:a:rust-lang:rust:{version}"
    yield component("rust-std", version, "MIT OR Apache-2.0", f"pkg:generic/rust-std@{version}", cpe, "the Rust compiler")


def linked_crates(arch):
    """The crates that are linked into the program: no procedural macros, and no features that only tests need."""
    tree = output(
        "cargo", "tree", "--locked", "--package=atdata-bridge", "--edges=normal,no-proc-macro", "--prefix=none",
        f"--target={MACHINES[arch]}-unknown-linux-gnu", "--format={p}",
    )
    return {(name, version.removeprefix("v")) for name, version, *_ in map(str.split, tree.splitlines())}


def make(crates, program, arch):
    """The bill of materials, with the same text for the same program."""
    bom = json.loads(Path(crates).read_text())
    metadata = json.loads(output("cargo", "metadata", "--format-version=1", "--locked"))
    root = bom["metadata"]["component"]
    here = root["bom-ref"]
    content = Path(program).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    # cargo-cyclonedx names the program by its directory.
    name = f"pkg:generic/{root['name']}@{root['version']}?arch={arch}"
    root.update({"bom-ref": name, "purl": name, "hashes": [{"alg": "SHA-256", "content": digest}]})
    root.pop("components", None)
    bom["serialNumber"] = uuid.uuid5(uuid.NAMESPACE_OID, digest).urn

    edges = {(name if edge["ref"] == here else edge["ref"]): set(edge.get("dependsOn", [])) for edge in bom["dependencies"]}
    # cargo-cyclonedx also lists procedural macros, and what only the features of the tests need.
    linked = linked_crates(arch)
    bom["components"] = [part for part in bom["components"] if (part["name"], part["version"]) in linked]
    kept = {part["bom-ref"] for part in bom["components"]} | {name}
    edges = {ref: edges[ref] & kept for ref in kept}
    refs = {part["name"]: part["bom-ref"] for part in bom["components"]}
    parts = [*c_libraries(metadata), *((part, root["name"]) for part in runtime(arch))]
    refs |= {part["name"]: part["bom-ref"] for part, _ in parts} | {root["name"]: name}
    for part, parent in parts:
        bom["components"].append(part)
        edges.setdefault(part["bom-ref"], set())
        edges[refs[parent]].add(part["bom-ref"])
    bom["components"].sort(key=lambda part: part["bom-ref"])
    bom["dependencies"] = [{"ref": ref, "dependsOn": sorted(edges[ref])} for ref in sorted(edges)]
    return json.dumps(bom, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def sections(content):
    """The sections of a 64-bit little-endian ELF file, by name."""
    table, = struct.unpack_from("<Q", content, 0x28)
    size, count, names = struct.unpack_from("<HHH", content, 0x3A)
    headers = [struct.unpack_from("<IIQQQQ", content, table + index * size) for index in range(count)]
    parts = [content[offset : offset + length] for _, _, _, _, offset, length in headers]
    # A section of type 8 takes no place in the file.
    return {
        parts[names][header[0] :].split(b"\0", 1)[0].decode(): part
        for header, part in zip(headers, parts)
        if header[1] != 8
    }


def audited(content):
    """The list of crates that cargo-auditable has put into the program."""
    return json.loads(zlib.decompress(sections(content)[".dep-v0"]))


def unknown_c(lock):
    """The crates that compile C, and of which this script does not know what."""
    known = OWN_CODE | {library.parent for library in LIBRARIES} | {library.crate for library in LIBRARIES}
    for package in lock.split("[[package]]")[1:]:
        name, = re.findall(r'^name = "(.+)"', package, re.MULTILINE)
        if re.search(r'^ "(cc|cmake)( .*)?",$', package, re.MULTILINE) and name not in known:
            yield f"the crate {name} compiles C: add the library to release/sbom.py, or the crate if the code is its own"


def licence_of(part):
    return [entry.get("expression") or entry["license"].get("id") for entry in part.get("licenses", [])]


@dataclass
class Program:
    """What a program shows of its parts."""

    libraries: set  # of those that this script knows
    versions: dict  # that the libraries say
    crates: set  # that cargo-auditable lists, as names and versions
    with_functions: set  # the crates that still have a function of their own


def inspect(content):
    symbols = sections(content)[".strtab"].decode(errors="replace")
    names = set(symbols.split("\0"))
    functions = {library.name: library.symbol for library in LIBRARIES} | RUNTIME_SYMBOLS | OTHERS
    found = {library.name: re.search(library.text, content) for library in LIBRARIES if library.text}
    crates = {
        (crate["name"], crate["version"])
        for crate in audited(content)["packages"]
        if crate.get("kind", "runtime") == "runtime" and not crate.get("root")
    }
    return Program(
        {library for library, function in functions.items() if any(map(re.compile(function).fullmatch, names))},
        {name: text[1].decode() if text else "not to be found" for name, text in found.items()},
        crates,
        {crate for crate in crates if f"{len(crate[0])}{crate[0].replace('-', '_')}" in symbols},
    )


def check(sbom, program, lock, crates):
    """What is wrong with a bill of materials of a program of these crates, as sentences."""
    parts = {(part["name"], part["version"]): part for part in sbom["components"]}
    listed, versions = set(), {}
    for (name, version), part in parts.items():
        if part.get("purl", "").startswith("pkg:cargo/"):
            listed.add((name, version))
        else:
            versions[name] = version
        for field, value in (("licence", licence_of(part)), ("purl", part.get("purl"))):
            if not value:
                yield f"{name} {version} has no {field}"

    for name in sorted(program.libraries - versions.keys()):
        yield f"the program has {name}, which the bill of materials does not list"
    for name in sorted(versions.keys() - program.libraries):
        yield f"the bill of materials lists {name}, which the program does not have"
    for name, version in program.versions.items():
        if versions.get(name, version) != version:
            yield f"{name} is {version} in the program and {versions[name]} in the bill of materials"

    yield from unknown_c(lock)
    # cargo-auditable also lists some procedural macros, and what only the features of the tests need: the program has
    # no function of these.
    for name, version in sorted((crates | program.with_functions) & program.crates - listed):
        yield f"the program has the crate {name} {version}, which the bill of materials does not list"
    for name, version in sorted(listed - program.crates):
        yield f"the bill of materials lists the crate {name} {version}, which the program does not have"
    entry = re.compile(r'^name = "(.+)"\nversion = "(.+)"\n(?:source = .*\nchecksum = "(.+)"\n)?', re.MULTILINE)
    locked = {(name, version): checksum for name, version, checksum in entry.findall(lock)}
    for key in sorted(listed):
        digests = [digest["content"] for digest in parts[key].get("hashes", [])]
        if key not in locked or digests != [locked[key]]:
            yield f"{' '.join(key)} is not the crate of Cargo.lock"


def end_with(mistakes):
    mistakes = list(mistakes)
    for mistake in mistakes:
        print(mistake)
    sys.exit(1 if mistakes else 0)


def main():
    match sys.argv[1:]:
        case ["make", crates, program, arch] if arch in MACHINES:
            sys.stdout.write(make(crates, program, arch))
        case ["check", sbom, program]:
            bom = json.loads(Path(sbom).read_text())
            arch = bom["metadata"]["component"]["purl"].rpartition("arch=")[2]
            found = inspect(Path(program).read_bytes())
            end_with(check(bom, found, Path("Cargo.lock").read_text(), linked_crates(arch)))
        case ["crates", program]:
            print(json.dumps(audited(Path(program).read_bytes()), indent=1))
        case ["lock"]:
            end_with(unknown_c(Path("Cargo.lock").read_text()))
        case _:
            print(__doc__, file=sys.stderr)
            sys.exit(64)


if __name__ == "__main__":
    main()
