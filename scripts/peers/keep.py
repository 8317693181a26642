"""Results that are kept, a file for each kind of CPU, and what is written from them."""

import json
from pathlib import Path

from . import chart
from .report import (
    US,
    best_peer,
    cores_words,
    ratio,
    share_of_peak,
    shown,
    standing,
    verdicts,
    versions_words,
    workload,
)
from .work import IMAGES, WORKLOADS

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "asv_benchmarks" / "results-peers"
TABLES, README = ROOT / "asv_benchmarks" / "README.md", ROOT / "README.md"
PICTURE = ROOT / ".github" / "peers.svg"
BEGIN, END = "<!-- peers -->\n", "<!-- /peers -->\n"
SECTIONS = ((1, ""), (2, ""), (1, "avx2"))  # cores, and what all are held to


def place(result):
    """Return what tells a result from others of a kind of CPU."""
    return result["name"], len(result["cores"]), result.get("held", "")


def slim(result, about):
    """Return what is kept of a result: no slices, and what it was measured with."""
    entries = [{k: v for k, v in e.items() if k != "slices"} for e in result["entries"]]
    return {**result, "entries": entries, "about": about}


def keep(results, about):
    """Put results in place of older ones of the same work, cores and kind of CPU."""
    KEPT.mkdir(parents=True, exist_ok=True)
    file = KEPT / f"{about['kind']}.json"
    old = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
    new = {place(result): slim(result, about) for result in results if result["name"] in WORKLOADS}
    merged = {**{place(result): result for result in old}, **new}
    order = list(WORKLOADS)
    ordered = sorted(merged.values(), key=lambda r: (place(r)[1:], order.index(r["name"])))
    lines = ",\n".join(json.dumps(result) for result in ordered)  # a change is one line
    file.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    return file


def kept():
    """Return all results by kind of CPU."""
    files = sorted(KEPT.glob("*.json"))
    return {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in files}


def write():
    """Write the tables, the README's words and the chart from what is kept."""
    found = kept()
    if not found:
        raise ValueError(f"nothing is kept in {KEPT}: race with --keep")
    head, tail = split_readme(README)
    README.write_text(f"{head}{BEGIN}{region(found)}{END}{tail}", encoding="utf-8")
    TABLES.write_text(tables(found), encoding="utf-8")
    chart.draw(found, PICTURE)


def split_readme(readme):
    """Return what stands before and behind the region; raise ValueError where it is not marked."""
    text = readme.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError(
            f"{readme.name} needs the lines {BEGIN.strip()} and {END.strip()}, once each"
        )
    head, rest = text.split(BEGIN)
    return head, rest.split(END)[1]


def machines(results):
    """Return the CPUs that results were measured on, as text."""
    names = {(r["about"]["cpu"], r["about"].get("cpu_name", "")) for r in results}
    return " and ".join(f"{cpu} ({name})" if name else cpu for cpu, name in sorted(names))


def region(found):
    """Return the README's section."""
    measured = "; ".join(f"{machines(results)}: {kind}" for kind, results in found.items())
    return (
        "![Throughput of fastbp, relative to the best other library](.github/peers.svg)\n\n"
        f"Measured on {measured}. Other CPUs give other ratios: run it on yours. All works, peers "
        "and figures are in [asv_benchmarks/README.md](asv_benchmarks/README.md).\n"
    )


def tables(found):
    """Return the whole of asv_benchmarks/README.md."""
    lines = [
        "# fastbp and its peers",
        "",
        "Written by `scripts/compare_peers.py --readme` from `results-peers/`; do not edit by hand."
        " Each peer runs in a process of its own by its best known practice, in turns on the same"
        " cores; its best slice counts. fastbp's figures are those of whole calls of `fit`,"
        " `gradient` and `feedforward`. A ratio is to the best other in the same run; bold ones"
        " miss what must be reached.",
    ]
    for kind, results in found.items():
        for cores, held in SECTIONS:
            some = [r for r in results if place(r)[1:] == (cores, held)]
            if some:
                lines += ["", *section(kind, some)]
    lines += ["", "## The works", ""]
    lines += [f"- `{name}`: {work.words()}; {DATA[work.data]}." for name, work in WORKLOADS.items()]
    return "\n".join(lines) + "\n"


DATA = {"mnist": "MNIST", "digits": "the digits", "gauss": "Gaussian", "values": "Gaussian"}


def section(kind, results):
    """Return a table: a kind of CPU, on so many cores."""
    peers = dict.fromkeys(name for result in results for name in result["asked"])
    ran = [name for name in peers if any(name in standing(result) for result in results)]
    dates = sorted({r["about"]["date"][:10] for r in results})
    versions = dict.fromkeys(versions_words(r["about"]) for r in results)
    lines = [
        f"## {kind}, {cores_words(results[0])}",
        "",
        f"{machines(results)}; {' to '.join(dict.fromkeys((dates[0], dates[-1])))}; "
        f"{' and '.join(versions)}.",
        "",
        f"| work | unit | {' | '.join(ran)} | ratio | FMA peak | must, aim |",
        "|---|---|" + "---|" * (len(ran) + 3),
    ]
    return [*lines, *(row(result, ran) for result in results)]


def row(result, names):
    """Return one line of a table."""
    work, ran, best = workload(result), standing(result), best_peer(result)
    cells = [shown(work, ran[name]["rate"]) if name in ran else "–" for name in names]
    found = ratio(result, US, best) if best else None
    # Of inputs with zeros nobody knows how much arithmetic was done.
    share = None if work.data in IMAGES else share_of_peak(result, US)
    wanted, words = verdicts(result), "–" if found is None else f"{found:.2f} ({best})"
    missed = [w for w in wanted if w[0] and w[1].startswith("to ") and (w[2] or 0) < w[3]]
    cells += [f"**{words}**" if missed else words, "–" if share is None else f"{share:.0%}"]
    least = ", ".join(wanted_words(*verdict) for verdict in wanted) or "–"
    return f"| {result['name']} | {work.unit} | {' | '.join(cells)} | {least} |"


def wanted_words(must, words, found, least):
    """Return what is to be reached, with what was found where that is in no other column."""
    if words.startswith("to "):
        return f"{least:g}" if must else f"aim {least:g}"
    if words == "of the FMA peak":
        return f"{least:.0%}" if must else f"aim {least:.0%}"
    have = "not measured" if found is None else f"{found:.2f}"
    have = f"**{have}**" if (found or 0) < least else have
    return f"second core {have} of {least:g}"
