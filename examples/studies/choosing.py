"""Does `kd.choose` choose well? Against training alone and fixed settings.

    python examples/studies/choosing.py  # all settings, 3 seeds
    python examples/studies/choosing.py --table  # the tables of what is there
    python examples/studies/choosing.py --quick  # small numbers

Settings are like those of `defaults.py`, which the rule of
`kd.recipes.settings` was read off, but none is among them, and images, weights
and teachers are others. In each, `kd.choose` has the labelled images and
nothing else: it holds out some of them by itself. What it chose is then trained
and judged on images that no network has seen, beside fixed settings.
"""

import collections
import pathlib
import sys

import numpy as np
from defaults import ALONE
from defaults import arguments
from defaults import points
from defaults import results_of
from defaults_experiment import Configuration
from defaults_experiment import Setting

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # _shared

from _shared import reporting

SETTINGS = [
    Setting("fashion", "small", 1000, 6000),
    Setting("fashion", "no batch norm", 4000, 6000),
    Setting("glyphs", "wide", 5000, 6000),
    Setting("fashion", "tiny", 4000, 6000),
    Setting("fashion", "small", 30_000, 6000),
    Setting("digits", "tiny", 700, 6000),
    Setting("fashion", "wide", 1000, 3000),
    Setting("fashion", "small", 1000, 6000, unlabelled=True),
    # Too short for a race: the rule decides.
    Setting("fashion", "small", 500, 3600),
    Setting("fashion", "wide", 1200, 3600),
    Setting("fashion", "tiny", 1500, 3600),
    Setting("glyphs", "wide", 1200, 3600),
    Setting("digits", "tiny", 400, 3600),
]
FIXED = {
    "T 1, 0.5": Configuration(1.0, 0.5),
    "T 4, 0.5": Configuration(4.0, 0.5),
    "T 4, 1": Configuration(4.0, 1.0),
    "T 4, 0.5, weak crops": Configuration(4.0, 0.5, "weak"),
}
UNLABELLED = {
    "T 1, 1": Configuration(1.0, 1.0),
    "T 4, 1": Configuration(4.0, 1.0),
}


def fixed_of(setting):
    return UNLABELLED if setting.unlabelled else FIXED


def table(results, settings):
    """Prints gains over training alone, in points, and what was chosen."""
    names = list(dict.fromkeys([*FIXED, *UNLABELLED]))
    lines, gains = [], collections.defaultdict(list)
    for setting in settings:
        alone = results.get(f"{setting.key}/{ALONE.key}")
        chosen = results.get(f"{setting.key}/chosen")
        if alone is None or chosen is None:
            continue
        gain = {
            name: 100 * np.subtract(results[key], alone)
            for name, configuration in fixed_of(setting).items()
            if (key := f"{setting.key}/{configuration.key}") in results
        }
        gain["chosen"] = 100 * np.subtract(chosen["accuracies"], alone)
        best = max(gain, key=lambda name: gain[name].mean())
        lines.append(
            {
                "setting": setting.key,
                "alone": points(alone),
                **{
                    name: f"{gain[name].mean():+.1f}" if name in gain else ""
                    for name in names
                },
                "chosen": points(gain["chosen"] / 100),
                "its names": ", ".join(chosen["names"]),
                "its time": f"{100 * chosen['share']:.0f} %",
            }
        )
        gains["chosen"].append(gain["chosen"].mean())
        gains["best in hindsight"].append(max(gain[best].mean(), 0.0))
        for name in FIXED:
            if name in gain:
                gains[name].append(gain[name].mean())
    print(reporting.table(lines))
    print()
    best = gains["best in hindsight"]
    rows = [
        {
            "": name,
            "settings": len(values),
            "mean gain": f"{np.mean(values):+.2f}",
            "worst": f"{min(values):+.2f}",
            "of the best": f"{100 * sum(values) / sum(best):.0f} %"
            if len(values) == len(best)
            else "",
        }
        for name, values in gains.items()
    ]
    print(reporting.table(rows))


def main():
    args = arguments(__doc__.splitlines()[0])
    settings = SETTINGS
    if args.quick:
        settings = [Setting("digits", "tiny", 200, 60)]
    tried = [
        (setting, key, configuration)
        for setting in settings
        for key, configuration in (
            (ALONE.key, ALONE),
            ("chosen", None),
            *((c.key, c) for c in fixed_of(setting).values()),
        )
    ]
    table(results_of(args, "choosing", 1, tried), settings)


if __name__ == "__main__":
    main()
