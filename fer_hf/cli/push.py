"""`fer-hf push`: a run's model, ONNX files and card on the Hub, in one commit."""

from typing import Annotated

import typer


def push(
    run: Annotated[str, typer.Argument(help="A run folder.")],
    repo_id: Annotated[str | None, typer.Option(help="someone/name. Default: the recipe's hub.repo_id.")] = None,
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the files and their sizes, send nothing.")] = False,
) -> None:
    """Publish a run on the Hub. Needs a token with write access: log in with `hf auth login`, or set HF_TOKEN.

    Example: [bold]fer-hf push runs/quickstart/20260131-175900 --repo-id someone/faces --dry-run[/bold]
    """
    from rich.table import Column, Table

    from fer_hf.console import output
    from fer_hf.workflows.push import push

    published = push(run, repo_id, private, dry_run)
    table = Table("file", Column("bytes", justify="right"))
    for file in published.files:
        table.add_row(file.path_in_repo, f"{file.bytes:,}")
    table.add_section()
    table.add_row(f"{len(published.files)} files", f"{sum(file.bytes for file in published.files):,}")
    output.print(table)
    url = published.url
    output.print(f"dry run, nothing was sent to {url}" if dry_run else f"published: {url}", soft_wrap=True)
