"""The parts of a Markdown file that a script writes, each between two marks of its own."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SPEED = ROOT / "asv_benchmarks" / "README.md"  # all that was measured


def write(path, name, text):
    """Replace what stands between `<!-- name ... -->` and `<!-- /name -->`; keep all else."""
    head, tail = split(path, name)
    path.write_text(f"{head}{text}{tail}", encoding="utf-8")


def split(path, name):
    """Return what stands before and behind a part, its marks included."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    begins = [i for i, line in enumerate(lines) if line.startswith(f"<!-- {name}")]
    ends = [i for i, line in enumerate(lines) if line.strip() == f"<!-- /{name} -->"]
    if len(begins) != 1 or len(ends) != 1 or begins > ends:
        raise ValueError(
            f"{path.name} needs the lines <!-- {name} --> and <!-- /{name} -->, once each"
        )
    return "".join(lines[: begins[0] + 1]), "".join(lines[ends[0] :])
