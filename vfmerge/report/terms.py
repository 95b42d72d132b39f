"""The words and figures of tables, charts and reports, as a person reads them. Imports no torch."""

from __future__ import annotations

from vfmerge.retention import Row

_BENCHMARKS = {
    "efficiency": "Cost",
    "instance_ap": "Instance segmentation",
    "knn": "Nearest neighbours",
    "linear_probe": "Linear probe",
    "promptable": "Prompted masks",
    "recognition": "Recognition",
    "resolution": "Resolution",
    "retrieval": "Image-text retrieval",
    "robustness": "Robustness",
    "segmentation_probe": "Segmentation probe of features",
    "zero_shot_classification": "Zero-shot classification",
    "zero_shot_segmentation": "Zero-shot segmentation",
}
_METRICS = {
    "ap": "AP",
    "ap50": "AP at IoU 0.5",
    "ap75": "AP at IoU 0.75",
    "ap_common": "AP, common classes",
    "ap_frequent": "AP, frequent classes",
    "ap_large": "AP, large things",
    "ap_medium": "AP, things of middle size",
    "ap_rare": "AP, rare classes",
    "ap_small": "AP, small things",
    "box_miou": "mean IoU from boxes",
    "deeplabv3_miou": "mIoU of a DeepLabv3 head",
    "latency_ms": "time, ms",
    "linear_miou": "mIoU of a linear head",
    "miou_cascade": "mIoU, cascade",
    "miou_head": "mIoU, text-aligned head alone",
    "miou_two_heads": "mIoU, both heads",
    "parameters_m": "parameters, millions",
    "peak_mb": "memory beside the weights, MB",
    "point_miou": "mean IoU from points",
    "pspnet_miou": "mIoU of a PSPNet head",
    "gflops": "operations, GFLOP",
    "i2t_r1": "images to texts, recall at 1",
    "i2t_r10": "images to texts, recall at 10",
    "i2t_r5": "images to texts, recall at 5",
    "t2i_r1": "texts to images, recall at 1",
    "t2i_r10": "texts to images, recall at 10",
    "t2i_r5": "texts to images, recall at 5",
    "top1": "top-1 accuracy",
    "top5": "top-5 accuracy",
}
PROMPTS = {"box": "boxes", "detected": "detected boxes", "point": "points"}
"""How the metrics of the benchmark `recognition` begin, and what was asked with."""

_METRICS |= {
    f"{prompts}_{skill}{group}": f"{said} from {asked}{classes}"
    for prompts, asked in PROMPTS.items()
    for skill, said in (("iou", "mean IoU"), ("accuracy", "named right"))
    for group, classes in (("", ""), ("_base", ", base classes"), ("_novel", ", novel classes"))
}
_ONE_PASS = "_one_pass"  # behind what was taken of all skills in one pass of the trunk
_CONTROLS = {
    "cascade": "cascade",
    "feature_crop": "feature crops named by CLIP",
    "image_crop": "image crops named by CLIP",
    "naive": "without rehearsal",
    "neck_only": "own masks, feature crops",
    "no_fusion": "without fusion",
    "pipeline": "both parents",
    "probe": "head probing",
}
CURVE = "wise_ft_"
"""How the names of interpolations begin; the rest is the share of the naively distilled trunk."""

GROUP = "group="
"""What stands before a group's name in a metric: `top1 group=NAME`."""

COMPARED = {
    "gflops_one_pass": "gflops",
    "latency_ms_one_pass": "latency_ms",
    "miou_cascade": "miou_head",
    "miou_two_heads": "miou_head",
    "peak_mb_one_pass": "peak_mb",
}
"""Metrics that are set against another metric of the parent, and which; all others are set against themselves."""


def measured(row: Row) -> str:
    """What a row measures: its benchmark and its metric in words."""
    return f"{benchmark(row.benchmark)}: {metric(row.metric)}"


def benchmark(name: str) -> str:
    """A benchmark in words, or its name where there are none."""
    return _plain(_BENCHMARKS, name)


def metric(name: str) -> str:
    """A metric in words, or its name where there are none: `top1`, `top1 fog`, `top1 group=NAME`, `top1@96`."""
    first, _, rest = name.partition(" ")
    plain, _, size = first.partition("@")
    said = _plain(_METRICS, plain.removesuffix(_ONE_PASS)) + (f" at {size} pixels" if size else "")
    said += ", in one pass of the trunk" if plain.endswith(_ONE_PASS) else ""
    detail = rest.removeprefix(GROUP) if rest.startswith(GROUP) else rest.replace("_", " ")
    return f"{said}, {detail}" if detail else said


def model(control: str | None) -> str:
    """Who was measured: the merged model, or a control in words."""
    if control is None:
        return "merged"
    share = interpolated(control)
    return _plain(_CONTROLS, control) if share is None else f"interpolated, {100 * share:g} %"


def interpolated(control: str | None) -> float | None:
    """The share of the naively distilled trunk in a control of the interpolation curve, 0 to 1; none for others."""
    if control is None or not control.startswith(CURVE):
        return None
    try:
        share = float(control.removeprefix(CURVE))
    except ValueError:
        return None
    return share if 0 <= share <= 1 else None


def of_recipe(control: str | None) -> bool:
    """Whether it is a control of the whole recipe (`vfmerge eval --controls`), not one of a benchmark's own."""
    return control in ("cascade", "naive", "pipeline", "probe") or interpolated(control) is not None


def percent(value: float) -> str:
    """A share, 1 being 100 %: one place after the point, none above ten thousand per cent."""
    return f"{100 * value:,.0f} %" if abs(value) >= 100 else f"{100 * value:.1f} %"


def interval(row: Row) -> str:
    """The 95 % interval of a retention, in per cent; empty where it is not known."""
    if row.ci_low is None or row.ci_high is None:
        return ""
    return f"{100 * row.ci_low:.1f} to {100 * row.ci_high:.1f}"


def begun(text: str) -> str:
    """The text with a capital letter first; the others as they are."""
    return text[:1].upper() + text[1:]


def kept(row: Row) -> str:
    """A retention with its interval, or that there is none."""
    if row.retention is None:
        return "not known"
    return f"{percent(row.retention)} ({near})" if (near := interval(row)) else percent(row.retention)


def times(ratio: float) -> str:
    """How many times, as `2.5` or `14`."""
    return f"{ratio:.1f}" if ratio < 10 else f"{ratio:,.0f}"


def listed(words: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _plain(words: dict[str, str], name: str) -> str:
    return words.get(name, name.replace("_", " "))
