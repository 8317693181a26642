"""Results that are kept, a file for each kind of CPU, and what is written from them."""

import json

import marks

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

KEPT = marks.ROOT / "asv_benchmarks" / "results-peers"
TABLES, README = marks.SPEED, marks.ROOT / "README.md"
PICTURE = marks.ROOT / ".github" / "peers.svg"
MARK = "peers"
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
    for file in (README, TABLES):
        marks.split(file, MARK)  # both are written, or none
    marks.write(README, MARK, region(found))
    marks.write(TABLES, MARK, tables(found))
    chart.draw(found, PICTURE)


def machines(results, form="{} ({})"):
    """Return the CPUs that results were measured on, as text."""
    names = {(r["about"]["cpu"], r["about"].get("cpu_name", "")) for r in results}
    return " and ".join(form.format(cpu, name) if name else cpu for cpu, name in sorted(names))


def region(found):
    """Return the README's words: from the least to the largest ratio of the chart, per CPU."""
    lines = []
    for results in found.values():
        if rows := list(chart.bars(results)):
            where, others = machines(results, "{}, {}"), names_of(results)
            lines += [f"On one core ({where}), it trains {span(rows)} times as fast as the best of"]
            lines += [f"{others}."]
    return (
        "\n".join(lines) + "\n\n"
        "![Training on one core: how many times as fast as the best other library]"
        "(.github/peers.svg)\n\n"
        "[All works, libraries and figures](asv_benchmarks/README.md). Other CPUs give other "
        "ratios:\n"
        "`scripts/compare_peers.py` measures yours.\n"
    )


def span(rows):
    """Return the least and the largest ratio, as text."""
    values = [value for _, value, _ in rows]
    return " to ".join(dict.fromkeys(f"{value:.2g}" for value in (min(values), max(values))))


def names_of(results):
    """Return the names of the libraries that the works of the chart were measured with."""
    asked = [result for result in results if result["name"] in chart.BARS]
    ran = {name for result in asked for name in standing(result)} - {US}
    names = sorted({chart.NAMES.get(name, name) for name in ran})
    return ", ".join(names[:-1]) + " and " * (len(names) > 1) + names[-1]


def tables(found):
    """Return the tables of asv_benchmarks/README.md, and what the works are."""
    lines = []
    for kind, results in found.items():
        for cores, held in SECTIONS:
            some = [r for r in results if place(r)[1:] == (cores, held)]
            if some:
                lines += [*section(kind, some), ""]
    lines += ["### The works", ""]
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
        f"### {kind}, {cores_words(results[0])}",
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
