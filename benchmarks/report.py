"""Results as ratios: printed, as CSV, and as docs/benchmarks.md with its plot."""

from __future__ import annotations

import csv
import json
import statistics
from pathlib import Path
from typing import Any

from benchmarks.harness import ratios

PRECISIONS = ("float32", "int8")
OURS = {"float32": "nativebert", "int8": "nativebert int8"}
AGAIN = " again"

PAGE = """# How fast: BERT on a CPU

This page is written by `python -m benchmarks cpu --model all --docs` from the files in `benchmarks/results/`; under each model stands the
command that measured it. `make bench` measures on your machine (`MODEL=bert` or `all` for larger ones; the results go to `out/benchmarks/`).

- **Same work.** Every contender gets the same texts, the same threads and the same weights. Before anything is timed its results are compared with
  nativebert's: in fp32 full tensors may differ by 1e-4 at most, or the next best setting is taken, and at the end none.
- **Each at its best.** Batch size and variant (plain or fused graph, one or two streams) are found by a sweep for each workload. All get texts sorted by
  length, also where the library by itself does not sort. Tokenising counts in "text to vector", and all but sentence-transformers and
  fastembed, which bring their own, get the tokenizer in its fastest form.
- **Apart.** Each contender has a process of its own, in which its work is timed, while the others wait: in one process they would share an OpenMP
  and each other's settings.
- **Ratios.** The contenders take turns in random order. "Times as long" is the median over the rounds of a contender's time divided by
  nativebert's in the same round, with the range over the rounds: 1.50 means that nativebert is 1.5 times as fast. "again" is nativebert a second time: how
  far that is from 1 shows the noise.
- **Texts.** Made up of the model's own words, each as often as in English (Zipf's law), in the lengths of dictionary glosses. Rounds repeat them, so nativebert
  forgets before each what it remembers of words: it is timed as on texts that it has never seen.
- **Share of peak.** Operations on real tokens per second, as a share of what one large fp32 matrix product reaches in the same round: padding counts
  as nothing, and operations that a contender spares count as done. int8 is held against the fp32 peak too and can be above
  100%, and so can fp32 where products do with fewer multiplications ([decisions/0008](decisions/0008-paired-products.md)).
- **Padding.** Share of the cells of the batches that hold no token. CTranslate2 is given such batches and takes the padding out again before its
  matrix products.
- **Quality.** Cosine between the int8 vectors (or hidden states) and nativebert's in fp32, mean and least. With random weights it says that the work was
  done, and little about trained models.
- **Loading.** A fresh process, its files in the disk cache: seconds from a started interpreter to the first vector, without the import of torch where torch is
  used, and that import by itself. Memory is the peak of the whole process, libraries and mapped files included, after 64 short texts.
"""


def rows(result: dict[str, Any], workload: str) -> list[dict[str, Any]]:
    """One workload's figures, a row for each contender, the fastest of each precision first."""
    found = result["workloads"][workload]
    contenders, gflop, peak = found["contenders"], found["gflop"], found["peak_gflops"]
    seconds = {label: c["seconds"] for label, c in contenders.items()}
    rows = []
    for label, c in contenders.items():
        base = OURS[c["precision"]] if OURS[c["precision"]] in contenders else OURS["float32"]
        least, median, most = ratios({label: seconds[label], base: seconds[base]}, base)[label]
        took = statistics.median(c["seconds"])
        rows.append(
            {
                "workload": workload,
                "contender": label,
                "title": c["title"] + (AGAIN if label.endswith(AGAIN) else ""),
                "precision": c["precision"],
                "setting": c["setting"],
                "median_seconds": took,
                "tokens_per_second": found["tokens"] / took,
                "base": base,
                "times_min": least,
                "times_median": median,
                "times_max": most,
                "share_of_peak": statistics.median(gflop / s / p for s, p in zip(c["seconds"], peak, strict=True)),
                "padding": c["padding"],
                "difference": c["difference"],
                "cosine_mean": c["cosine_mean"],
                "cosine_min": c["cosine_min"],
            }
        )
    return sorted(rows, key=lambda row: (PRECISIONS.index(row["precision"]), row["times_median"]))


def best_peer(found: list[dict[str, Any]], precision: str) -> dict[str, Any] | None:
    """The row of the fastest contender that is not nativebert."""
    others = [row for row in found if row["precision"] == precision and not row["contender"].startswith("nativebert")]
    return min(others, key=lambda row: row["times_median"], default=None)


def show(result: dict[str, Any], workload: str) -> None:
    """Print a workload's figures."""
    found = rows(result, workload)
    peak = result["workloads"][workload]["peak_gflops"]
    print(f"   fp32 matrix peak {statistics.median(peak):.0f} GFLOP/s ({min(peak):.0f} to {max(peak):.0f})")
    for row in found:
        print(
            f"   {row['contender']:24} {row['median_seconds'] * 1e3:9.2f} ms  x{row['times_median']:.2f} of {row['base']} "
            f"({row['times_min']:.2f} to {row['times_max']:.2f})  {row['share_of_peak']:4.0%} of peak  "
            f"padding {row['padding']:3.0%}  {row['setting']}"
        )
    for precision in PRECISIONS:
        if best := best_peer(found, precision):
            print(
                f"   best {precision} peer: {best['contender']}, {best['times_median']:.2f} times as long as {best['base']}",
                flush=True,
            )


def table(result: dict[str, Any], path: Path) -> None:
    """Write all workloads of a model, and loading, as CSV."""
    with path.open("w", newline="") as file:
        writer: Any = None
        for workload in result["workloads"]:
            for row in rows(result, workload):
                row.update({key: f"{value:.5g}" for key, value in row.items() if isinstance(value, float)})
                load = result["loading"].get(row["contender"], {})
                row["load_seconds"], row["peak_megabytes"] = (
                    f"{load[k]:.4g}" if k in load else "" for k in ("seconds", "peak")
                )
                if writer is None:
                    writer = csv.DictWriter(file, [key for key in row if key != "title"], extrasaction="ignore")
                    writer.writeheader()
                writer.writerow(row)


# -- the page


def write(results: Path, page: Path) -> None:
    """Write the page and, beside it, its plot, from all results of a folder."""
    found = [
        json.loads((results / f"cpu-{name}.json").read_text()) for name in ORDER if (results / f"cpu-{name}.json").exists()
    ]
    if not found:
        raise SystemExit(f"no results in {results}: run python -m benchmarks cpu first")
    page.parent.mkdir(parents=True, exist_ok=True)
    picture = page.with_suffix(".png")
    drawn = plot(found, picture)
    lines = [PAGE, *summary(found)]
    if drawn:
        lines += [f"![Time of each contender as a multiple of nativebert's]({picture.name})", ""]
    for result in found:
        lines += section(result)
    page.write_text("\n".join(lines).rstrip() + "\n")
    print(f"written to {page}" + (f" and {picture}" if drawn else ""))


ORDER = ("minilm", "distilbert", "bert")


def summary(found: list[dict[str, Any]]) -> list[str]:
    """All models and workloads in one table: the best peer in each precision."""
    lines = ["## In short", "", "The best peer's time as a multiple of nativebert's, and which peer that is.", ""]
    lines += ["| model | workload | fp32 | int8 |", "|---|---|---|---|"]
    for result in found:
        for name, work in result["workloads"].items():
            cells = []
            for precision in PRECISIONS:
                best = best_peer(rows(result, name), precision)
                cells.append("" if best is None else f"**{best['times_median']:.2f}** {ranged(best)} {best['title']}{of(best)}")
            lines.append(f"| {result['model']} | {work['title']} | {' | '.join(cells)} |")
    return [*lines, ""]


def ranged(row: dict[str, Any]) -> str:
    return f"({row['times_min']:.2f} to {row['times_max']:.2f})"


def of(row: dict[str, Any]) -> str:
    """A remark where an int8 contender is held against fp32."""
    return ", against nativebert in fp32" if row["precision"] == "int8" and row["base"] == OURS["float32"] else ""


def section(result: dict[str, Any]) -> list[str]:
    """The tables of a model."""
    m = result["machine"]
    versions = ", ".join(f"{title} {v}" for title, v in result["versions"].items() if v)
    lines = [f"## {result['title']}", "", f"`{result['command']}`", ""]
    lines += [
        f"{result['when'][:10]}; {m.get('cpu') or m['system']}, {result['threads']} threads of {m['cores']} cores, Python {m['python']}, torch "
        f"{m.get('torch', '')}; {versions}. Medians of {counted(result['rounds'], 'round')}.",
        "",
    ]
    lines += [f"- {why}" for why in result["left_out"]] + ([""] if result["left_out"] else [])
    for name, work in result["workloads"].items():
        found = rows(result, name)
        peak = work["peak_gflops"]
        lines += [f"### {work['title'].capitalize()}", ""]
        lines += [
            f"{counted(work['texts'], 'text')}, {work['tokens']:,} tokens, {work['gflop']:,.1f} GFLOP; fp32 matrix peak {statistics.median(peak):.0f} GFLOP/s "
            f"({min(peak):.0f} to {max(peak):.0f}).",
            "",
        ]
        for precision in PRECISIONS:
            part = [row for row in found if row["precision"] == precision]
            if not part:
                continue
            quality = "cosine to fp32, mean / least" if precision == "int8" else "largest difference"
            against = part[0]["base"]
            lines += [
                f"| {precision} | milliseconds | times as long as {against} | share of peak | padding | {quality} | setting |"
            ]
            lines += ["|---|---|---|---|---|---|---|"]
            for row in part:
                same = (
                    f"{row['cosine_mean']:.4f} / {row['cosine_min']:.4f}" if precision == "int8" else f"{row['difference']:.0e}"
                )
                ratio = "1" if row["contender"] == against else f"{row['times_median']:.2f} {ranged(row)}"
                title = f"**{row['title']}**" if row["contender"] == against else row["title"]
                lines.append(
                    f"| {title} | {row['median_seconds'] * 1e3:,.4g} | {ratio} | {row['share_of_peak']:.0%} | {row['padding']:.0%} | {same} | {row['setting']} |"
                )
            lines.append("")
    if result["loading"]:
        lines += [
            "### Loading",
            "",
            "| | seconds to the first vector | import of torch | peak megabytes |",
            "|---|---|---|---|",
        ]
        for label, x in sorted(result["loading"].items(), key=lambda item: item[1]["seconds"]):
            torch = f"{x['torch']:.2f}" if x["torch"] > 0 else "not used"
            lines.append(f"| {label} | {x['seconds']:.2f} | {torch} | {x['peak']:.0f} |")
        lines.append("")
    return lines


def counted(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def plot(found: list[dict[str, Any]], path: Path) -> bool:
    """Bars of the ratios, a panel for each model and workload; False where matplotlib is not installed."""
    try:
        import matplotlib
    except ImportError:
        print("no plot: pip install matplotlib")
        return False
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.patches import Patch

    names = list(dict.fromkeys(name for result in found for name in result["workloads"]))
    figure, axes = plt.subplots(
        len(names), len(found), figsize=(1 + 6.5 * len(found), 0.6 + 3.2 * len(names)), squeeze=False, layout="constrained"
    )
    colours = {"float32": "#4878a8", "int8": "#d08a3e"}
    for column, result in enumerate(found):
        for line, name in enumerate(names):
            ax = axes[line][column]
            if name not in result["workloads"]:
                ax.set_axis_off()
                continue
            ours = result["workloads"][name]["contenders"][OURS["float32"]]["seconds"]
            bars = []
            for label, c in result["workloads"][name]["contenders"].items():
                least, median, most = ratios({label: c["seconds"], OURS["float32"]: ours}, OURS["float32"])[label]
                bars.append((median, least, most, label, c["precision"]))
            bars.sort()
            y = list(range(len(bars)))
            x = [b[0] for b in bars]
            ax.barh(y, x, color=[colours[b[4]] for b in bars], alpha=0.9)
            ax.errorbar(
                x, y, xerr=[[b[0] - b[1] for b in bars], [b[2] - b[0] for b in bars]], fmt="none", ecolor="#333333", lw=1
            )
            ax.axvline(1, color="#333333", lw=0.8, ls=":")
            ax.set_yticks(y, [b[3] for b in bars], fontsize=8)
            for tick, bar in zip(ax.get_yticklabels(), bars):
                tick.set_fontweight("bold" if bar[3] in OURS.values() else "normal")
            ax.invert_yaxis()
            ax.spines[["top", "right"]].set_visible(False)
            ax.set_title(f"{result['model']}: {result['workloads'][name]['title']}", fontsize=9, loc="left")
    handles = [Patch(color=colour) for colour in colours.values()]
    figure.legend(handles, list(colours), loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    figure.suptitle(
        "Time as a multiple of nativebert's in fp32\n(shorter is faster; lines: range over the rounds)", fontsize=10
    )
    figure.savefig(path, dpi=100)
    plt.close(figure)
    return True
