"""`fer-hf quickstart`: the whole path on procedural faces."""

from fer_hf.cli.train import Output, Overrides, run_recipe


def quickstart(overrides: Overrides = None, output: Output = None) -> None:
    """Train, evaluate, export and report on faces drawn on the spot: no download, no account, a few minutes.

    Example: [bold]fer-hf quickstart[/bold]
    """
    run_recipe("quickstart", overrides, output)
