"""What the race's result says: ratios, shares, verdicts; as text, and for the README."""

from statistics import median

from .work import FIGURES, HELD_FIGURES, UNITS, Workload

US = "fastbp"
# How far the peers' numbers may lie apart. In training each has its own order of samples.
TOLERANCE = {"train": 0.05, "gradient": 1e-4, "predict": 1e-3, "fit": 0.02}
QUIET = 0.95  # the part of its time that a peer of one thread has the core, or others have it too
BEGIN, END = "<!-- peers -->\n", "<!-- /peers -->\n"


def workload(result):
    """Return the workload; a result that was kept may be of another version, with other fields."""
    known = {name: result["work"][name] for name in Workload._fields if name in result["work"]}
    return Workload(**{**known, "sizes": tuple(known["sizes"])})


def figure(work, rate):
    """Return a rate of items a second in the workload's unit."""
    scale = UNITS[work.unit]
    return scale * work.items / rate if scale else rate


def shown(work, rate):
    """Return the figure as text."""
    value = figure(work, rate)
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def standing(result, gauges=False):
    """Return the better entry of each peer by name, of those that ran."""
    best = {}
    for entry in result["entries"]:
        name = entry["name"]
        ran = entry["status"] == "ok" and (name in result["gauges"]) == gauges
        if ran and (name not in best or entry["rate"] > best[name]["rate"]):
            best[name] = entry
    return best


def best_peer(result):
    """Return the name of the fastest peer that is not fastbp, or None."""
    ran = standing(result)
    return max((n for n in ran if n != US), key=lambda n: ran[n]["rate"], default=None)


def ratio(result, name, to):
    """Return how many times as fast a peer is as another, or None where one did not run."""
    ran = standing(result)
    return ran[name]["rate"] / ran[to]["rate"] if name in ran and to in ran else None


def gflops(work, rate):
    return rate * work.flops / 1e9


def peak(result):
    """Return the FMA peak in GFLOP/s, or None."""
    gauge = standing(result, gauges=True).get("fma-peak")
    return gauge["rate"] / 1e9 if gauge else None


def share_of_peak(result, name):
    ran, top = standing(result), peak(result)
    return gflops(workload(result), ran[name]["rate"]) / top if name in ran and top else None


def activation_share(result):
    """Return the part of fastbp's time that its activations take, evaluated alone."""
    gauge, ours = standing(result, gauges=True).get("activations"), standing(result).get(US)
    return ours["rate"] / gauge["rate"] / ours["threads"] if gauge and ours else None


def disagreement(result):
    """Return words about peers whose numbers lie apart, or ""."""
    checks = {
        (e["name"], e["threads"]): e["check"]
        for e in result["entries"]
        if e["status"] == "ok" and e["name"] not in result["gauges"]
    }
    if len(checks) < 2:
        return ""
    middle, allowed = median(checks.values()), TOLERANCE[result["work"]["kind"]]
    low, high = min(checks.values()), max(checks.values())
    if high - low <= allowed * abs(middle):  # never true of NaN
        return ""
    each = ", ".join(f"{name} {value:.6g}" for (name, _), value in checks.items())
    return f"THE PEERS DO NOT DO THE SAME WORK: {each}; allowed {allowed:.2%} apart"


def had_the_core(result):
    """Return which part of their time the peers of one thread had their core, typically."""
    parts = [
        piece["cpu_seconds"] / piece["seconds"]
        for entry in result["entries"]
        if entry["threads"] == 1
        for piece in entry["slices"]
    ]
    return median(parts) if parts else 1.0


def gain(result):
    """Return how many times as fast fastbp is with all threads as with one, in the same race."""
    ours = [e for e in result["entries"] if e["name"] == US and e["status"] == "ok"]
    rates = {entry["threads"]: entry["rate"] for entry in ours}
    return rates[max(rates)] / rates[1] if len(rates) > 1 else None


def verdicts(result):
    """Return what is to be reached as rows (is it a must, words, found or None, wanted)."""
    name, best = result["name"], best_peer(result)
    if name not in FIGURES:
        return []
    figures, share = FIGURES[name], share_of_peak(result, US)
    found, words = ratio(result, US, best) if best else None, f"to {best or 'the best peer'}"
    if result.get("held"):
        must, least = HELD_FIGURES.get(name, (None, None))
        rows = [(True, words, found, must), (True, "of the FMA peak", share, least)]
    elif len(result["cores"]) > 1:
        rows = [
            (True, words, found, figures.must_two),
            (False, words, found, figures.aim_two),
            (True, "with the second core to without", gain(result), figures.gain),
        ]
    else:
        rows = [
            (True, words, found, figures.must),
            (False, words, found, figures.aim),
            (True, "of the FMA peak", share, figures.must_peak),
            (False, "of the FMA peak", share, figures.aim_peak),
        ]
    return [row for row in rows if row[3] is not None]


def incomplete(result):
    """Return the names of peers that should have run and did not."""
    lost = {e["name"] for e in result["entries"] if e["status"] in ("missing", "failed")}
    return sorted(lost)


def problems(results, check):
    """Return what makes the exit code 1, as lines.

    A ratio to the best peer proves nothing while a peer is missing or failed.
    """
    lines = []
    for result in results:
        name, apart = result["name"], disagreement(result)
        if apart:
            lines.append(f"{name}: {apart}")
        if US in result["asked"] and US not in standing(result):
            lines.append(f"{name}: {US} did not run")
        if not check:
            continue
        wanted = verdicts(result)
        for must, words, found, least in wanted:
            if must and (found is None or found < least):
                have = "not measured" if found is None else f"{found:.2f}"
                lines.append(f"{name}: must be {least:g} {words}; {have}")
        if wanted and incomplete(result):
            lines.append(f"{name}: not proven without {', '.join(incomplete(result))}")
    return lines


# -- text ------------------------------------------------------------------------------------------


def cores_words(result):
    cores = "one core" if len(result["cores"]) == 1 else f"{len(result['cores'])} cores"
    held = ", held to AVX2" if result.get("held") else ""
    return cores + held + ("" if result["pinned"] else ", not pinned")


def text(result):
    """Return the result for the terminal."""
    work, ran, best = workload(result), standing(result), best_peer(result)
    lines = [
        f"\n{result['name']}: {work.words()}; {result['data']}; {cores_words(result)}",
        f"  {'':15}{work.unit + ', best':>17}{'median':>13}{'to best peer':>14}"
        f"{'GFLOP/s':>9}{'of peak':>9}{'threads':>9}  check",
    ]
    for name in sorted(ran, key=lambda n: (n != US, -ran[n]["rate"])):
        entry = ran[name]
        to_best, share = (ratio(result, name, best) if best else None), share_of_peak(result, name)
        lines.append(
            f"  {name:15}{shown(work, entry['rate']):>17}{shown(work, entry['median']):>13}"
            f"{'-' if to_best is None else f'{to_best:.2f}x':>14}"
            f"{gflops(work, entry['rate']):>9.1f}{'-' if share is None else f'{share:.0%}':>9}"
            f"{entry['threads']:>9}  {entry['check']:.5g}"
        )
        if entry["steady"]:
            lines.append(f"  {'  best epoch':15}{shown(work, entry['steady']):>17}")
    for entry in result["entries"]:
        if entry["status"] != "ok":
            lines.append(f"  {entry['name']:15}{entry['status'].upper()}: {entry['reason']}")
    return "\n".join(lines + closing(result))


def closing(result):
    """Return the lines below a table: peak, activations, verdicts."""
    lines, top, share = [], peak(result), activation_share(result)
    if top:
        lines.append(
            f"  FMA peak {top:.0f} GFLOP/s; where zeros are skipped, dense arithmetic counts"
        )
    if share:
        lines.append(f"  activations take {share:.1%} of fastbp's time")
    for must, words, found, least in verdicts(result):
        have = "not measured" if found is None else f"{found:.2f}"
        good = found is not None and found >= least
        mark = "ok" if good else "MISSED" if must else "missed"
        lines.append(f"  {'must' if must else 'aim'} {least:g} {words}: {have} {mark}")
    busy, apart = had_the_core(result), disagreement(result)
    if busy < QUIET:
        lines.append(
            f"  OTHER PROGRAMS RAN ON THE SAME CORES: the peers had them {busy:.0%} of the time"
        )
    return [*lines, f"  {apart}"] if apart else lines


def versions_words(about):
    return ", ".join(f"{name} {version}" for name, version in about["versions"].items())
