"""The README's picture: bars on a logarithmic scale, one panel a workload."""

from math import ceil

from .report import US, best_peer, cores_words, ratio, shown, standing, workload

COLUMNS = 3
OURS, OTHERS = "#0072B2", "#999999"  # told apart with every kind of colour blindness, and in grey
# Text stays text, which a search finds; the same picture is the same bytes.
STYLE = {"svg.fonttype": "none", "svg.hashsalt": "fastbp", "font.size": 9}


def draw(results, about, path):
    """Draw how many times as fast as the best other each peer is."""
    import matplotlib
    from matplotlib.figure import Figure

    results = [result for result in results if best_peer(result)]
    rows = ceil(len(results) / COLUMNS)
    height = max(len(standing(result)) for result in results)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(12, 1 + rows * (0.62 + 0.2 * height)), layout="constrained")
        title = f"fastbp and its peers on {cores_words(results[0])} of {about['cpu']}"
        figure.suptitle(f"{title}: throughput, relative to the best other", parse_math=False)
        axes = figure.subplots(rows, COLUMNS, squeeze=False, sharex=True).ravel()
        for ax, result in zip(axes, results, strict=False):
            panel(ax, result)
        values = [ratio(r, name, best_peer(r)) for r in results for name in standing(r)]
        axes[0].set_xlim(min(values) / 1.5, max(values) * 6)  # room for the figures
        for ax in axes[len(results) :]:
            ax.set_axis_off()
        for ax in axes[max(0, len(results) - COLUMNS) : len(results)]:
            ax.set_xlabel("times as fast as the best other")
            ax.tick_params(labelbottom=True)
        figure.savefig(path, facecolor="white", metadata={"Date": None})


def panel(ax, result):
    """Draw one workload, the fastest on top, each with its figure."""
    work, ran, best = workload(result), standing(result), best_peer(result)
    names = sorted(ran, key=lambda name: ran[name]["rate"])
    values = [ratio(result, name, best) for name in names]
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter("{x:g}")
    ax.minorticks_off()  # hundreds of them would be most of the file
    ax.barh(names, values, color=[OURS if name == US else OTHERS for name in names])
    ax.axvline(1, color="black", linewidth=0.8, linestyle=":")
    ground = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
    for row, (name, value) in enumerate(zip(names, values, strict=True)):
        words = shown(work, ran[name]["rate"])
        ax.text(value * 1.1, row, words, va="center", fontsize=8, bbox=ground)
    ax.set_title(f"{result['name']}, {work.unit}", loc="left", parse_math=False)
    ax.tick_params(labelsize=8)
    ax.spines[["top", "right"]].set_visible(False)
