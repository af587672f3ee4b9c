"""`kindred ask`, `user show`, `user forget`: one user."""

from __future__ import annotations

from typing import Annotated

import typer

from ops.cli.options import DataDir, Json, Yes

UserId = Annotated[str, typer.Argument(help="The user_id, as in events.", metavar="ID")]


def register(app: typer.Typer) -> None:
    app.command()(ask)
    commands = typer.Typer(help="One user.", no_args_is_help=True)
    commands.command("show")(show)
    commands.command("forget")(forget)
    app.add_typer(commands, name="user")


def ask(
    text: Annotated[str, typer.Argument(help="What the newcomer writes.", metavar="TEXT")],
    data_dir: DataDir = None,
    item: Annotated[str | None, typer.Option(help="Id of the item that the text is about.", show_default=False)] = None,
    user: Annotated[
        str | None, typer.Option(help="Write as this user. Default: a new one.", show_default=False)
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for the answer.")] = 10.0,
    as_json: Json = False,
) -> None:
    """Be a newcomer: send one text, see the recommendations, the reasons and how long it took."""
    from ops.cli.ask import ask_and_show
    from ops.cli.target import find

    ask_and_show(find(data_dir), text, item_id=item, user_id=user, seconds=timeout, as_json=as_json)


def show(user_id: UserId, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Show what is known of a user."""
    import json

    from ops.cli.state import read_user
    from ops.cli.target import find, settings
    from worker.settings import WorkerSettings

    secret = settings(WorkerSettings).user_key_secret.get_secret_value().encode()
    found = read_user(find(data_dir), user_id, secret)
    if as_json:
        typer.echo(json.dumps(found.as_json(), ensure_ascii=False))
        return
    typer.echo(f"user      {found.user_id}")
    typer.echo(f"events    {found.events}")
    typer.echo(f"position  {', '.join(f'{p}: {offset}' for p, offset in found.position.items())}")
    typer.echo(f"labels    {', '.join(f'{label.label} {label.score:.2f}' for label in found.labels) or 'none'}")
    typer.echo(f"points    {', '.join(found.points) or 'none'}")
    typer.echo(f"space     {found.space}")


def forget(user_id: UserId, data_dir: DataDir = None, yes: Yes = False) -> None:
    """Erase a user everywhere: sends a tombstone, which the workers apply in turn."""
    from ops import broker
    from ops.cli.feed import Feed
    from ops.cli.lines import tombstone
    from ops.cli.target import find
    from schemas.topics import USER_TEXT

    target = find(data_dir)
    record = tombstone(user_id)
    if not yes:
        typer.confirm(f"Erase all that is known of {user_id}? This cannot be undone.", abort=True)
    with broker.producer(target.kafka) as producer:
        feed = Feed(producer, target.topic(USER_TEXT))
        feed.send(record.key, record.value)
        feed.finish()
    typer.echo(f"Asked the workers to forget {user_id}. `kindred user show` tells when it is done.")
