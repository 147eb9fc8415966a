"""``python -m cli report``: one HTML page on one run or several, from the files they have left; no model is run."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from cli.records import (
    FIGURES,
    Curve,
    ImageScores,
    Run,
    image_types,
    read_curves,
    read_images,
    read_objects,
    read_record,
)
from cli.references import read_references, trained
from karyon.commands.console import NONE, counted, duration, number
from karyon.commands.options import OptionParser
from karyon.errors import DataError

TYPE_METRICS = ("dsb_score", "ap50", "ap70", "ap90", "aji", "pq", "count_error", "iou")


def report(args: list[str], prog: str) -> None:
    """Writes the page.

    Args:
        args: of the command line, after ``report``.
        prog: what the user has typed before.

    Raises:
        DataError: a folder holds no run, a file in it is damaged, or the page cannot be written.
    """
    options = _parser(prog).parse_args(args)
    from cli.report_page import render
    from karyon.io.whole_files import write_whole, writing_to

    runs, published = read_runs(options.runs), options.results_dir / "references.yaml"
    references = read_references(published) if published.is_file() else None
    title = options.title or f"Report on {', '.join(run.label for run in runs)}"
    page = render(title, runs, references).encode()
    with writing_to(options.out.parent):
        options.out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(options.out, page)
    print(f"Wrote {options.out}: {counted(len(runs), 'run')}, {len(page) / 2**20:.1f} MiB.")


@dataclass(frozen=True, eq=False)
class ReportedRun:
    """A run, as far as it has come.

    Attributes:
        place: among the runs of the report, from 0.
        label: its name, unlike those of the others.
        folder: what it left.
        config: the resolved config, empty where there is none.
        curves: training and validation values by name, such as ``val/loss``.
        fit: the record of its training, None where there is none.
        tested: its newest test, None where there is none.
        evaluated: the folder that this test wrote into.
        images: what the test says of each image, None where it says nothing.
        objects: float64 (M, 2), score of each predicted object and its greatest IoU with a true one; or None.
    """

    place: int
    label: str
    folder: Path
    config: dict[str, Any]
    curves: dict[str, Curve]
    fit: dict[str, Any] | None
    tested: Run | None
    evaluated: Path
    images: ImageScores | None
    objects: NDArray[np.float64] | None

    def argument(self, *path: str) -> Any:
        """An entry of the config, None where it has none."""
        node: Any = self.config
        for key in path:
            node = node.get(key) if isinstance(node, dict) else None
        return node

    def class_name(self, *path: str) -> str:
        """The name of a class that the config names, or an empty one."""
        node = self.argument(*path)
        return str(node.get("class_path", "") if isinstance(node, dict) else node or "").rpartition(".")[2]

    def metric(self, name: str) -> float | None:
        """A metric of the test, None where there is none."""
        return self.tested.metric(name) if self.tested else None

    @property
    def has_losses(self) -> bool:
        """Whether a curve of its training was recorded."""
        return not self.curves.keys().isdisjoint(("train/loss_epoch", "train/loss_step"))

    @property
    def has_objects(self) -> bool:
        """Whether the test says something of predicted objects."""
        return self.objects is not None and len(self.objects) > 0

    @property
    def model(self) -> str:
        """The classes that it is made of."""
        parts = [self.class_name("model", "init_args", part) for part in ("network", "representation")]
        return ": ".join(filter(None, [self.class_name("model") or "?", ", ".join(filter(None, parts))]))

    @property
    def data(self) -> str:
        """What it was tested on, in the words of ``results/references.yaml`` where that knows it."""
        name, arguments = self.class_name("data"), self.argument("data", "init_args") or {}
        if name == "DSB2018DataModule" and arguments.get("manifest"):
            if arguments.get("test_fraction") or arguments.get("split_manifest"):
                fluorescence = (arguments.get("image_types") or arguments.get("kinds")) == ["fluorescence"]
                return "DSB2018 fluorescence subset" if fluorescence else "DSB2018, images held out"
            return "DSB2018 stage 2, 106 images" if arguments.get("test_set") == "stage2" else "DSB2018"
        if name == "ISBI2012DataModule" and arguments.get("manifest"):
            return "ISBI 2012"
        return (name or "unknown").removesuffix("DataModule") + (
            f", {arguments['root']}" if "root" in arguments else ""
        )

    @property
    def best_step(self) -> tuple[str, int, float] | None:
        """Name of the monitored metric, and step and value of its best; None where it was not recorded."""
        name = self.argument("checkpoint", "monitor") or "val/dsb_score"
        if name not in self.curves:
            return None
        steps, values = self.curves[name]
        sign = -1 if self.argument("checkpoint", "mode") == "min" else 1
        best = int(np.nan_to_num(sign * np.array(values), nan=-np.inf).argmax())
        return name, steps[best], values[best]


def read_runs(paths: Sequence[Path]) -> list[ReportedRun]:
    """Reads what runs have left.

    Args:
        paths: of runs' folders, ``runs/NAME/version_N`` or ``runs/NAME``, which stands for the newest version; or of
            folders that a test wrote into.

    Raises:
        DataError: a folder holds no run, or a file in it is damaged.
    """
    folders = list(dict.fromkeys(_find_run(path) for path in paths))
    return [_read(place, *named) for place, named in enumerate(zip(folders, _labels(folders), strict=True))]


def _find_run(path: Path) -> Path:
    folder = path.resolve()
    if any((folder / name).is_file() for name in ("record.json", "metrics.csv", "config.yaml", "test/record.json")):
        return folder
    from cli.runs import in_versions

    versions = in_versions(folder.parent, folder.name, "config.yaml")
    if not versions:
        raise DataError(f"{path} holds no run: name the folder of one, such as runs/NAME or runs/NAME/version_0.")
    return versions[0].parent


def _labels(folders: list[Path]) -> list[str]:
    """Names of runs: as short as tells them apart."""
    named = [folder.parts[:-1] if re.fullmatch(r"version_\d+", folder.name) else folder.parts for folder in folders]
    whole = [folder.parts for folder in folders]
    for paths, length in [(named, 1), (named, 2), (whole, 2), (named, 3), (whole, 3)]:
        labels = ["/".join(path[-length:]) for path in paths]
        if len(set(labels)) == len(labels):
            return labels
    return [str(folder) for folder in folders]


def _read(place: int, folder: Path, label: str) -> ReportedRun:
    paths = [path for path in (folder / "record.json", folder / "test" / "record.json") if path.is_file()]
    records = {path.parent: read_record(path) for path in paths}
    tests = {tested: record for tested, record in records.items() if record.get("test")}
    evaluated = max(tests, key=lambda tested: tests[tested]["test"]["date"], default=folder)
    record = tests.get(evaluated) or records.get(folder, {})
    tested = Run(label, record.get("fit"), record["test"], record.get("val")) if record.get("test") else None
    trained_in, curves = folder, read_curves(folder)
    checkpoint = Path(tested.test["checkpoint"]) if tested else Path()
    # A test that was told to write elsewhere knows where its training lies.
    if checkpoint.parent.name == "checkpoints" and not any(name.startswith("train/") for name in curves):
        trained_in = checkpoint.parent.parent
        curves = read_curves(trained_in)
    config = _read_config(trained_in) or _read_config(evaluated)
    images, objects = read_images(evaluated / "image_scores.csv"), read_objects(evaluated / "object_scores.csv")
    fit = record.get("fit")
    return ReportedRun(place, label, folder, config, curves, fit, tested, evaluated, images, objects)


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.yaml"
    if not path.is_file():
        return {}
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        config = None
    if not isinstance(config, dict):
        raise DataError(f"{path} is not a config of a run: put the file that the run wrote in its place, or delete it.")
    return config


def overview(runs: Sequence[ReportedRun]) -> list[list[Any]]:
    """Who is who, with the DSB score and its confidence interval."""
    scores = _marked([run.metric("dsb_score") for run in runs], "dsb_score")
    sizes = [f"{run.fit['parameters']:,}" if run.fit else NONE for run in runs]
    intervals = [interval(run.images.scores) if run.images else NONE for run in runs]
    return [
        [run, run.model, run.data, trained(run.fit), *cells]
        for run, *cells in zip(runs, sizes, scores, intervals, strict=True)
    ]


def interval(scores: NDArray[np.float64]) -> str:
    """The 95 % confidence interval of a mean over images: 2,000 draws of as many images with replacement."""
    if len(scores) < 2:
        return NONE
    rng = np.random.default_rng(0)
    low, high = np.quantile([rng.choice(scores, len(scores)).mean() for _ in range(2000)], (0.025, 0.975))
    return f"{low:.3f} to {high:.3f}"


def _marked(values: Sequence[float | None], metric: str) -> list[str]:
    """One metric of several runs as text, the best set off where there is a choice."""
    known = [value for value in values if value is not None]
    best = (min if "error" in metric else max)(known) if len(known) > 1 else None
    from markupsafe import Markup

    mark = Markup("<strong>{}</strong>").format
    return [mark(number(v, metric)) if v is not None and v == best else number(v, metric) for v in values]


def measured(runs: Sequence[ReportedRun]) -> list[list[str]]:
    """A row a metric, for there are more metrics than runs."""
    rows = [[FIGURES[name], *_marked([run.metric(name) for run in runs], name)] for name in FIGURES]
    rows = [row for row in rows if set(row[1:]) != {NONE}]
    return [*rows, ["seconds an image", *(run.tested.seconds if run.tested else NONE for run in runs)]]


def costs(runs: Sequence[ReportedRun]) -> list[list[Any]]:
    """What training and test took of each run."""
    rows = []
    for run in runs:
        fit, test = run.fit or {}, run.tested.test if run.tested else {}
        took = [f"{fit['steps']:,}", duration(fit["wall_s"])] if fit else [NONE, NONE]
        rate = f"{fit['steps'] / fit['wall_s']:.2f}" if fit.get("wall_s") else NONE
        hardware = fit.get("hardware") or test.get("hardware") or NONE
        peaks = []
        for record in (fit, test):
            values = [record[key] for key in ("peak_memory_gib", "peak_gpu_memory_gib") if key in record]
            peaks.append(" + ".join(f"{value:.2f}" for value in values) or NONE)
        rows.append([run, hardware, *took, rate, run.tested.seconds if run.tested else NONE, *peaks])
    return rows


def by_type(runs: Sequence[ReportedRun]) -> list[list[Any]]:
    """The metrics of each image type, with the confidence interval of the DSB score; none if no test tells types."""
    rows = []
    for image_type in image_types([run.tested for run in runs if run.tested]):
        columns = []
        for metric in TYPE_METRICS:
            columns.append(_marked([run.metric(f"{metric}/{image_type}") for run in runs], metric))
        for run, *cells in zip(runs, *columns, strict=True):
            chosen = run.images.scores[run.images.of(image_type)] if run.images else np.empty(0)
            objects = run.metric(f"objects_true/{image_type}")
            counts = [str(len(chosen) or NONE), NONE if objects is None else f"{objects:,.0f}"]
            rows.append([image_type, run, *counts, cells[0], interval(chosen), *cells[1:]])
    return rows


def _parser(prog: str) -> OptionParser:
    parser = OptionParser(prog=prog, description=__doc__)
    parser.add_argument(
        "runs",
        metavar="RUN",
        nargs="+",
        type=Path,
        help="folder of a run, runs/NAME/version_N, or runs/NAME for its newest version, or one that a test wrote into",
    )
    parser.add_argument("--out", type=Path, default=Path("report.html"), help="the page to write")
    parser.add_argument("--title", help="its heading; by default the names of the runs")
    parser.add_argument(
        "--results_dir", type=Path, default=Path("results"), help="holds references.yaml, the published scores"
    )
    return parser
