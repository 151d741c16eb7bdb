"""The command line: spinet predict, view, synthesize, info. One file for each."""

import argparse

from spinet_tf._version import __version__
from spinet_tf.cli import info, predict, synthesize, view
from spinet_tf.errors import reports_errors

# Commands import what they need when they run: `spinet --help` works without the packages that read scenes.


@reports_errors
def main(argv: list[str] | None = None) -> None:
    """Run the command line with `argv`, by default the program's own arguments."""
    args = _parser().parse_args(argv)
    args.run(args)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="spinet",
        description="Maps of cultivated land, four times finer than the Sentinel-2 time series they are made from.",
        epilog="examples:\n"
        "  spinet synthesize scenes --count 4\n"
        "  spinet info scenes/eopatch-001\n"
        "  spinet predict scenes/eopatch-001 --model tiny-simulated -o map.tif\n"
        "  spinet view map.tif scenes/eopatch-001",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"spinet {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (predict, view, synthesize, info):
        name = command.__name__.rpartition(".")[2]
        add = commands.add_parser(
            name,
            help=command.SUMMARY,
            description=command.run.__doc__,
            epilog=command.EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(add)
        add.set_defaults(run=command.run)
    return parser
