"""The README's picture: four bars for each kind of CPU."""

from .report import US, best_peer, ratio

# From where fastbp gains most to where it gains least: the book's network, sample by sample and in
# batches; a wider one; and one whose inputs have no zeros to skip, at the limit of the hardware.
BARS = {
    "online": "784-30-10, batch 1",
    "nielsen": "784-30-10, batch 10",
    "twolayer": "784-50-10, batch 100",
    "wide-dense": "784-512-512-10,\nbatch 128, no zeros",
}
TITLE = "training on one core, times as fast as the best other library"
OURS = "#0072B2"
NAMES = {
    "jax": "JAX",
    "jax-columns": "JAX",
    "torch": "PyTorch",
    "torch-compiled": "torch.compile",
    "numpy-by-hand": "NumPy",
    "sklearn": "scikit-learn",
}
# Text stays text, which a search finds; the same picture is the same bytes.
STYLE = {"svg.fonttype": "none", "svg.hashsalt": "fastbp", "font.size": 9}


def bars(results):
    """Return name, ratio to the best other and its name of the works that were measured."""
    measured = {r["name"]: r for r in results if len(r["cores"]) == 1 and not r.get("held")}
    for name in BARS:
        best = best_peer(measured[name]) if name in measured else None
        if best and (value := ratio(measured[name], US, best)):
            yield name, value, best


def draw(found, path):
    """Draw how many times as fast as the best other library fastbp is, on each kind of CPU."""
    import matplotlib
    from matplotlib.figure import Figure

    panels = {kind: list(bars(results)) for kind, results in found.items()}
    panels = {kind: rows for kind, rows in panels.items() if rows}
    if not panels:
        raise ValueError(f"none of {', '.join(BARS)} is kept, of which the chart is made")
    with matplotlib.rc_context(STYLE):
        width = 1.6 + 3.2 * len(panels)
        figure = Figure(figsize=(width, 2.2), layout="constrained")
        axes = figure.subplots(1, len(panels), squeeze=False, sharex=True, sharey=True)[0]
        for ax, (kind, rows) in zip(axes, panels.items(), strict=True):
            panel(ax, f"{kind}: {found[kind][0]['about']['cpu']}", rows)
        most = max(value for rows in panels.values() for _, value, _ in rows)
        axes[0].set_xlim(0, most * 1.35)  # room for the figures
        axes[0].set_ylim(len(BARS) - 0.5, -0.5)
        axes[0].set_yticks(range(len(BARS)), BARS.values())
        figure.supxlabel(
            "training on one core, times as fast as the best other library", fontsize=9
        )
        figure.savefig(path, facecolor="white", metadata={"Date": None})


def panel(ax, title, rows):
    """Draw one kind of CPU."""
    places = [list(BARS).index(name) for name, _, _ in rows]
    ax.barh(places, [value for _, value, _ in rows], color=OURS, height=0.65)
    ax.axvline(1, color="black", linewidth=0.8, linestyle=":")
    for place, (_, value, best) in zip(places, rows, strict=True):
        ax.text(
            max(value, 1), place, f" {value:.3g}× {NAMES.get(best, best)}", va="center", fontsize=8
        )
    ax.set_title(title, loc="left", fontsize=9, parse_math=False)
    ax.tick_params(labelsize=8)
    ax.spines[["top", "right"]].set_visible(False)
